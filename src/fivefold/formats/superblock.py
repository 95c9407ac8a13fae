"""What the formats with blocks of 256 share: small integer scales for parts of a block, and their layouts.

A block has one or two f16 numbers, and for each part of 16 or 32 numbers small integers that they are
multiplied with. Where those integers and the codes lie is GGUF's; the reading functions here undo it.

The fits are plain ones, straight from the ends of each part. Searching for scales that lose less is the work
of a quantizer: files made by llama.cpp's are read just the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fivefold.formats.format import Bytes, Float32, half_bytes, half_values, inverse_scale

BLOCK = 256


class Affine(NamedTuple):
    """Blocks of numbers d * scale * code - least * minimum."""

    halves: Bytes
    """d and least as stored: f16, (blocks, 4)."""
    scales: Bytes
    """(blocks, parts)"""
    minima: Bytes
    """(blocks, parts)"""
    codes: Bytes
    """(blocks, 256)"""


class Symmetric(NamedTuple):
    """Blocks of numbers d * scale * code, scale and code with a sign."""

    halves: Bytes
    """d as stored: f16, (blocks, 2)."""
    scales: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    """(blocks, parts)"""
    steps: Float32
    """d * scale: (blocks, parts, 1)"""


def fit_affine(name: str, blocks: Float32, parts: int, most_scale: int, most_code: int) -> Affine:
    """Codes from 0 to `most_code`, scales and minima from 0 to `most_scale`, for (blocks, 256) numbers."""
    cut = blocks.reshape(len(blocks), parts, BLOCK // parts)
    lowest = np.minimum(cut.min(axis=2), np.float32(0.0))
    with np.errstate(over="ignore"):
        spread = (np.maximum(cut.max(axis=2), np.float32(0.0)) - lowest) / np.float32(most_code)
    halves, scales, steps = _shares(name, spread, most_scale)
    least, minima, offsets = _shares(name, -lowest, most_scale)
    above = cut + offsets[..., None]
    codes = np.clip(np.rint(above * inverse_scale(steps)[..., None]), 0, most_code)
    return Affine(
        np.concatenate([halves, least], axis=1), scales, minima, codes.astype(np.uint8).reshape(-1, BLOCK)
    )


def _shares(name: str, wanted: Float32, most: int) -> tuple[Bytes, Bytes, Float32]:
    """Numbers of at least 0 (blocks, parts) as whole multiples, at most `most`, of one f16 number a block.

    That number as stored, the multiples, and what they come to.
    """
    unit = half_bytes(name, wanted.max(axis=1, keepdims=True) / np.float32(most))
    value = half_values(unit)
    multiples = np.clip(np.rint(wanted * inverse_scale(value)), 0, most)
    return unit, multiples.astype(np.uint8), (value * multiples).astype(np.float32)


def fit_symmetric(name: str, blocks: Float32, parts: int, most_scale: int, most_code: float) -> Symmetric:
    """Scales from -`most_scale` to `most_scale` - 1, so that a part's largest number takes -`most_code`."""
    cut = blocks.reshape(len(blocks), parts, BLOCK // parts)
    largest = np.take_along_axis(cut, np.abs(cut).argmax(axis=2)[..., None], axis=2)[..., 0]
    wanted = largest / np.float32(-most_code)
    widest = np.take_along_axis(wanted, np.abs(wanted).argmax(axis=1)[:, None], axis=1)
    halves = half_bytes(name, widest / np.float32(-most_scale))
    value = half_values(halves)
    scales = np.clip(np.rint(wanted * inverse_scale(value)), -most_scale, most_scale - 1)
    steps = (value * scales).astype(np.float32)[..., None]
    return Symmetric(halves, scales.astype(np.int64), steps)


def fit_codes(blocks: Float32, fit: Symmetric, most_code: int) -> Bytes:
    """Codes (blocks, 256) from 0 to 2 * `most_code` - 1, which stand for themselves less `most_code`."""
    parts = fit.steps.shape[1]
    cut = blocks.reshape(len(blocks), parts, BLOCK // parts)
    codes = np.clip(np.rint(cut * inverse_scale(fit.steps)), -most_code, most_code - 1) + most_code
    stored: Bytes = codes.astype(np.uint8).reshape(-1, BLOCK)
    return stored


def read_pairs(data: Bytes) -> tuple[Bytes, Bytes]:
    """Eight scales and eight minima of six bits each (blocks, 8), from 12 bytes.

    Bytes 0 to 3 hold scales 0 to 3 and bytes 4 to 7 minima 0 to 3 in their low six bits. Bytes 8 to 11 hold
    the low four bits of scales (below) and minima (above) 4 to 7, whose high two bits are the high bits of
    the bytes before.
    """
    first, second, rest = data[:, 0:4], data[:, 4:8], data[:, 8:12]
    scales = [first & 0x3F, (rest & 0x0F) | ((first >> 2) & 0x30)]
    minima = [second & 0x3F, (rest >> 4) | ((second >> 2) & 0x30)]
    return np.concatenate(scales, axis=1), np.concatenate(minima, axis=1)


def write_pairs(scales: Bytes, minima: Bytes) -> Bytes:
    """The inverse of `read_pairs`."""
    first = scales[:, :4] | ((scales[:, 4:] & 0x30) << np.uint8(2))
    second = minima[:, :4] | ((minima[:, 4:] & 0x30) << np.uint8(2))
    rest = (scales[:, 4:] & 0x0F) | (minima[:, 4:] << np.uint8(4))
    return np.concatenate([first, second, rest], axis=1)


def read_bits(data: Bytes, width: int, run: int) -> Bytes:
    """Codes of `width` bits from bytes (blocks, n): runs of `run` bytes hold 8 / width runs of codes.

    The first run of codes lies in the lowest bits of each of the run's bytes, the next above it.
    """
    shifts = np.arange(0, 8, width, dtype=np.uint8).reshape(1, 1, -1, 1)
    count, size = data.shape
    codes = data.reshape(count, size // run, 1, run) >> shifts
    return (codes & np.uint8((1 << width) - 1)).reshape(count, size * 8 // width)


def write_bits(codes: Bytes, width: int, run: int) -> Bytes:
    """The inverse of `read_bits`."""
    shifts = np.arange(0, 8, width, dtype=np.uint8).reshape(1, 1, -1, 1)
    count, size = codes.shape
    placed = codes.reshape(count, size * width // 8 // run, 8 // width, run) << shifts
    packed: Bytes = np.bitwise_or.reduce(placed, axis=2).reshape(count, size * width // 8)
    return packed


def scaled(d: Float32, scales: Float32, codes: Float32) -> Float32:
    """d * scale * code for d (blocks, 1), scales (blocks, parts), codes (blocks, 256); exact in float32."""
    return repeated(d * scales) * codes


def repeated(scales: Float32) -> Float32:
    """A number for each part (blocks, parts) as one for each number (blocks, 256)."""
    return np.repeat(scales, BLOCK // scales.shape[1], axis=1)
