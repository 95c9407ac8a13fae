"""f32: IEEE 754 single precision, one number a block."""

from __future__ import annotations

import numpy as np

from fivefold.formats.format import Bytes, Float32, Format, stored_blocks


def unpack(data: Bytes, count: int) -> Float32:
    """Stored bytes (4 * count,) -> a float32 copy (count,)."""
    return stored_blocks("f32", data, count, 1, 4).reshape(-1).view("<f4").astype(np.float32)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> bytes (4 * count,), NaN payloads kept."""
    return np.ascontiguousarray(values, dtype=np.float32).astype("<f4").reshape(-1).view(np.uint8)


FORMAT = Format("f32", block=1, block_bytes=4, quantized=False, unpack=unpack, pack=pack)
