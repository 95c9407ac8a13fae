"""iq4_xs: blocks of 256 codes for iq4_nl's values; 8 parts of 32, each with a six-bit scale around zero.

Layout of a block (136 bytes): f16 d, 2 bytes of the scales' high two bits (part 0 lowest), 4 bytes of their
low four bits (part 2j below, 2j + 1 above), then 128 bytes of codes, 16 for each part as in q4_0. A number is
d * (s - 32) * VALUES[q]. GGUF stores it so.
"""

from __future__ import annotations

import numpy as np

from fivefold.formats.format import (
    Bytes,
    Float32,
    Format,
    half_values,
    inverse_scale,
    stored_blocks,
    value_blocks,
)
from fivefold.formats.iq4_nl import VALUES, nearest_codes
from fivefold.formats.superblock import BLOCK, fit_symmetric, read_bits, scaled, write_bits

BLOCK_BYTES = 136


def unpack(data: Bytes, count: int) -> Float32:
    """Stored blocks -> float32 (count,), exact."""
    blocks = stored_blocks("iq4_xs", data, count, BLOCK, BLOCK_BYTES)
    scales = read_bits(blocks[:, 4:8], 4, 1) | (read_bits(blocks[:, 2:4], 2, 1) << np.uint8(4))
    steps = scales.astype(np.float32) - np.float32(32)
    return scaled(half_values(blocks[:, :2]), steps, VALUES[read_bits(blocks[:, 8:], 4, 16)]).reshape(-1)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> stored blocks, by a plain fit: the largest number of a part takes -127."""
    blocks = value_blocks("iq4_xs", values, BLOCK)
    fit = fit_symmetric("iq4_xs", blocks, 8, 32, 127.0)
    codes = nearest_codes(blocks.reshape(-1, 8, 32) * inverse_scale(fit.steps)).reshape(-1, BLOCK)
    scales = (fit.scales + 32).astype(np.uint8)
    packed = [write_bits(scales >> np.uint8(4), 2, 1), write_bits(scales & np.uint8(15), 4, 1)]
    return np.concatenate([fit.halves, *packed, write_bits(codes, 4, 16)], axis=1).reshape(-1)


FORMAT = Format("iq4_xs", BLOCK, BLOCK_BYTES, quantized=True, unpack=unpack, pack=pack)
