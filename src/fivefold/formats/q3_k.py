"""q3_k: blocks of 256 three-bit codes around zero; 16 parts of 16, each with a six-bit scale around zero.

Layout of a block (110 bytes): 32 bytes of high bits (bit r of byte i is that of code i of run r of 32), 64
bytes of low two bits as in q2_k, 12 bytes of scales, f16 d. Of the scales the first 8 bytes hold the low four
bits (scale j below, j + 8 above), the last 4 the high two (scales j, j + 4, j + 8, j + 12 from the lowest
bits up). A number is d * (s - 32) * (q - 4). GGUF stores it so.
"""

from __future__ import annotations

import numpy as np

from fivefold.formats.format import Bytes, Float32, Format, half_values, stored_blocks, value_blocks
from fivefold.formats.superblock import BLOCK, fit_codes, fit_symmetric, read_bits, scaled, write_bits

BLOCK_BYTES = 110


def unpack(data: Bytes, count: int) -> Float32:
    """Stored blocks -> float32 (count,), exact."""
    blocks = stored_blocks("q3_k", data, count, BLOCK, BLOCK_BYTES)
    codes = read_bits(blocks[:, 32:96], 2, 32) | (read_bits(blocks[:, :32], 1, 32) << np.uint8(2))
    scales = read_bits(blocks[:, 96:104], 4, 8) | (read_bits(blocks[:, 104:108], 2, 4) << np.uint8(4))
    signed, steps = codes.astype(np.float32) - np.float32(4), scales.astype(np.float32) - np.float32(32)
    return scaled(half_values(blocks[:, 108:110]), steps, signed).reshape(-1)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> stored blocks; the largest number of a part is given the code 0, that is -4."""
    blocks = value_blocks("q3_k", values, BLOCK)
    fit = fit_symmetric("q3_k", blocks, 16, 32, 4)
    codes, scales = fit_codes(blocks, fit, 4), (fit.scales + 32).astype(np.uint8)
    high, low = write_bits(codes >> np.uint8(2), 1, 32), write_bits(codes & np.uint8(3), 2, 32)
    packed = [write_bits(scales & np.uint8(15), 4, 8), write_bits(scales >> np.uint8(4), 2, 4)]
    return np.concatenate([high, low, *packed, fit.halves], axis=1).reshape(-1)


FORMAT = Format("q3_k", BLOCK, BLOCK_BYTES, quantized=True, unpack=unpack, pack=pack)
