"""Eviction policies: one file for each way to say which entries of a prompt the answer will need.

A file that has a `POLICY` is in the table; nothing else is to be done. How entries that stay are moved is
not here but in `compaction` beside this folder, and who runs the rows that observe is for the engine.
"""

from .budget import Budget
from .policy import (
    Draft,
    Evidence,
    LearnedRows,
    Observation,
    Policy,
    QueryStatistics,
    Repetition,
    Selection,
    TrueAnswer,
)
from .scored import Scored
from .table import POLICIES, policy_named

__all__ = [
    "POLICIES",
    "Budget",
    "Draft",
    "Evidence",
    "LearnedRows",
    "Observation",
    "Policy",
    "QueryStatistics",
    "Repetition",
    "Scored",
    "Selection",
    "TrueAnswer",
    "policy_named",
]
