"""What a number format is: one row of the table, and the checks that all rows share.

A format stores numbers in blocks along K, the contiguous dimension of a matrix: `block` numbers
take `block_bytes` bytes. `unpack` and `pack` are the reference, written to be obviously right;
the native kernels are tested against them. Bytes are little-endian on every machine. This module
reads no files and knows no tensor: rows of a matrix are simply blocks that follow each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fivefold.core.errors import FivefoldError, InputError

Bytes = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Format:
    """One number format.

    name         as checkpoints and configuration call it.
    block        numbers a block holds, along K.
    block_bytes  bytes a block takes.
    quantized    true when the numbers of a block share a scale, so that packing loses more than
                 the rounding of a float.
    unpack       (bytes uint8 (n,), count) -> float32 (count,), exact.
    pack         float32 (count,) -> bytes uint8 (n,), the reference rounding. Raises FivefoldError
                 when a quantized block would have to hold a number that it cannot.
    """

    name: str
    block: int
    block_bytes: int
    quantized: bool
    unpack: Callable[[Bytes, int], Float32]
    pack: Callable[[Float32], Bytes]

    def bytes_for(self, count: int) -> int:
        """Bytes that `count` numbers take; InputError unless they fill whole blocks."""
        if count < 0 or count % self.block:
            raise InputError(
                f"{count} numbers do not fill whole blocks of {self.block}",
                where=self.name,
                remedy=f"store this tensor in a format whose block divides {count}",
            )
        return count // self.block * self.block_bytes

    @property
    def bits(self) -> float:
        """Bits one number takes, scales included."""
        return self.block_bytes * 8 / self.block


def stored_blocks(name: str, data: Bytes, count: int, block: int, block_bytes: int) -> Bytes:
    """The bytes of `count` numbers as (blocks, block_bytes); InputError if the sizes disagree."""
    if count < 0 or count % block or data.size != count // block * block_bytes:
        raise InputError(
            f"{data.size} bytes cannot hold {count} numbers in blocks of {block} ({block_bytes} bytes)",
            where=name,
            remedy="the tensor's shape and its stored size must agree",
        )
    return np.ascontiguousarray(data).reshape(-1, block_bytes)


def value_blocks(name: str, values: Float32, block: int) -> Float32:
    """The numbers to quantize as (blocks, block).

    Raises InputError when they do not fill whole blocks, and FivefoldError when one is NaN or
    infinite: it would spoil the scale, and so all other numbers of its block.
    """
    values = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    if values.size % block:
        raise InputError(
            f"{values.size} numbers do not fill whole blocks of {block}",
            where=name,
            remedy="keep this tensor in a float format",
        )
    if not np.isfinite(values).all():
        index = int(np.flatnonzero(~np.isfinite(values))[0])
        raise FivefoldError(
            f"number {index} is {values[index]}, which a quantized block cannot hold",
            where=name,
            remedy="repair the tensor or keep it in a float format",
        )
    return values.reshape(-1, block)


def half_bytes(name: str, values: Float32) -> Bytes:
    """Scales or minima (blocks, 1) as stored f16 bytes (blocks, 2), nearest even.

    FivefoldError if one is too large for f16.
    """
    with np.errstate(over="ignore"):
        halves = values.astype("<f2")
    if not np.isfinite(halves).all():
        index = int(np.flatnonzero(~np.isfinite(halves))[0])
        raise FivefoldError(
            f"block {index} needs a scale of {values.ravel()[index]:g}, more than f16 can hold",
            where=name,
            remedy="scale the tensor down or keep it in a float format",
        )
    return halves.view(np.uint8)


def half_values(data: Bytes) -> Float32:
    """Stored f16 bytes (blocks, 2) as float32 (blocks, 1), exact."""
    return np.ascontiguousarray(data).view("<f2").astype(np.float32)


def inverse_scale(scale: Float32) -> Float32:
    """1 / scale, and 0 where the scale is 0 or so small that its inverse overflows float32.

    Such a scale is stored as 0 in f16, so its block reads back as zeros whatever its codes.
    """
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1.0) / scale
    return np.where(np.isfinite(inverse), inverse, np.float32(0.0)).astype(np.float32, copy=False)


def nibbles(data: Bytes) -> Bytes:
    """Packed 4-bit codes (blocks, 16) as (blocks, 32): low nibbles first, then high ones."""
    return np.concatenate([data & 0x0F, data >> 4], axis=1)


def pack_nibbles(codes: Bytes) -> Bytes:
    """4-bit codes (blocks, 32) as (blocks, 16): code j in the low, code j + 16 in the high nibble."""
    return codes[:, :16] | (codes[:, 16:] << np.uint8(4))


def five_bits(data: Bytes) -> Bytes:
    """Packed 5-bit codes (blocks, 20) as (blocks, 32): 4 bytes of high bits in order, then nibbles."""
    high = np.unpackbits(data[:, :4], axis=1, bitorder="little")
    return nibbles(data[:, 4:]) | (high << np.uint8(4))


def pack_five_bits(codes: Bytes) -> Bytes:
    """The inverse of `five_bits`."""
    high = np.packbits(codes >> np.uint8(4), axis=1, bitorder="little")
    return np.concatenate([high, pack_nibbles(codes & np.uint8(15))], axis=1)
