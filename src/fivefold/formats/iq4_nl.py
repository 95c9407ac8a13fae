"""iq4_nl: blocks of 32 four-bit codes for 16 fixed values that lie closer near zero, with one f16 scale.

Layout of a block (18 bytes): as q4_0, but a code q stands for VALUES[q]. A number is d * VALUES[q]. GGUF
stores it so.
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
    nibbles,
    pack_nibbles,
    stored_blocks,
    value_blocks,
)

BLOCK = 32
BLOCK_BYTES = 18

VALUES = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32
)
"""What the codes stand for; iq4_xs uses them too."""

_BETWEEN = (VALUES[1:] + VALUES[:-1]) / 2


def nearest_codes(scaled: Float32) -> Bytes:
    """The code of the value nearest to each number; the lower one on ties."""
    return np.searchsorted(_BETWEEN, scaled, side="left").astype(np.uint8)


def unpack(data: Bytes, count: int) -> Float32:
    """Stored blocks -> float32 (count,), d * VALUES[q]; the product is exact in float32."""
    blocks = stored_blocks("iq4_nl", data, count, BLOCK, BLOCK_BYTES)
    return (half_values(blocks[:, :2]) * VALUES[nibbles(blocks[:, 2:])]).reshape(-1)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> stored blocks, by a plain fit: the number of largest magnitude takes -127."""
    blocks = value_blocks("iq4_nl", values, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    halves = half_bytes("iq4_nl", largest / np.float32(-127.0))
    codes = nearest_codes(blocks * inverse_scale(half_values(halves)))
    return np.concatenate([halves, pack_nibbles(codes)], axis=1).reshape(-1)


FORMAT = Format("iq4_nl", BLOCK, BLOCK_BYTES, quantized=True, unpack=unpack, pack=pack)
