"""How a cache stores the numbers of keys and values: one row for each format, with its reference rounding.

int8 and fp8 (E4M3) codes share one float32 scale for each entry and KV head, of the key and of the value
apart; where a value lies in its key, its numbers share one, and those behind it another. The largest
magnitude gets the largest code. There is no scale for a page: what is stored of a row would then depend on
its neighbours. The native kernels (`native/kernels/entries.inc.h`) give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fivefold.core.errors import InputError
from fivefold.formats import bf16
from fivefold.formats.format import Float32

_E4M3_UNIT = np.float32(256)
"""E4M3 numbers are kept over 256: then their bits are those of a float16, and their scale is 256 times as
large. Nothing else rounds differently, but scales that are subnormal."""


@dataclass(frozen=True, slots=True)
class EntryFormat:
    """One format of cache entries.

    number_bytes  bytes of a stored number.
    scale_bytes   bytes of the scale that a key and a value of one KV head have each; 0: they have none.
    read_back     (..., width) float32 keys or values of one head each -> the same, stored and read again.
    weights       softmax weights (slots,) over values (slots, width) as read, at those slots -> the weights
                  as the kernels multiply them; None: as they are.
    """

    name: str
    number_bytes: int
    scale_bytes: int
    read_back: Callable[[Float32], Float32]
    weights: Callable[[Float32, Float32, NDArray[np.integer]], Float32] | None = None


def _half(x: Float32) -> Float32:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


def _brain(x: Float32) -> Float32:
    return bf16.unpack(bf16.pack(x), x.size).reshape(x.shape)


def _whole(x: Float32) -> Float32:
    """The nearest whole number, and no negative zero."""
    return np.rint(x) + np.float32(0)


def _e4m3(x: Float32) -> Float32:
    """The nearest E4M3 number over 256: three bits after the first, which is 2^-14 or more, or multiples of
    2^-17 below."""
    _, exponent = np.frexp(x)
    step = np.ldexp(np.float32(1), np.maximum(exponent - 1, -14) - 3)
    found: Float32 = np.rint(x / step) * step
    return found


def _scaled(largest: float, rounded: Callable[[Float32], Float32]) -> Callable[[Float32], Float32]:
    """Codes up to `largest` times a scale. An entry with a number that is not finite reads as NaN."""

    def read_back(x: Float32) -> Float32:
        finite = np.isfinite(x).all(axis=-1, keepdims=True)
        known = np.where(finite, x, np.float32(0))
        scale = np.abs(known).max(axis=-1, keepdims=True) / np.float32(largest)
        with np.errstate(divide="ignore", over="ignore"):
            inverse = np.float32(1) / scale
        usable = np.isfinite(inverse)  # else all is zero, or too small for its scale to have an inverse
        nothing = np.float32(0)
        codes = rounded(np.where(usable, known, nothing) * np.where(usable, inverse, nothing))
        scale = np.where(finite, np.where(usable, scale, nothing), np.float32(np.nan))
        with np.errstate(over="ignore"):
            found: Float32 = codes * scale
        return found

    return read_back


_TILE = 128
"""Slots whose weights have one scale."""


def _weights_255(weights: Float32, values: Float32, slots: NDArray[np.integer]) -> Float32:
    """Weights that, times the scales of their values, are whole steps: 255 to the largest in a tile."""
    scales = np.abs(values).max(axis=1).astype(np.float64) / 127
    products = weights * scales
    rounded = np.zeros_like(products)
    for tile in np.unique(slots // _TILE):
        inside = slots // _TILE == tile
        step = products[inside].max() / 255
        if step > 0:
            rounded[inside] = np.rint(products[inside] / step) * step
    found: Float32 = np.divide(rounded, scales, out=np.zeros_like(scales), where=scales > 0).astype(
        np.float32
    )
    return found


_ROWS = (
    EntryFormat("f16", 2, 0, _half),
    EntryFormat("bf16", 2, 0, _brain),
    EntryFormat("int8", 1, 4, _scaled(127, _whole), _weights_255),
    EntryFormat("fp8", 1, 4, _scaled(448 / float(_E4M3_UNIT), _e4m3)),
)

ENTRY_FORMATS: Mapping[str, EntryFormat] = MappingProxyType({row.name: row for row in _ROWS})
"""All formats of cache entries by name."""

UNROUNDED = EntryFormat("f32", 4, 0, lambda x: x)
"""What the reference executor stores when nothing else is asked for; there is no kernel for it."""


def entry_format(name: str, where: str) -> EntryFormat:
    """The format of that name; InputError says which there are."""
    row = ENTRY_FORMATS.get(name)
    if row is None:
        raise InputError(
            f"cache format {name!r:.50} is not known", where=where,
            remedy=f"choose {', '.join(ENTRY_FORMATS)}",
        )  # fmt: skip
    return row
