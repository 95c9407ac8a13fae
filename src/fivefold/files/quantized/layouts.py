"""How quantized matrices lie in checkpoints, and how they become the formats of this project.

FP8 stays as it is, with its factors beside it. NVFP4 and MXFP4 hold two codes in a byte that follow each
other, the first in the low nibble, and scales in a tensor of their own; the formats here are GGUF's, where a
block has its scales before its codes and the two nibbles of a byte lie half a block apart. No bit of a code
or scale changes.

Sources: NVIDIA's ModelOpt (nvfp4_tensor.py, quant_utils.py), compressed-tensors 0.20 (compressors/nvfp4,
naive_quantized, mxfp4), Transformers 5.23 (integrations/finegrained_fp8.py, fbgemm_fp8.py, mxfp4.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from fivefold.core.checkpoint import Bytes, Made, Tensor
from fivefold.files.quantized.parts import Parts, whole_blocks
from fivefold.formats import FORMATS, e4m3
from fivefold.formats.mxfp4 import NAN

CHUNK = 1 << 15
"""Parts of a block that are brought into another order at once, so that little memory is needed for it."""

_PART = 16


@dataclass(frozen=True, slots=True)
class Nvfp4:
    """NVFP4: `codes` U8 (M, K / 2), `weight_scale` E4M3 (M, K / 16), and one number `factor` for all of it,
    by which numbers are multiplied, or divided if it is stored as `reciprocal`."""

    codes: str
    factor: str
    reciprocal: bool = False

    def read(self, parts: Parts) -> Tensor:
        """The matrix in the format nvfp4."""
        codes, rows, columns = _codes(parts, self.codes, _PART)
        whole_blocks(parts, self.codes, columns, "nvfp4")
        scales = parts.take("weight_scale", {"f8_e4m3"})
        if scales.shape != (rows, columns // _PART):
            raise parts.wrong(
                "weight_scale", f"is {list(scales.shape)}, not {[rows, columns // _PART]}: one for 16 numbers"
            )
        factor = parts.factors(self.factor, (1, 1), (rows, columns), self.reciprocal)

        def make() -> Bytes:
            return nvfp4_blocks(codes.data, scales.data, parts)

        size = FORMATS["nvfp4"].bytes_for(rows * columns)
        stored = Made((size,), make, codes.parts + scales.parts)
        return Tensor(parts.weight, "nvfp4", (rows, columns), stored, factor)


@dataclass(frozen=True, slots=True)
class Mxfp4:
    """MXFP4: `codes` U8 (M, K / 2), or with `blocked` (E, M, K / 32, 16), and `scales` U8 (E8M0)."""

    codes: str
    scales: str
    blocked: bool = False

    def read(self, parts: Parts) -> Tensor:
        """The matrix (M, K), or those of all experts (E, M, K), in the format mxfp4."""
        if self.blocked:
            codes = parts.take(self.codes, {"u8"})
            if len(codes.shape) != 4 or codes.shape[3] != 16:
                raise parts.wrong(self.codes, f"is {list(codes.shape)}, not (E, M, K / 32, 16)")
            blocks: tuple[int, ...] = codes.shape[:3]
        else:
            codes, rows, columns = _codes(parts, self.codes, 32)
            blocks = (rows, columns // 32)
        scales = parts.take(self.scales, {"u8", "f8_e8m0"})
        if scales.shape != blocks:
            raise parts.wrong(self.scales, f"is {list(scales.shape)}, not {list(blocks)}: one for 32 numbers")

        def make() -> Bytes:
            return mxfp4_blocks(codes.data, scales.data, parts, self.scales)

        shape = (*blocks[:-1], 32 * blocks[-1])
        size = FORMATS["mxfp4"].bytes_for(prod(shape))
        return Tensor(parts.weight, "mxfp4", shape, Made((size,), make, codes.parts + scales.parts))


@dataclass(frozen=True, slots=True)
class Fp8:
    """FP8: `weight` E4M3 (M, K) and factors: one ("tensor"), one for each row ("row"), or one for each block
    of `block` rows and columns, fewer at the edges ("block"). `factors` are the names that they may have."""

    spread: str
    factors: tuple[str, ...] = ("weight_scale",)
    block: tuple[int, int] = (128, 128)

    def read(self, parts: Parts) -> Tensor:
        """The matrix in the format f8_e4m3, its bytes as they lie in the file."""
        weight = parts.take("weight", {"f8_e4m3"})
        if len(weight.shape) != 2:
            raise parts.wrong("weight", f"is {list(weight.shape)}, and only matrices are read in FP8")
        rows, columns = weight.shape
        named = next((name for name in self.factors if name in parts), self.factors[0])
        block = {"tensor": (rows, columns), "row": (1, columns)}.get(self.spread, self.block)
        shape = (-(-rows // max(block[0], 1)), -(-columns // max(block[1], 1)))
        return Tensor(
            weight.name, weight.format, weight.shape, weight.stored, parts.factors(named, shape, block)
        )


def _codes(parts: Parts, leaf: str, part: int) -> tuple[Tensor, int, int]:
    """The codes of a matrix, two in a byte, and its rows and columns, which must be whole parts."""
    codes = parts.take(leaf, {"u8"})
    if len(codes.shape) != 2:
        raise parts.wrong(leaf, f"is {list(codes.shape)}, not a matrix")
    rows, columns = codes.shape[0], 2 * codes.shape[1]
    if columns % part:
        raise parts.wrong(leaf, f"has rows of {columns} numbers, which are no whole blocks of {part}")
    return codes, rows, columns


def nvfp4_blocks(codes: Bytes, scales: Bytes, parts: Parts) -> Bytes:
    """Codes in the order of numbers and E4M3 scales -> blocks of the format nvfp4, flat.

    FileError for a scale that is NaN or less than zero; minus zero is zero.
    """
    codes, scales = codes.reshape(-1, 8), scales.reshape(-1, 4)
    found = np.empty((len(scales), 36), np.uint8)
    for start in range(0, len(scales), CHUNK // 4):
        stop = min(start + CHUNK // 4, len(scales))
        own = scales[start:stop]
        if ((own & 0x7F) == e4m3.NAN).any() or (own > 0x80).any():
            raise parts.wrong("weight_scale", "holds a scale that is NaN or less than zero")
        found[start:stop, :4] = own & 0x7F
        found[start:stop, 4:] = regrouped(codes[4 * start : 4 * stop]).reshape(-1, 32)
    return found.reshape(-1)


def mxfp4_blocks(codes: Bytes, scales: Bytes, parts: Parts, leaf: str) -> Bytes:
    """Codes in the order of numbers and E8M0 scales -> blocks of the format mxfp4, flat.

    FileError for a scale of 255, which is NaN.
    """
    codes, scales = codes.reshape(-1, 16), scales.reshape(-1)
    found = np.empty((len(scales), 17), np.uint8)
    for start in range(0, len(scales), CHUNK):
        own = scales[start : start + CHUNK]
        if (own == NAN).any():
            raise parts.wrong(leaf, "holds a scale that is NaN")
        found[start : start + CHUNK, 0] = own
        found[start : start + CHUNK, 1:] = regrouped(codes[start : start + CHUNK])
    return found.reshape(-1)


def regrouped(codes: Bytes) -> Bytes:
    """Bytes (n, B) of 2 B codes, B 8 or 16: byte j has codes 2 j and 2 j + 1, and gets codes j and j + B.

    So the halves of 16 nibbles are shuffled into each other, in three steps that swap their middle parts.
    """
    words = codes.view("<u4").reshape(len(codes), -1)
    if codes.shape[1] == 16:
        words = words[:, [0, 2, 1, 3]]
    lanes = words.astype("<u4", order="C").view("<u8").reshape(-1)
    for shift, middle in _SWAPS:
        moved = lanes >> shift
        moved ^= lanes
        moved &= middle
        lanes ^= moved
        moved <<= shift
        lanes ^= moved
    return lanes.view(np.uint8).reshape(codes.shape)


_SWAPS = tuple(
    (np.uint64(shift), np.uint64(middle))
    for shift, middle in ((16, 0x00000000FFFF0000), (8, 0x0000FF000000FF00), (4, 0x00F000F000F000F0))
)
"""By how many bits the two middle parts of each larger one change places, and where the upper one lies."""
