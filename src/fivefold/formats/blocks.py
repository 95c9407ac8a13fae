"""Blocks of 32 evenly spaced codes: around zero with a scale, or above a minimum with a scale and that.

Codes have four bits (16 bytes: code j in the low, code j + 16 in the high nibble) or five (4 bytes of high
bits before them). What comes before the codes is f16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fivefold.formats.format import (
    Bytes,
    Float32,
    Format,
    five_bits,
    half_bytes,
    half_values,
    inverse_scale,
    nibbles,
    pack_five_bits,
    pack_nibbles,
    stored_blocks,
    value_blocks,
)

BLOCK = 32


@dataclass(frozen=True, slots=True)
class _Codes:
    """Codes of one width: bytes a block, and how they become bytes (blocks, size) and back."""

    size: int
    unpack: Callable[[Bytes], Bytes]
    pack: Callable[[Bytes], Bytes]


_CODES: Mapping[int, _Codes] = {
    4: _Codes(16, nibbles, pack_nibbles),
    5: _Codes(20, five_bits, pack_five_bits),
}


def around_zero(name: str, bits: int) -> Format:
    """f16 d, then codes: a number is d * (q - half), half being 2^(bits - 1)."""
    stored, half, last = _CODES[bits], np.float32(2 ** (bits - 1)), np.uint8(2**bits - 1)
    size = 2 + stored.size

    def unpack(data: Bytes, count: int) -> Float32:
        """Stored blocks -> float32 (count,); the product is exact in float32."""
        blocks = stored_blocks(name, data, count, BLOCK, size)
        codes = stored.unpack(blocks[:, 2:]).astype(np.float32) - half
        return (half_values(blocks[:, :2]) * codes).reshape(-1)

    def pack(values: Float32) -> Bytes:
        """Float32 (count,) -> stored blocks.

        The number of largest magnitude (the first, on ties) is given the code 0, that is -half, so d has
        the opposite sign of it; numbers near +half are held at the last code.
        """
        blocks = value_blocks(name, values, BLOCK)
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
        scale = largest / -half
        shifted = blocks * inverse_scale(scale) + (half + np.float32(0.5))
        codes = np.minimum(shifted.astype(np.uint8), last)
        return np.concatenate([half_bytes(name, scale), stored.pack(codes)], axis=1).reshape(-1)

    return Format(name, BLOCK, size, quantized=True, unpack=unpack, pack=pack)


def above_minimum(name: str, bits: int) -> Format:
    """f16 d, f16 m, then codes: a number is d * q + m."""
    stored, last = _CODES[bits], np.uint8(2**bits - 1)
    size = 4 + stored.size

    def unpack(data: Bytes, count: int) -> Float32:
        """Stored blocks -> float32 (count,).

        The product is exact in float32, so the sum is rounded once, fused or not.
        """
        blocks = stored_blocks(name, data, count, BLOCK, size)
        codes = stored.unpack(blocks[:, 4:]).astype(np.float32)
        return (half_values(blocks[:, :2]) * codes + half_values(blocks[:, 2:4])).reshape(-1)

    def pack(values: Float32) -> Bytes:
        """Float32 (count,) -> stored blocks: m = minimum, d = (maximum - minimum) / last, halves rounded up.

        The codes are chosen with d and m before they are rounded to f16, as GGUF's writers do.
        """
        blocks = value_blocks(name, values, BLOCK)
        minimum = blocks.min(axis=1, keepdims=True)
        with np.errstate(over="ignore"):
            scale = (blocks.max(axis=1, keepdims=True) - minimum) / np.float32(last)
        header = [half_bytes(name, scale), half_bytes(name, minimum)]
        shifted = (blocks - minimum) * inverse_scale(scale) + np.float32(0.5)
        codes = np.minimum(shifted.astype(np.uint8), last)
        return np.concatenate([*header, stored.pack(codes)], axis=1).reshape(-1)

    return Format(name, BLOCK, size, quantized=True, unpack=unpack, pack=pack)
