"""Learned rows observe: LookaheadKV (Samsung, arXiv 2603.10899).

Rows that were trained for this model stand after the prompt and look where its answer will look. They cost
one small step and leave nothing in the cache. The 32 last entries are kept; the rows see them anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

from .policy import LearnedRows, Observation
from .scored import Scored


@dataclass(frozen=True, slots=True)
class Lookahead(Scored):
    """The rows of the model's lookahead module observe, and nothing else."""

    name: str = "lookahead"

    def observation(self, length: int) -> Observation:
        """Learned rows."""
        return Observation(probe=LearnedRows())


POLICY = Lookahead()
