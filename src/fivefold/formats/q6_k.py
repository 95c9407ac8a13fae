"""q6_k: blocks of 256 six-bit codes around zero; 16 parts of 16, each with an int8 scale.

Layout of a block (210 bytes): 128 bytes of low nibbles (64 bytes hold two runs of 64 codes, the first in the
low nibbles), 64 bytes of high two bits (32 bytes hold four runs of 32), 16 int8 scales s, f16 d. A number is
d * s * (q - 32). GGUF stores it so.
"""

from __future__ import annotations

import numpy as np

from fivefold.formats.format import Bytes, Float32, Format, half_values, stored_blocks, value_blocks
from fivefold.formats.superblock import BLOCK, fit_codes, fit_symmetric, read_bits, scaled, write_bits

BLOCK_BYTES = 210


def unpack(data: Bytes, count: int) -> Float32:
    """Stored blocks -> float32 (count,), exact."""
    blocks = stored_blocks("q6_k", data, count, BLOCK, BLOCK_BYTES)
    codes = read_bits(blocks[:, :128], 4, 64) | (read_bits(blocks[:, 128:192], 2, 32) << np.uint8(4))
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32)
    signed = codes.astype(np.float32) - np.float32(32)
    return scaled(half_values(blocks[:, 208:210]), scales, signed).reshape(-1)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> stored blocks; the largest number of a part is given the code 0, that is -32."""
    blocks = value_blocks("q6_k", values, BLOCK)
    fit = fit_symmetric("q6_k", blocks, 16, 128, 32)
    codes = fit_codes(blocks, fit, 32)
    low, high = write_bits(codes & np.uint8(15), 4, 64), write_bits(codes >> np.uint8(4), 2, 32)
    scales = fit.scales.astype(np.int8).view(np.uint8)
    return np.concatenate([low, high, scales, fit.halves], axis=1).reshape(-1)


FORMAT = Format("q6_k", BLOCK, BLOCK_BYTES, quantized=True, unpack=unpack, pack=pack)
