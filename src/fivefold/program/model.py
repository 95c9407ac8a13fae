"""A model as the engine takes it from a family: its sizes, its Programs, and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fivefold.core.layout import CacheLayout, ModelShape

from .program import Program


@dataclass(frozen=True, slots=True)
class Model:
    """Programs by name ("main" is the forward pass); they share one cache layout.

    `passed_over` are beginnings of the names of tensors that no Program reads, and that the family knows:
    parts of a file that the forward pass does without.
    """

    shape: ModelShape
    layout: CacheLayout
    programs: Mapping[str, Program]
    passed_over: tuple[str, ...] = ()

    @property
    def main(self) -> Program:
        """The forward pass."""
        return self.programs["main"]
