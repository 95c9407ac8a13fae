"""What the shape tests share: a Program with its cache run by the reference executor, and dense attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fivefold.cache import PagedCache
from fivefold.core.batch import Commit, Float32, Span, Step
from fivefold.core.layout import CacheLayout
from fivefold.program import Program, ReferenceCache, ReferenceExecutor, StepOutput

Mask = npt.NDArray[np.bool_]


class World:
    """Programs over one cache, with random weights that a test can read."""

    def __init__(self, layout: CacheLayout, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.storage = ReferenceCache(layout, 16, slots=8)
        self.cache = PagedCache(layout, {group.name: 16 for group in layout.groups}, self.storage, slots=8)
        self.weights: dict[str, Float32] = {}

    def weight(self, name: str, shape: tuple[int, ...]) -> Float32:
        if name not in self.weights:
            self.weights[name] = (self.random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        return self.weights[name]

    def rows(self, count: int, width: int) -> Float32:
        return self.random.standard_normal((count, width)).astype(np.float32)

    def run(self, program: Program, spans: Sequence[Span], taps: Sequence[str] = ()) -> StepOutput:
        for weight in program.weights.values():
            if weight.name not in program.constants:
                self.weight(weight.name, weight.shape)
        executor = ReferenceExecutor(program, self.weights.__getitem__, self.storage)
        found = executor.run(self.cache.prepare(Step(tuple(spans))), taps)
        self.cache.check_integrity()
        return found

    def commit(self, sequence: int, rows: Sequence[int]) -> None:
        self.cache.commit([Commit(sequence, np.array(rows, np.int32))])
        self.cache.check_integrity()


def span(sequence: int, positions: Sequence[int], visible: Sequence[tuple[int, int]], **rest: Any) -> Span:
    """A span by plain lists; tokens are zeros unless given."""
    tokens = np.array(rest.pop("tokens", [0] * len(positions)), np.int32)
    sets: Mapping[str, Sequence[int]] = rest.pop("row_sets", {})
    return Span(
        sequence,
        tokens,
        np.array(positions, np.int32),
        np.array(visible, np.int32).reshape(-1, 2),
        row_sets={name: np.array(rows, np.int32) for name, rows in sets.items()},
        **rest,
    )


def dense(queries: Float32, keys: Float32, values: Float32, seen: Mask, scale: float) -> Float32:
    """Attention of one KV head in float64: (N, H, D) over (S, D), (S, V), seen (N, S)."""
    scores = np.einsum("nhd,sd->nhs", queries.astype(np.float64), keys.astype(np.float64)) * scale
    scores = np.where(seen[:, None, :], scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("nhs,sv->nhv", weights, values).astype(np.float32)


@pytest.fixture
def world() -> Callable[..., World]:
    return World


@pytest.fixture
def make_span() -> Callable[..., Span]:
    return span


@pytest.fixture
def attend() -> Callable[..., Float32]:
    return dense
