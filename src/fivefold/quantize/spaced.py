"""Quantizing to q4_0 and q8_0: evenly spaced codes, whose scale is searched on a grid.

The format's rounding puts a block's largest magnitude on the last code. The grid has scales that put it on
other places around that, of both signs where the codes are not even (q4_0 goes from -8 to 7). Errors are
those of the scale as it is stored, in f16. A block keeps the format's rounding unless a scale of the grid has
less weighted squared error, so `sweep` is never worse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from fivefold.core.checkpoint import Bytes, Float32
from fivefold.formats import format_of
from fivefold.formats.format import inverse_scale, pack_nibbles
from fivefold.quantize.pieces import PIECE, row_pieces
from fivefold.quantize.weights import block_weights, for_rows

BLOCK = 32


def _nibbles(codes: Float32) -> Bytes:
    return pack_nibbles((codes + np.float32(8)).astype(np.uint8))


def _bytes(codes: Float32) -> Bytes:
    return codes.astype(np.int8).view(np.uint8)


@dataclass(frozen=True, slots=True)
class Grid:
    """Codes from `first` to `last`, and how they become bytes from (n, 32).

    `places` are those on which the largest magnitude is tried; a negative one turns the scale's sign.
    """

    first: int
    last: int
    places: tuple[float, ...]
    pack: Callable[[Float32], Bytes]


def _steps(start: float, stop: float, step: float) -> tuple[float, ...]:
    return tuple(float(place) for place in np.arange(start, stop + step / 2, step))


GRIDS: Mapping[str, Grid] = MappingProxyType(
    {
        "q4_0": Grid(-8, 7, (*_steps(-9.0, -5.0, 0.125), *_steps(5.0, 9.0, 0.125)), _nibbles),
        "q8_0": Grid(-127, 127, _steps(120.0, 128.0, 0.25), _bytes),
    }
)
"""By format."""


def swept(form: str, values: Float32, importance: Float32 | None) -> Bytes:
    """A matrix (M, K) as stored blocks of q4_0 or q8_0."""
    rows, columns = values.shape
    row = format_of(form)
    data = np.empty((rows, row.bytes_for(columns)), np.uint8)
    weights = block_weights(importance, BLOCK)
    for piece in row_pieces(rows, columns, PIECE):
        plain = row.pack(values[piece])
        found = _best(form, values[piece], plain, for_rows(weights, piece.stop - piece.start))
        data[piece] = found.reshape(data[piece].shape)
    return data.reshape(-1)


def _best(form: str, values: Float32, plain: Bytes, weights: Float32 | None) -> Bytes:
    """The blocks of some rows, given those of the format's rounding; weights (32, n)."""
    grid, row = GRIDS[form], format_of(form)
    numbers = np.ascontiguousarray(values.reshape(-1, BLOCK).T)
    rounding = row.unpack(plain, values.size).reshape(-1, BLOCK).T
    # In units of the block's largest magnitude, so that squares neither vanish nor overflow.
    largest = np.abs(numbers).max(axis=0)
    unit = inverse_scale(largest)
    signed = np.take_along_axis(numbers, np.abs(numbers).argmax(axis=0)[None], axis=0)[0]
    least = _error((rounding - numbers) * unit, weights)
    best = np.zeros(largest.size, np.float32)
    for place in grid.places:
        scale = _halves(signed / np.float32(place))
        found = _error((_codes(numbers, scale, grid) * scale - numbers) * unit, weights)
        better = found < least
        best[better], least[better] = scale[better], found[better]
    codes = np.ascontiguousarray(_codes(numbers, best, grid).T)
    made = np.concatenate([best.astype("<f2").view(np.uint8).reshape(-1, 2), grid.pack(codes)], axis=1)
    return np.where(best[:, None] != 0, made, plain.reshape(made.shape))


def _halves(scale: Float32) -> Float32:
    """The scales as f16 stores them; 0 where it cannot."""
    with np.errstate(over="ignore"):
        stored = scale.astype(np.float16).astype(np.float32)
    return np.where(np.isfinite(stored), stored, np.float32(0)).astype(np.float32)


def _codes(numbers: Float32, scale: Float32, grid: Grid) -> Float32:
    """The nearest codes (32, n), as float32."""
    codes: Float32 = np.clip(np.rint(numbers * inverse_scale(scale)), grid.first, grid.last)
    return codes


def _error(off: Float32, weights: Float32 | None) -> Float32:
    off = off * off
    total: Float32 = np.add.reduce(off if weights is None else off * weights, axis=0)
    return total
