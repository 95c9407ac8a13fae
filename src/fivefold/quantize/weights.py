"""How much the error of each number of a block counts: importance of columns as weights of blocks."""

from __future__ import annotations

import numpy as np

from fivefold.core.checkpoint import Float32


def block_weights(importance: Float32 | None, block: int) -> Float32 | None:
    """The weights of the blocks of a row, (K / block, block), the largest of each block 1.

    What counts within a block is how its numbers compare. A block without any importance counts evenly: its
    numbers are still to be stored.
    """
    if importance is None:
        return None
    weights = importance.reshape(-1, block).astype(np.float64)
    largest = weights.max(axis=1, keepdims=True)
    return np.where(largest > 0, weights / np.where(largest > 0, largest, 1.0), 1.0).astype(np.float32)


def for_rows(weights: Float32 | None, rows: int) -> Float32 | None:
    """Those of so many rows, as a sweep takes them: (block, rows * K / block)."""
    return None if weights is None else np.ascontiguousarray(np.tile(weights, (rows, 1)).T)
