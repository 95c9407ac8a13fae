"""q5_k: blocks of 256 five-bit codes; 8 parts of 32, each with a six-bit scale and a six-bit minimum.

Layout of a block (176 bytes): f16 d, f16 least, 12 bytes of scales s and minima m (`read_pairs`), 32 bytes
of high bits (bit p of byte i is that of code i of part p), then 128 bytes of low nibbles as in q4_k. A
number is d * s * q - least * m. GGUF stores it so.
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

BLOCK_BYTES = 176


def unpack(data: Bytes, count: int) -> Float32:
    """Stored blocks -> float32 (count,); both products are exact in float32, their difference is rounded."""
    blocks = stored_blocks("q5_k", data, count, BLOCK, BLOCK_BYTES)
    scales, minima = read_pairs(blocks[:, 4:16])
    codes = read_bits(blocks[:, 48:], 4, 32) | (read_bits(blocks[:, 16:48], 1, 32) << np.uint8(4))
    above = scaled(half_values(blocks[:, :2]), scales.astype(np.float32), codes.astype(np.float32))
    return (above - half_values(blocks[:, 2:4]) * repeated(minima.astype(np.float32))).reshape(-1)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> stored blocks, by a plain fit to the ends of each part."""
    fit = fit_affine("q5_k", value_blocks("q5_k", values, BLOCK), 8, 63, 31)
    high, low = write_bits(fit.codes >> np.uint8(4), 1, 32), write_bits(fit.codes & np.uint8(15), 4, 32)
    pairs = write_pairs(fit.scales, fit.minima)
    return np.concatenate([fit.halves, pairs, high, low], axis=1).reshape(-1)


FORMAT = Format("q5_k", BLOCK, BLOCK_BYTES, quantized=True, unpack=unpack, pack=pack)
