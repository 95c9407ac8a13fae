"""A model as the engine takes it from a family: its sizes, its Programs, and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fivefold.core.diffusion import DiffusionRules
from fivefold.core.errors import UnsupportedError
from fivefold.core.layout import CacheLayout, ModelShape

from .program import Program


@dataclass(frozen=True, slots=True)
class Model:
    """Programs by name ("main" is the forward pass); they share one cache layout. A model that another
    backend runs with code of its own has none.

    `left` are tensors of the file that belong to parts which no Program has, and are left knowingly.
    `diffusion` says how a diffusion model is decoded; None: token by token.
    """

    shape: ModelShape
    layout: CacheLayout
    programs: Mapping[str, Program]
    left: tuple[str, ...] = ()
    diffusion: DiffusionRules | None = None

    @property
    def main(self) -> Program:
        """The forward pass; UnsupportedError where another backend's code is it."""
        if "main" not in self.programs:
            raise UnsupportedError(
                "this model runs on another backend and has no Program", where=self.shape.family,
                remedy="choose a model of a family that is known here",
            )  # fmt: skip
        return self.programs["main"]
