"""q5_0: blocks of 32 five-bit codes around zero with one f16 scale.

Layout of a block (22 bytes): f16 d, 4 bytes of high bits (bit j of them is that of code j), then 16 bytes of
low nibbles; byte j holds code j in its low and code j + 16 in its high nibble. A number is d * (q - 16). GGUF
stores it so.
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
BLOCK_BYTES = 22


def unpack(data: Bytes, count: int) -> Float32:
    """Stored blocks -> float32 (count,), d * (q - 16); the product is exact in float32."""
    blocks = stored_blocks("q5_0", data, count, BLOCK, BLOCK_BYTES)
    codes = five_bits(blocks[:, 2:]).astype(np.float32) - np.float32(16.0)
    return (half_values(blocks[:, :2]) * codes).reshape(-1)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> stored blocks.

    The number of largest magnitude (the first, on ties) is given the code 0, that is -16, so d has
    the opposite sign of it; numbers near +16 are held at the code 31.
    """
    blocks = value_blocks("q5_0", values, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    scale = largest / np.float32(-16.0)
    shifted = blocks * inverse_scale(scale) + np.float32(16.5)
    codes = np.minimum(shifted.astype(np.uint8), np.uint8(31))
    return np.concatenate([half_bytes("q5_0", scale), pack_five_bits(codes)], axis=1).reshape(-1)


FORMAT = Format("q5_0", BLOCK, BLOCK_BYTES, quantized=True, unpack=unpack, pack=pack)
