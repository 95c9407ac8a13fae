"""q2_k: blocks of 256 two-bit codes; 16 parts of 16, each with a four-bit scale and a four-bit minimum.

Layout of a block (84 bytes): 16 bytes, a part's scale s in the low and its minimum m in the high nibble;
64 bytes of codes: 32 bytes hold four runs of 32 codes, the first in the lowest bits; f16 d, f16 least. A
number is d * s * q - least * m. GGUF stores it so.
"""

from __future__ import annotations

import numpy as np

from fivefold.formats.format import Bytes, Float32, Format, half_values, stored_blocks, value_blocks
from fivefold.formats.superblock import BLOCK, fit_affine, read_bits, repeated, scaled, write_bits

BLOCK_BYTES = 84


def unpack(data: Bytes, count: int) -> Float32:
    """Stored blocks -> float32 (count,); both products are exact in float32, their difference is rounded."""
    blocks = stored_blocks("q2_k", data, count, BLOCK, BLOCK_BYTES)
    scales, minima = (blocks[:, :16] & 0x0F).astype(np.float32), (blocks[:, :16] >> 4).astype(np.float32)
    codes = read_bits(blocks[:, 16:80], 2, 32).astype(np.float32)
    above = scaled(half_values(blocks[:, 80:82]), scales, codes)
    return (above - half_values(blocks[:, 82:84]) * repeated(minima)).reshape(-1)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> stored blocks, by a plain fit to the ends of each part."""
    fit = fit_affine("q2_k", value_blocks("q2_k", values, BLOCK), 16, 15, 3)
    pairs = fit.scales | (fit.minima << np.uint8(4))
    return np.concatenate([pairs, write_bits(fit.codes, 2, 32), fit.halves], axis=1).reshape(-1)


FORMAT = Format("q2_k", BLOCK, BLOCK_BYTES, quantized=True, unpack=unpack, pack=pack)
