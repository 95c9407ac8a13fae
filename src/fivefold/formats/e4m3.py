"""f8_e4m3: one byte a number: a sign, four bits of exponent (7 is 1), three of mantissa.

No infinities; both NaNs are all ones but the sign. The largest number is 448, the smallest above zero 2^-9
(subnormal). As in OCP's OFP8 and PyTorch's float8_e4m3fn. Checkpoints keep scales beside such matrices; parts
of NVFP4 have one such number as their scale.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.errors import FivefoldError
from fivefold.formats.format import Bytes, Float32, Format, stored_blocks

LARGEST = np.float32(448.0)
NAN = np.uint8(0x7F)
MOST = np.float32(464.0)
"""What still rounds to 448: half a step above it, which is even."""


def _values() -> Float32:
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, codes & 7
    magnitude = np.where(exponent == 0, np.ldexp(mantissa, -9), np.ldexp(8.0 + mantissa, exponent - 10))
    magnitude[(codes & 0x7F) == NAN] = np.nan
    values: Float32 = np.where(codes & 0x80, -magnitude, magnitude).astype(np.float32)
    return values


VALUES = _values()
"""What each code stands for."""

_BETWEEN = (VALUES[:126] + VALUES[1:127]) / 2  # exact; between code i and the next


def nearest(magnitudes: Float32) -> Bytes:
    """The codes (0 to 0x7e) nearest to numbers of at least 0, the even one on ties; above 448 that of 448."""
    above = np.searchsorted(_BETWEEN, magnitudes, side="right")
    tied = above > 0
    tied[tied] = _BETWEEN[above[tied] - 1] == magnitudes[tied]
    codes: Bytes = (above - (tied & (above % 2 == 1))).astype(np.uint8)
    return codes


def unpack(data: Bytes, count: int) -> Float32:
    """Stored bytes (count,) -> float32 (count,), exact."""
    return VALUES[stored_blocks("f8_e4m3", data, count, 1, 1).reshape(-1)]


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> bytes (count,), nearest even.

    FivefoldError for a number past 448 once it is rounded, or one that is not finite: scale it first.
    """
    values = np.ascontiguousarray(values, np.float32).reshape(-1)
    fitting = np.abs(values) <= MOST
    if not fitting.all():
        index = int(np.flatnonzero(~fitting)[0])
        raise FivefoldError(
            f"number {index} is {values[index]}, which E4M3 cannot hold", where="f8_e4m3",
            remedy="scale the tensor down, repair it or keep it in another format",
        )  # fmt: skip
    return nearest(np.abs(values)) | np.where(np.signbit(values), np.uint8(0x80), np.uint8(0))


FORMAT = Format("f8_e4m3", block=1, block_bytes=1, quantized=False, unpack=unpack, pack=pack)
