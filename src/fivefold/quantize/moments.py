"""What is known of the rows that a matrix takes: their second moments and means, in two models.

The one is the model that is quantized, the other what has become of it so far. x' are rows of the first, x of
the second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over all rows of a text.

    own          x x^T, (K, K).
    cross        x' x^T, (K, K), or None where x' is taken to be x.
    mean         of x, (K,); plain_mean of x'.
    """

    own: Float64
    cross: Float64 | None = None
    mean: Float64 | None = None
    plain_mean: Float64 | None = None

    @property
    def importance(self) -> Float32:
        """The mean square of each column, up to a factor."""
        return np.diag(self.own).astype(np.float32)

    def scaled(self, factors: Float64) -> Moments:
        """Those of x * factors, column by column; x' stays."""
        return replace(
            self,
            own=self.own * factors * factors[:, None],
            cross=None if self.cross is None else self.cross * factors,
            mean=None if self.mean is None else self.mean * factors,
        )

    def target(self, values: Float32, damping: float) -> Float32:
        """The matrix (M, K) whose outputs of x are nearest to those of `values` (M, K) of x'."""
        if self.cross is None:
            return values
        ridge = self.ridge(damping)
        moved = values.astype(np.float64) @ (self.cross + ridge)
        found: Float32 = np.linalg.solve(self.own + ridge, moved.T).T.astype(np.float32)
        return found

    def ridge(self, damping: float) -> Float64:
        """So much of the mean square is added to each column's: what was hardly seen keeps its place."""
        mean = float(np.trace(self.own)) / len(self.own)
        return np.eye(len(self.own)) * (damping * mean or 1.0)

    def error(self, values: Float32, stored: Float32) -> float:
        """The squared error of all outputs with `stored` in place of `values`, over x alone."""
        lost = values.astype(np.float64) - stored
        return float(np.einsum("mk,mk->", lost @ self.own, lost))


def moments_of(rows: Iterable[Float32], plain: Iterable[Float32] | None = None) -> Moments:
    """Those of windows of rows (n, K), and of the same windows in the plain model if they are given."""
    own = cross = None
    mean, plain_mean, count = np.float64(0.0), np.float64(0.0), 0
    pairs = ((each, each) for each in rows) if plain is None else zip(rows, plain, strict=True)
    for after, before in pairs:
        square = (after.T @ after).astype(np.float64)
        own = square if own is None else own + square
        if plain is not None:
            mixed = (before.T @ after).astype(np.float64)
            cross = mixed if cross is None else cross + mixed
        mean = mean + after.sum(axis=0, dtype=np.float64)
        plain_mean = plain_mean + before.sum(axis=0, dtype=np.float64)
        count += len(after)
    assert own is not None
    return Moments(own, cross, np.asarray(mean / count), np.asarray(plain_mean / count))
