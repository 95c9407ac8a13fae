"""Whole rows at a time: what bounds the memory of everything that is done to a matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import numpy as np

from fivefold.core.checkpoint import Bytes, Float32, Scales, Tensor
from fivefold.executor import dequantize
from fivefold.formats import Format

PIECE = 1 << 16
"""Numbers that a sweep takes at once: few enough that its work stays in a processor's second cache."""

LARGE_PIECE = 1 << 18
"""Numbers that are unpacked or rounded at once."""


def row_pieces(rows: int, columns: int, numbers: int, step: int = 1) -> Iterator[slice]:
    """The rows in slices of about so many numbers, each but the last a multiple of `step` rows."""
    size = max(numbers // max(columns, 1) // step, 1) * step
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def packed(values: Float32, form: Format, numbers: int, pack: Callable[[Float32], Bytes]) -> Bytes:
    """A matrix (M, K) as blocks of a format, which `pack` makes of some rows, about so many numbers."""
    rows, columns = values.shape
    data = np.empty((rows, form.bytes_for(columns)), np.uint8)
    for piece in row_pieces(rows, columns, numbers):
        data[piece] = pack(values[piece]).reshape(data[piece].shape)
    return data.reshape(-1)


def magnitude(values: Float32) -> float:
    """The largest magnitude of a matrix (M, K) that is not empty."""
    return max(float(values.max()), -float(values.min()))


def float_values(tensor: Tensor) -> Float32:
    """A stored tensor as float32 of its shape: as `dequantize`, in little more memory than the result."""
    if len(tensor.shape) != 2 or 0 in tensor.shape:
        return dequantize(tensor)
    values = np.empty(tensor.shape, np.float32)
    for piece, part in float_pieces(tensor, LARGE_PIECE):
        values[piece] = part
    return values


def float_pieces(tensor: Tensor, numbers: int) -> Iterator[tuple[slice, Float32]]:
    """The rows of a stored tensor (..., K) below each other: slices of them as float32, of so many numbers.

    FileError where its scales do not fit.
    """
    rows, columns = prod(tensor.shape[:-1]), tensor.shape[-1]
    stored = tensor.data.reshape(rows, -1)
    scales = tensor.scales
    step = 1
    if scales is not None:
        if not scales.fits(tensor.shape):
            dequantize(tensor)  # which says what is wrong
        scales = Scales(scales.values, scales.rows, scales.columns)
        step = 1 if scales.rows >= rows else scales.rows
    for piece in row_pieces(rows, columns, numbers, step):
        shape = (piece.stop - piece.start, columns)
        part = Tensor(tensor.name, tensor.format, shape, stored[piece].reshape(-1), _of_rows(scales, piece))
        yield piece, dequantize(part)


def _of_rows(scales: Scales | None, piece: slice) -> Scales | None:
    """The scales of some rows, which begin where a block does."""
    if scales is None:
        return None
    first, last = piece.start // scales.rows, -(-piece.stop // scales.rows)
    return Scales(scales.values[first:last], scales.rows, scales.columns)
