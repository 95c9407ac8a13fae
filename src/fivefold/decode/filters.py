"""Which tokens may be drawn: top-k, min-p and top-p, as functions from numbers to kept indices.

All three keep the front of one ranking: larger first, and of equals the lower index first. So the
outcome is the same as that of a full stable sort, though none of them sorts more than it must:
top-k partitions, and top-p sorts values alone, without the tail that cannot belong to its front.
Indices are ascending. The functions know neither parameters nor random numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


def top_k(values: Floats, count: int) -> Indices:
    """Indices of the `count` largest of (V,) values, exactly as many; NaN is not allowed."""
    size = len(values)
    if count >= size:
        return np.arange(size)
    return _front(values, np.partition(values, size - count)[size - count], count)


def _front(values: Floats, threshold: np.floating[Any], count: int) -> Indices:
    """The first `count` of the ranking, given the value of the last of them."""
    reached = np.flatnonzero(values >= threshold)
    surplus = len(reached) - count
    if surplus == 0:
        return reached
    tied = np.flatnonzero(values[reached] == threshold)
    return np.delete(reached, tied[len(tied) - surplus :])


def ranked(values: Floats, count: int) -> Indices:
    """Indices of the `count` largest of (V,) values, best first, of equals the lower index first."""
    kept = top_k(values, count)
    return kept[np.argsort(-values[kept], kind="stable")]


def min_p(scaled: Float64, share: float) -> Indices:
    """Indices of the tokens at least `share` (0 to 1) times as likely as the likeliest.

    scaled  (V,) logits over temperature, less their maximum.
    """
    return np.flatnonzero(scaled >= (math.log(share) if share > 0.0 else -math.inf))


def top_p(weights: Float64, share: float) -> Indices:
    """Indices of the shortest front of the ranking that holds `share` (above 0) of the weight.

    weights  (V,) probabilities, times any factor. At least one index is kept.
    """
    total = float(weights.sum())
    # Weights below the mean of the tail left out cannot fill that tail, so they are no part of the
    # front. Half of that mean is taken as the limit, so that rounding does no harm.
    likely = np.flatnonzero(weights >= 0.5 * (1.0 - share) * total / len(weights))
    for candidates in (likely, np.arange(len(weights))):
        values = np.sort(weights[candidates])[::-1]
        reached = int(np.searchsorted(np.cumsum(values), share * total, side="left"))
        if reached < len(values):
            return candidates[_front(weights[candidates], values[reached], reached + 1)]
    return np.arange(len(weights))
