"""GPTQ with the format's own scales in its inner loop.

Frantar et al., arXiv 2210.17323: columns are rounded one after the other, and what a column loses is made up
for by those after it, as the inputs' second moments say. Here a part of columns that share a scale is one
step: for each row several scales are tried, each with the rounding and the making up inside the part that it
would really get, and the one that loses least is taken. So a scale is chosen by what it costs, not by the
largest number.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import InputError

from .grids import Grid
from .moments import Float32, Moments

PIECE = 1 << 11
"""Rows that are searched at once: memory stays small beside the matrix."""


def gptq(name: str, values: Float32, moments: Moments, grid: Grid, damping: float = 0.01) -> Tensor:
    """A matrix (M, K) quantized so that its outputs on inputs with these moments change little.

    InputError unless K fills whole parts.
    """
    if values.shape[1] % grid.part:
        raise InputError(
            f"{values.shape[1]} columns do not fill whole parts of {grid.part}", where=name,
            remedy="choose another format for it",
        )  # fmt: skip
    wanted = moments.target(values, damping)
    factor = grid.factor(wanted)
    upper = _inverse_factor(moments, damping)
    pieces = [
        _solve(np.ascontiguousarray((wanted[first : first + PIECE] / factor).T), upper, grid)
        for first in range(0, len(wanted), PIECE)
    ]
    levels, scales = (np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True))
    return grid.tensor(name, levels, scales, factor)


def _inverse_factor(moments: Moments, damping: float) -> Float32:
    """U, upper triangular, with U^T U the inverse of the damped moments."""
    inverse = np.linalg.inv(moments.own + moments.ridge(damping))
    upper: Float32 = np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)
    return upper


def _solve(left: Float32, upper: Float32, grid: Grid) -> tuple[Float32, Float32]:
    """Levels (K, M) and scales (K / part, M) of numbers (K, M), which are used up."""
    columns, rows = left.shape
    levels = np.empty_like(left)
    scales = np.empty((columns // grid.part, rows), np.float32)
    for number, begin in enumerate(range(0, columns, grid.part)):
        part = slice(begin, begin + grid.part)
        inside = upper[part, part]
        scales[number], levels[part], errors = _search(left[part], inside, grid)
        rest = slice(part.stop, columns)
        if rest.start < columns:
            left[rest] -= upper[part, rest].T @ errors
    return levels, scales


def _search(part: Float32, inside: Float32, grid: Grid) -> tuple[Float32, Float32, Float32]:
    """For each row the best scale (M,) of a part (P, M), its levels (P, M) and errors over U's diagonal."""
    tried = grid.candidates(part)
    inverse = np.float32(1.0) / tried
    size, rows = part.shape
    left = np.repeat(part[:, None], len(tried), axis=1)  # (P, C, M)
    levels, errors = np.empty_like(left), np.empty_like(left)
    loss = np.zeros(tried.shape, np.float32)
    for j in range(size):
        levels[j] = grid.round(left[j] * inverse)
        errors[j] = (left[j] - levels[j] * tried) / inside[j, j]
        loss += errors[j] * errors[j]
        if j + 1 < size:
            left[j + 1 :] -= inside[j, j + 1 :, None, None] * errors[j]
    best = loss.argmin(axis=0)
    every = np.arange(rows)
    return tried[best, every], levels[:, best, every], errors[:, best, every]
