"""The squared error of blocks of E2M1 numbers under a scale, for many blocks at once.

Blocks lie side by side, (numbers of a block, blocks): a sum over a block is then a sum of long rows, and a
scale for each block is one row. Rounding is arithmetic: within a binade the numbers of E2M1 are evenly
spaced, so adding and subtracting 1.5 * 2^22 times the power of two below rounds to them, to the even code on
ties as `formats.e2m1.nearest` does.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.checkpoint import Float32

_ROUNDER = np.float32(1.5 * 2**22)  # a float32 of this size has steps of 0.5
_EXPONENT = np.int32(0x7F800000)
_ONE, _FOUR = (np.float32(value).view(np.int32) for value in (1.0, 4.0))
_LARGEST = np.float32(6.0)


def round_magnitudes(scaled: Float32, steps: Float32) -> None:
    """Numbers of at least 0 become the nearest of E2M1, in place; `steps` is room of their shape."""
    bits = steps.view(np.int32)
    np.minimum(scaled, _LARGEST, out=scaled)
    np.bitwise_and(scaled.view(np.int32), _EXPONENT, out=bits)
    np.maximum(bits, _ONE, out=bits)
    np.minimum(bits, _FOUR, out=bits)
    steps *= _ROUNDER
    scaled += steps
    scaled -= steps


class BlockErrors:
    """The errors of some blocks under one scale after another.

    `magnitudes` (B, n) are those of their numbers, `weights` have the same shape or are None.
    """

    def __init__(self, magnitudes: Float32, weights: Float32 | None) -> None:
        self._magnitudes = magnitudes
        self._weights = weights
        self._scaled = np.empty_like(magnitudes)
        self._steps = np.empty_like(magnitudes)

    def under(self, scales: Float32 | np.float32) -> Float32:
        """The sums of weighted squared errors (n,) with scales (n,) above zero, or one for all."""
        scaled, steps = self._scaled, self._steps
        np.divide(self._magnitudes, scales, out=scaled)
        round_magnitudes(scaled, steps)
        scaled *= scales
        scaled -= self._magnitudes
        scaled *= scaled
        if self._weights is not None:
            scaled *= self._weights
        total: Float32 = np.add.reduce(scaled, axis=0)
        return total
