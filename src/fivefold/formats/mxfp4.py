"""mxfp4: blocks of 32 numbers of E2M1 with one power of two, an E8M0 byte.

Layout of a block (17 bytes), as GGUF stores it: the byte e, then 16 bytes; byte j holds code j in its low and
code j + 16 in its high nibble. A number is 2^(e - 127) * E2M1; e = 255 is NaN. Source: OCP's Microscaling
formats, ggml-common.h (block_mxfp4).
"""

from __future__ import annotations

import numpy as np

from fivefold.formats import e2m1
from fivefold.formats.format import (
    Bytes,
    Float32,
    Format,
    nibbles,
    pack_nibbles,
    stored_blocks,
    value_blocks,
)

BLOCK = 32
BLOCK_BYTES = 17
BIAS = 127
NAN = 255


def unpack(data: Bytes, count: int) -> Float32:
    """Stored blocks -> float32 (count,), exact; infinite where float32 ends."""
    blocks = stored_blocks("mxfp4", data, count, BLOCK, BLOCK_BYTES)
    with np.errstate(over="ignore"):
        return (powers(blocks[:, :1]) * e2m1.VALUES[nibbles(blocks[:, 1:])]).reshape(-1)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> stored blocks: 2^(floor(log2 of the largest magnitude) - 2), as OCP defines it.

    So numbers of 6 to 8 times the scale are held at 6.
    """
    blocks = value_blocks("mxfp4", values, BLOCK)
    _, exponent = np.frexp(np.abs(blocks).max(axis=1, keepdims=True))
    # frexp's is one above that of the number; zero has none, and any scale does.
    stored = np.clip(exponent - 1 - 2 + BIAS, 0, NAN - 1).astype(np.uint8)
    return np.concatenate([stored, pack_nibbles(codes_for(blocks, stored))], axis=1).reshape(-1)


def codes_for(blocks: Float32, stored: Bytes) -> Bytes:
    """The nearest codes of blocks (n, 32) with stored scales (n, 1)."""
    # Exact, but where the quotient is subnormal, and so zero.
    scaled = np.ldexp(blocks.astype(np.float64), BIAS - stored.astype(np.int32))
    return e2m1.nearest(scaled.astype(np.float32))


def powers(stored: Bytes) -> Float32:
    """The scales that bytes stand for."""
    values = np.ldexp(np.float32(1.0), stored.astype(np.int32) - BIAS)
    return np.where(stored == NAN, np.float32(np.nan), values).astype(np.float32)


FORMAT = Format("mxfp4", BLOCK, BLOCK_BYTES, quantized=True, unpack=unpack, pack=pack)
