"""q4_k: blocks of 256 four-bit codes; 8 parts of 32, each with a six-bit scale and a six-bit minimum.

Layout of a block (144 bytes): f16 d, f16 least, 12 bytes of scales s and minima m (`read_pairs`), then 128
bytes of codes: 32 bytes hold the codes of two parts, the first in the low nibbles. A number is
d * s * q - least * m. GGUF stores it so.
"""

from __future__ import annotations

import numpy as np

from fivefold.formats.format import Bytes, Float32, Format, half_values, stored_blocks, value_blocks
from fivefold.formats.superblock import (
    BLOCK,
    fit_affine,
    read_bits,
    read_pairs,
    repeated,
    scaled,
    write_bits,
    write_pairs,
)

BLOCK_BYTES = 144


def unpack(data: Bytes, count: int) -> Float32:
    """Stored blocks -> float32 (count,); both products are exact in float32, their difference is rounded."""
    blocks = stored_blocks("q4_k", data, count, BLOCK, BLOCK_BYTES)
    scales, minima = read_pairs(blocks[:, 4:16])
    codes = read_bits(blocks[:, 16:], 4, 32).astype(np.float32)
    above = scaled(half_values(blocks[:, :2]), scales.astype(np.float32), codes)
    return (above - half_values(blocks[:, 2:4]) * repeated(minima.astype(np.float32))).reshape(-1)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> stored blocks, by a plain fit to the ends of each part."""
    fit = fit_affine("q4_k", value_blocks("q4_k", values, BLOCK), 8, 63, 15)
    pairs = write_pairs(fit.scales, fit.minima)
    return np.concatenate([fit.halves, pairs, write_bits(fit.codes, 4, 32)], axis=1).reshape(-1)


FORMAT = Format("q4_k", BLOCK, BLOCK_BYTES, quantized=True, unpack=unpack, pack=pack)
