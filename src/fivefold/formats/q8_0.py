"""q8_0: blocks of 32 signed bytes with one f16 scale.

Layout of a block (34 bytes): f16 d, then 32 int8 codes q. A number is d * q. GGUF stores it so.
"""

from __future__ import annotations

import numpy as np

from fivefold.formats.format import (
    Bytes,
    Float32,
    Format,
    half_bytes,
    half_values,
    inverse_scale,
    stored_blocks,
    value_blocks,
)

BLOCK = 32
BLOCK_BYTES = 34


def unpack(data: Bytes, count: int) -> Float32:
    """Stored blocks -> float32 (count,), d * q; the product is exact in float32."""
    blocks = stored_blocks("q8_0", data, count, BLOCK, BLOCK_BYTES)
    codes = blocks[:, 2:].view(np.int8).astype(np.float32)
    return (half_values(blocks[:, :2]) * codes).reshape(-1)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> stored blocks: d = largest magnitude / 127, halves rounded away from zero.

    The codes are chosen with the scale before it is rounded to f16, as GGUF's writers do.
    """
    blocks = value_blocks("q8_0", values, BLOCK)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127.0)
    scaled = blocks * inverse_scale(scale)
    magnitude = np.abs(scaled)
    whole = np.floor(magnitude)
    codes = np.copysign(whole + (magnitude - whole >= np.float32(0.5)), scaled).astype(np.int8)
    return np.concatenate([half_bytes("q8_0", scale), codes.view(np.uint8)], axis=1).reshape(-1)


FORMAT = Format("q8_0", BLOCK, BLOCK_BYTES, quantized=True, unpack=unpack, pack=pack)
