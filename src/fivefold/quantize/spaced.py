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
from fivefold.formats.format import inverse_scale, pack_five_bits, pack_nibbles
from fivefold.quantize.pieces import PIECE, packed
from fivefold.quantize.weights import block_weights, for_rows

BLOCK = 32


@dataclass(frozen=True, slots=True)
class Levels:
    """Whole numbers from `first` to `last`, and how those of blocks (n, 32), as float32, become bytes."""

    first: int
    last: int
    pack: Callable[[Float32], Bytes]

    def nearest(self, scaled: Float32) -> Float32:
        """The nearest level to each number over its scale, the even one on ties."""
        found: Float32 = np.clip(np.rint(scaled), self.first, self.last)
        return found


def _from_zero(first: int, pack: Callable[[Bytes], Bytes]) -> Callable[[Float32], Bytes]:
    return lambda codes: pack((codes - np.float32(first)).astype(np.uint8))


LEVELS: Mapping[str, Levels] = MappingProxyType(
    {
        "q4_0": Levels(-8, 7, _from_zero(-8, pack_nibbles)),
        "q5_0": Levels(-16, 15, _from_zero(-16, pack_five_bits)),
        "q8_0": Levels(-127, 127, lambda codes: codes.astype(np.int8).view(np.uint8)),
    }
)
"""By format."""


def _steps(start: float, stop: float, step: float) -> tuple[float, ...]:
    return tuple(float(place) for place in np.arange(start, stop + step / 2, step))


PLACES: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "q4_0": (*_steps(-9.0, -5.0, 0.125), *_steps(5.0, 9.0, 0.125)),
        "q8_0": _steps(120.0, 128.0, 0.25),
    }
)
"""Where a sweep tries the largest magnitude of a block; a negative one turns the scale's sign."""


def swept(form: str, values: Float32, importance: Float32 | None) -> Bytes:
    """A matrix (M, K) as stored blocks of q4_0 or q8_0."""
    row = format_of(form)
    weights = block_weights(importance, BLOCK)
    return packed(
        values, row, PIECE, lambda rows: _best(form, rows, row.pack(rows), for_rows(weights, len(rows)))
    )


def _best(form: str, values: Float32, plain: Bytes, weights: Float32 | None) -> Bytes:
    """The blocks of some rows, given those of the format's rounding; weights (32, n)."""
    levels, row = LEVELS[form], format_of(form)
    numbers = np.ascontiguousarray(values.reshape(-1, BLOCK).T)
    rounding = row.unpack(plain, values.size).reshape(-1, BLOCK).T
    # In units of the block's largest magnitude, so that squares neither vanish nor overflow.
    largest = np.abs(numbers).max(axis=0)
    unit = inverse_scale(largest)
    signed = np.take_along_axis(numbers, np.abs(numbers).argmax(axis=0)[None], axis=0)[0]
    least = _error((rounding - numbers) * unit, weights)
    best = np.zeros(largest.size, np.float32)
    for place in PLACES[form]:
        scale = _halves(signed / np.float32(place))
        found = _error((levels.nearest(numbers * inverse_scale(scale)) * scale - numbers) * unit, weights)
        better = found < least
        best[better], least[better] = scale[better], found[better]
    codes = np.ascontiguousarray(levels.nearest(numbers * inverse_scale(best)).T)
    made = np.concatenate([best.astype("<f2").view(np.uint8).reshape(-1, 2), levels.pack(codes)], axis=1)
    return np.where(best[:, None] != 0, made, plain.reshape(made.shape))


def _halves(scale: Float32) -> Float32:
    """The scales as f16 stores them; 0 where it cannot."""
    with np.errstate(over="ignore"):
        stored = scale.astype(np.float16).astype(np.float32)
    return np.where(np.isfinite(stored), stored, np.float32(0)).astype(np.float32)


def _error(off: Float32, weights: Float32 | None) -> Float32:
    off = off * off
    total: Float32 = np.add.reduce(off if weights is None else off * weights, axis=0)
    return total
