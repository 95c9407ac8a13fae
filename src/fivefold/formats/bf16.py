"""bf16: the upper half of a single precision float, one number a block.

Rounding is to nearest even, a NaN stays a (quiet) NaN of the same sign.
"""

from __future__ import annotations

import numpy as np

from fivefold.formats.format import Bytes, Float32, Format, stored_blocks

_INFINITY = np.uint32(0x7F800000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_QUIET = np.uint32(0x00400000)


def unpack(data: Bytes, count: int) -> Float32:
    """Stored bytes (2 * count,) -> float32 (count,), exact."""
    upper = stored_blocks("bf16", data, count, 1, 2).reshape(-1).view("<u2").astype(np.uint32)
    return (upper << np.uint32(16)).view(np.float32)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> bytes (2 * count,), nearest even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).reshape(-1).view(np.uint32)
    lowest = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + (np.uint32(0x7FFF) + lowest)) >> np.uint32(16)
    quiet = (bits | _QUIET) >> np.uint32(16)
    upper = np.where((bits & _MAGNITUDE) > _INFINITY, quiet, rounded)
    return upper.astype("<u2").view(np.uint8)


FORMAT = Format("bf16", block=1, block_bytes=2, quantized=False, unpack=unpack, pack=pack)
