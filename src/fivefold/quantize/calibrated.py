"""The seam to whatever a calibration finds out: what `run` asks for each tensor.

A run without calibration passes None in its place; `calibrated_model` has one by a text. Whatever stands here
must give the same answers for the same source, recipe and text, or a resumed run would mix two. What it
encodes itself keeps to the choice's `factor` and `largest`, for which the output has its reasons.
"""

from __future__ import annotations

from typing import Protocol

from fivefold.core.checkpoint import Float32, Tensor
from fivefold.quantize.choice import Choice


class Calibrated(Protocol):
    """What is known of a model after text was run through it."""

    def mark(self) -> str:
        """What tells it from another calibration: a resumed run must find the same."""

    def values(self, name: str, values: Float32) -> Float32:
        """What to store in place of a tensor's numbers, of their shape: scaled, corrected, or themselves.

        Asked for every float32 tensor of the plan, for those that are kept too.
        """

    def changes(self, name: str) -> bool:
        """Whether `values` would give other numbers; if not, a tensor that is kept is copied byte by byte."""

    def importance(self, name: str) -> Float32 | None:
        """How much errors of each column of a matrix count, (K,) of at least 0; None is evenly."""

    def encode(self, name: str, values: Float32, choice: Choice) -> Tensor | None:
        """A matrix encoded by a method that needs more than the matrix; None leaves it to `encode.encode`."""
