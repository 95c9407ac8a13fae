"""The attention that queries to come will pay, by their statistics: Expected Attention (Devoto et al.,
arXiv 2510.00636).

Queries before rotation are taken for normally distributed, with the prompt's mean and covariance; rotated by
the mean of the positions to come they give each key the expectation of exp(q k / sqrt D). Its share of
the sum is weighed with the length of the value. No row's attention is needed, but keys and queries are.
Defaults are those of kvpress (github.com/NVIDIA/kvpress), which is the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fivefold.core.batch import Float32
from fivefold.core.errors import InputError, NotFiniteError

from .policy import Evidence, Observation, QueryStatistics
from .scored import Scored
from .selection import Frame

FUTURE = 512
"""Positions to come over which the rotation is averaged."""


def mean_rotation(
    frequencies: Float32, first: int, count: int = FUTURE, size: int | None = None, halves: bool = True
) -> Float32:
    """(D, D) the mean of the rotations at positions `first` to `first + count` - 1.

    `frequencies` (R / 2,) are the angles of one position. Number i is turned together with number i + R / 2,
    or with its neighbour if not `halves`; numbers of the `size` D that are not turned stay.
    """
    turned = len(frequencies)
    angles = (first + np.arange(count))[:, None] * frequencies.astype(np.float64)
    cosine, sine = np.cos(angles).mean(axis=0), np.sin(angles).mean(axis=0)
    one = np.arange(turned) if halves else 2 * np.arange(turned)
    other = one + (turned if halves else 1)
    matrix = np.eye(size or 2 * turned)
    matrix[one, one] = matrix[other, other] = cosine
    matrix[one, other], matrix[other, one] = -sine, sine
    return matrix.astype(np.float32)


def expected_logarithms(keys: Float32, mean: Float32, covariance: Float32) -> Float32:
    """(H, S) the logarithm of the expected exp(q k / sqrt D), for queries with `mean` (H, D) and `covariance`
    (H, D, D), and `keys` (S, D)."""
    size = keys.shape[-1]
    linear: Float32 = mean @ keys.T / np.float32(np.sqrt(size))
    for head, matrix in enumerate(covariance):
        linear[head] += ((keys @ matrix) * keys).sum(axis=-1) / np.float32(2 * size)
    return linear


@dataclass(frozen=True, slots=True)
class ExpectedAttention(Scored):
    """`epsilon` is added to the expected attention before it is weighed."""

    name: str = "expected_attention"
    window: int = 0
    pool: int = 1
    epsilon: float = 0.0

    def observation(self, length: int) -> Observation:
        """Keys, lengths of values, and statistics of queries."""
        return Observation(statistics=True)

    def scores(self, evidence: Evidence, frame: Frame) -> Float32:
        """(L, KV heads, candidates): the mean over the query heads of a KV head."""
        keys, norms, queries = _statistics(evidence)
        share = queries.mean.shape[1] // evidence.kv_heads
        found = np.empty((evidence.layers, evidence.kv_heads, frame.count), np.float32)
        for layer, head in np.ndindex(evidence.layers, evidence.kv_heads):
            own = slice(head * share, (head + 1) * share)
            rotation = queries.rotation if queries.rotation.ndim == 2 else queries.rotation[layer]
            mean: Float32 = queries.mean[layer, own] @ rotation.T
            covariance = (rotation @ queries.covariance[layer, own] @ rotation.T).astype(
                np.float32, copy=False
            )
            logarithms = expected_logarithms(keys[layer, head, frame.sinks :], mean, covariance)
            expected = np.exp(logarithms - logarithms.max(axis=-1, keepdims=True))
            expected /= expected.sum(axis=-1, keepdims=True)
            weighed = (expected.mean(axis=0) + np.float32(self.epsilon)) * norms[layer, head, frame.sinks :]
            found[layer, head] = weighed[: frame.count]
        if not np.isfinite(found).all():
            raise NotFiniteError("the expected attention to an entry is not finite", where="eviction")
        return found


def _statistics(evidence: Evidence) -> tuple[Float32, Float32, QueryStatistics]:
    """Keys, lengths of values, and the queries' statistics; InputError unless all are there."""
    keys, norms, queries = evidence.keys, evidence.value_norms, evidence.queries
    if keys is None or norms is None or queries is None:
        raise InputError(
            "keys, values and queries were not measured", where="eviction",
            remedy="give the statistics that the observation asks for",
        )  # fmt: skip
    shape = (evidence.layers, evidence.kv_heads, evidence.slots)
    if keys.shape[:3] != shape or norms.shape != shape or queries.mean.shape[1] % evidence.kv_heads:
        raise InputError(f"statistics are not those of (layers, KV heads, slots) {shape}", where="eviction")
    return keys, norms, queries


POLICY = ExpectedAttention()
