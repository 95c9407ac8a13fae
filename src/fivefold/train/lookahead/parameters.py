"""All trained numbers of a module as one vector, so that one step of the optimizer is a few operations.

The vector holds the embeddings of the rows, then for each matrix its pair. They begin so that the rows are
ordinary tokens and the pairs add nothing: embeddings are copies of random ones of the vocabulary, down is
drawn with variance 1 / K, up is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fivefold.core.batch import Float32

from .differentiable import Pairs


@dataclass(frozen=True, slots=True)
class Plan:
    """What is trained: n rows of `hidden` numbers, and pairs of a rank for matrices (M, K) by name."""

    rows: int
    hidden: int
    rank: int
    linears: Mapping[str, tuple[int, int]]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shapes of the parts of the vector, in order: embeddings, then down and up of each pair."""
        pairs = [
            shape
            for outer, inner in self.linears.values()
            for shape in ((self.rank, inner), (outer, self.rank))
        ]
        return [(self.rows, self.hidden), *pairs]

    @property
    def count(self) -> int:
        """Numbers in the vector."""
        return sum(map(prod, self.shapes))

    def begin(self, table: Float32, seed: int) -> Float32:
        """The vector before the first step; `table` are the embeddings of the vocabulary."""
        random = np.random.default_rng(seed)
        parts: list[npt.NDArray[Any]] = [table[random.integers(0, len(table), self.rows)]]
        for outer, inner in self.linears.values():
            parts.append(random.standard_normal((self.rank, inner)) / np.sqrt(inner))
            parts.append(np.zeros((outer, self.rank)))
        return np.concatenate([part.astype(np.float32).ravel() for part in parts])

    def parts(self, vector: Tensor) -> tuple[Tensor, Pairs]:
        """Embeddings (n, hidden) and pairs as views of the vector."""
        pieces = vector.split([prod(shape) for shape in self.shapes])
        views = [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]
        pairs = zip(views[1::2], views[2::2], strict=True)
        return views[0], dict(zip(self.linears, pairs, strict=True))
