"""A model as the engine takes it from a family: its sizes, its Programs, and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fivefold.core.layout import CacheLayout, ModelShape

from .program import Program


@dataclass(frozen=True, slots=True)
class Model:
    """Programs by name ("main" is the forward pass); they share one cache layout.

    `left_out` names parts of the files that are no part of the Programs and are known not to change what
    they compute (a vision model beside that of text), by the beginnings of their tensors' names.
    """

    shape: ModelShape
    layout: CacheLayout
    programs: Mapping[str, Program]
    left_out: tuple[str, ...] = ()

    @property
    def main(self) -> Program:
        """The forward pass."""
        return self.programs["main"]
