"""Quantizing to E4M3 with scales beside the matrix: the largest magnitude of each block of numbers over 448.

As in compressed-tensors' float-quantized and in ModelOpt's FP8; a block of zeros has the scale 1.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.checkpoint import Bytes, Float32, Scales
from fivefold.formats import e4m3, format_of
from fivefold.quantize.pieces import LARGE_PIECE, row_pieces

_SMALLEST = np.finfo(np.float32).tiny


def rounded(values: Float32, block: tuple[int, int]) -> tuple[Bytes, Scales]:
    """A matrix (M, K) as bytes, with a scale for each block of rows x columns; 0 is all there are."""
    rows, columns = values.shape
    tall, wide = min(block[0] or rows, rows), min(block[1] or columns, columns)
    scales = Scales(block_scales(values, tall, wide), block[0] or rows, block[1] or columns)
    data = np.empty((rows, columns), np.uint8)
    pack = format_of("f8_e4m3").pack
    for piece in row_pieces(rows, columns, LARGE_PIECE, 1 if tall == rows else tall):
        height = piece.stop - piece.start
        first, last = piece.start // tall, -(-piece.stop // tall)
        spread = Scales(scales.values[first:last], tall, wide).spread((height, columns))
        data[piece] = pack(values[piece] / spread).reshape(height, columns)
    return data.reshape(-1), scales


def block_scales(values: Float32, tall: int, wide: int) -> Float32:
    """Scales (R, C) of the blocks; never subnormal, for quotients would be off."""
    rows, columns = values.shape
    largest = np.zeros((-(-rows // tall), -(-columns // wide)), np.float32)
    for piece in row_pieces(rows, columns, LARGE_PIECE, 1 if tall == rows else tall):
        across = np.maximum.reduceat(np.abs(values[piece]), np.arange(0, columns, wide), axis=1)
        down = np.maximum.reduceat(across, np.arange(0, across.shape[0], tall), axis=0)
        held = largest[piece.start // tall : -(-piece.stop // tall)]
        np.maximum(held, down, out=held)
    scales = np.maximum(largest / e4m3.LARGEST, _SMALLEST)
    return np.where(largest > 0, scales, np.float32(1.0)).astype(np.float32)
