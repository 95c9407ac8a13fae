"""f16: IEEE 754 half precision, one number a block.

Rounding is to nearest even. Numbers past 65504 become infinite, as IEEE 754 says.
"""

from __future__ import annotations

import numpy as np

from fivefold.formats.format import Bytes, Float32, Format, stored_blocks


def unpack(data: Bytes, count: int) -> Float32:
    """Stored bytes (2 * count,) -> float32 (count,), exact."""
    return stored_blocks("f16", data, count, 1, 2).reshape(-1).view("<f2").astype(np.float32)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> bytes (2 * count,), nearest even."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32).astype("<f2").reshape(-1).view(np.uint8)


FORMAT = Format("f16", block=1, block_bytes=2, quantized=False, unpack=unpack, pack=pack)
