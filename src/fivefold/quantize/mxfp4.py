"""Quantizing to mxfp4: the format's power of two for each block, or the best of that and its neighbours.

The format's exponent holds numbers from 6 to 8 times the scale at 6; twice the scale holds them all and
halves the resolution, half the scale does the opposite. `sweep` takes what has the least weighted squared
error.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.checkpoint import Bytes, Float32
from fivefold.formats import format_of, mxfp4
from fivefold.formats.format import pack_nibbles
from fivefold.quantize.e2m1_error import BlockErrors
from fivefold.quantize.pieces import PIECE, packed
from fivefold.quantize.weights import block_weights, for_rows


def swept(values: Float32, importance: Float32 | None) -> Bytes:
    """A matrix (M, K) as stored blocks."""
    form = format_of("mxfp4")
    weights = block_weights(importance, mxfp4.BLOCK)

    def best(rows: Float32) -> Bytes:
        blocks = rows.reshape(-1, mxfp4.BLOCK)
        stored = form.pack(rows).reshape(-1, mxfp4.BLOCK_BYTES)[:, :1]
        scales = _best(blocks, stored, for_rows(weights, len(rows)))
        return np.concatenate([scales, pack_nibbles(mxfp4.codes_for(blocks, scales))], axis=1)

    return packed(values, form, PIECE, best)


def _best(blocks: Float32, stored: Bytes, weights: Float32 | None) -> Bytes:
    """The best scales (n, 1) of blocks (n, 32); the stored ones, then the smaller, on ties."""
    start = stored.astype(np.int32)
    # In units of the stored scale, where all is small and the neighbours are 1/2 and 2.
    units = np.ldexp(np.abs(blocks).astype(np.float64), mxfp4.BIAS - start).astype(np.float32)
    errors = BlockErrors(np.ascontiguousarray(units.T), weights)
    best = start[:, 0].copy()
    least = errors.under(np.float32(1.0))
    for step, scale in ((-1, 0.5), (1, 2.0)):
        found = errors.under(np.float32(scale))
        there = (start[:, 0] + step >= 0) & (start[:, 0] + step < mxfp4.NAN)
        better = (found < least) & there
        best[better], least[better] = start[better, 0] + step, found[better]
    return best.astype(np.uint8)[:, None]
