"""What numbers a part of a matrix's row can take, for each format that shares a scale among few numbers.

A grid offers scales for parts, rounds numbers over a scale to its levels, and puts the chosen ones together
as a stored tensor. Arrays here are transposed, (K, M): what is done column by column lies together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fivefold.core.checkpoint import Scales, Tensor
from fivefold.core.errors import UnsupportedError
from fivefold.formats import e2m1, e4m3, mxfp4, nvfp4
from fivefold.formats.format import half_bytes, half_values, pack_nibbles

from .choice import Choice
from .e2m1_error import round_magnitudes
from .nvfp4 import tensor_factor
from .spaced import BLOCK, LEVELS

Float32 = npt.NDArray[np.float32]

SHRINK, GROW = 3, 6
"""Codes of E4M3 below and above the plain scale that are tried: from 0.7 to 1.7 times it, so that a part's
largest number may also lie on 4 instead of 6."""

PLACES = np.array([-1.0, -0.875, -0.9375, -1.0625, -1.125, -1.1875, 0.8125, 0.875, 0.9375, 1.0], np.float32)
"""Where the largest number of a part is tried, over half of the levels; the first is the plain one."""


class Grid(Protocol):
    """One format."""

    @property
    def part(self) -> int:
        """The number of columns that share a scale."""
        ...

    def factor(self, values: Float32) -> np.float32:
        """What a matrix is divided by before all else."""
        ...

    def candidates(self, part: Float32) -> Float32:
        """Scales to try for numbers (part, M): (C, M), the plain one among them, none of them zero."""
        ...

    def round(self, scaled: Float32) -> Float32:
        """The nearest levels."""
        ...

    def tensor(self, name: str, levels: Float32, scales: Float32, factor: np.float32) -> Tensor:
        """Levels (K, M) and scales (K / part, M) as a stored matrix (M, K)."""
        ...


@dataclass(frozen=True, slots=True)
class Nvfp4Grid:
    """NVFP4: scales are numbers of E4M3. `choice` says what the tensor's factor is like."""

    choice: Choice
    part: int = nvfp4.PART

    def factor(self, values: Float32) -> np.float32:
        """That of a sweep, which leaves room for scales that grow."""
        return np.float32(tensor_factor(values, self.choice))

    def candidates(self, part: Float32) -> Float32:
        """The plain scale and its neighbours."""
        plain = e4m3.nearest(np.abs(part).max(axis=0) / e2m1.LARGEST).astype(np.int32)
        steps = np.arange(-SHRINK, GROW + 1)
        tried: Float32 = e4m3.VALUES[np.clip(plain + steps[:, None], 1, 0x7E)]
        return tried

    def round(self, scaled: Float32) -> Float32:
        """Levels of E2M1."""
        return round_e2m1(scaled)

    def tensor(self, name: str, levels: Float32, scales: Float32, factor: np.float32) -> Tensor:
        """In GGUF's blocks."""
        columns, rows = levels.shape
        codes = e2m1.nearest(levels.T.reshape(-1, self.part))
        stored = nvfp4.join(e4m3.nearest(scales.T.reshape(-1)), codes)
        beside = None if self.choice.factor == "one" else Scales.whole(float(factor), (rows, columns))
        return Tensor(name, "nvfp4", (rows, columns), stored, beside)


@dataclass(frozen=True, slots=True)
class Mxfp4Grid:
    """MXFP4: scales are powers of two."""

    part: int = mxfp4.BLOCK

    def factor(self, values: Float32) -> np.float32:
        """None: the format has no room for one."""
        return np.float32(1.0)

    def candidates(self, part: Float32) -> Float32:
        """The plain power of two and its neighbours."""
        _, exponent = np.frexp(np.abs(part).max(axis=0))
        powers = np.clip(exponent - 3 + np.arange(-1, 2)[:, None], -126, 127)
        tried: Float32 = np.ldexp(np.float32(1.0), powers.astype(np.int32))
        return tried

    def round(self, scaled: Float32) -> Float32:
        """Levels of E2M1."""
        return round_e2m1(scaled)

    def tensor(self, name: str, levels: Float32, scales: Float32, factor: np.float32) -> Tensor:
        """In GGUF's blocks."""
        columns, rows = levels.shape
        _, exponent = np.frexp(scales.T.reshape(-1, 1))
        stored = (exponent - 1 + mxfp4.BIAS).astype(np.uint8)
        codes = pack_nibbles(e2m1.nearest(levels.T.reshape(-1, self.part)))
        return Tensor(name, "mxfp4", (rows, columns), np.concatenate([stored, codes], axis=1).reshape(-1))


@dataclass(frozen=True, slots=True)
class SpacedGrid:
    """q4_0 and q5_0: scales are f16 of either sign, levels -half to half - 1."""

    form: str
    part: int = BLOCK

    def factor(self, values: Float32) -> np.float32:
        """None: the format has no room for one."""
        return np.float32(1.0)

    def candidates(self, part: Float32) -> Float32:
        """Those that put the largest number on -half and around it, or near half - 1 on the other side."""
        at = np.abs(part).argmax(axis=0)
        largest = np.take_along_axis(part, at[None], axis=0)[0]
        scales = largest[None] / (PLACES * np.float32(-LEVELS[self.form].first))[:, None]
        halves = half_values(half_bytes(self.form, scales.reshape(-1, 1))).reshape(scales.shape)
        return np.where(halves == 0, np.float32(2.0**-24), halves)

    def round(self, scaled: Float32) -> Float32:
        """Whole numbers."""
        return LEVELS[self.form].nearest(scaled)

    def tensor(self, name: str, levels: Float32, scales: Float32, factor: np.float32) -> Tensor:
        """In GGUF's blocks."""
        columns, rows = levels.shape
        codes = LEVELS[self.form].pack(levels.T.reshape(-1, self.part))
        halves = half_bytes(self.form, scales.T.reshape(-1, 1))
        return Tensor(name, self.form, (rows, columns), np.concatenate([halves, codes], axis=1).reshape(-1))


GRIDS: dict[str, Callable[[Choice], Grid]] = {
    "nvfp4": Nvfp4Grid,
    "mxfp4": lambda choice: Mxfp4Grid(),
    "q4_0": lambda choice: SpacedGrid("q4_0"),
    "q5_0": lambda choice: SpacedGrid("q5_0"),
}
"""By format."""


def grid_of(choice: Choice, where: str) -> Grid:
    """The grid for a choice; UnsupportedError for a format that has none."""
    found = GRIDS.get(choice.format)
    if found is None:
        raise UnsupportedError(
            f"gptq has no scales for {choice.format}", where=where,
            remedy=f"choose {', '.join(GRIDS)}, or method sweep",
        )  # fmt: skip
    return found(choice)


def round_e2m1(scaled: Float32) -> Float32:
    """The nearest level of E2M1, the even code on ties."""
    magnitude = np.abs(scaled)
    round_magnitudes(magnitude, np.empty_like(magnitude))
    found: Float32 = np.copysign(magnitude, scaled)
    return found
