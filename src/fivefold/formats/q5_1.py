"""q5_1: blocks of 32 five-bit codes above a minimum, with one f16 scale and one f16 minimum.

Layout of a block (24 bytes): f16 d, f16 m, then high bits and low nibbles as in q5_0. A number is
d * q + m. GGUF stores it so.
"""

from __future__ import annotations

import numpy as np

from fivefold.formats.format import (
    Bytes,
    Float32,
    Format,
    five_bits,
    half_bytes,
    half_values,
    inverse_scale,
    pack_five_bits,
    stored_blocks,
    value_blocks,
)

BLOCK = 32
BLOCK_BYTES = 24


def unpack(data: Bytes, count: int) -> Float32:
    """Stored blocks -> float32 (count,), d * q + m.

    The product is exact in float32, so the sum is rounded once, fused or not.
    """
    blocks = stored_blocks("q5_1", data, count, BLOCK, BLOCK_BYTES)
    codes = five_bits(blocks[:, 4:]).astype(np.float32)
    return (half_values(blocks[:, :2]) * codes + half_values(blocks[:, 2:4])).reshape(-1)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> stored blocks: m = minimum, d = (maximum - minimum) / 31, halves rounded up.

    The codes are chosen with d and m before they are rounded to f16, as GGUF's writers do.
    """
    blocks = value_blocks("q5_1", values, BLOCK)
    minimum = blocks.min(axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        scale = (blocks.max(axis=1, keepdims=True) - minimum) / np.float32(31.0)
    header = [half_bytes("q5_1", scale), half_bytes("q5_1", minimum)]
    shifted = (blocks - minimum) * inverse_scale(scale) + np.float32(0.5)
    codes = np.minimum(shifted.astype(np.uint8), np.uint8(31))
    return np.concatenate([*header, pack_five_bits(codes)], axis=1).reshape(-1)


FORMAT = Format("q5_1", BLOCK, BLOCK_BYTES, quantized=True, unpack=unpack, pack=pack)
