"""Which tokens may be drawn: top-k, min-p and top-p, as functions from numbers to kept indices.

All three keep the front of one ranking: larger first, and of equals the lower index first. So the
outcome is the same as that of a full stable sort, though none of them sorts more than it must:
top-k partitions, and top-p first drops the tail which cannot belong to it. Indices are ascending.
The functions know neither parameters nor random numbers.
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
    threshold = np.partition(values, size - count)[size - count]
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
    goal = share * total
    # What lies below the mean weight of the tail left out cannot fill that tail; half of it is
    # taken, so that rounding does no harm.
    likely = np.flatnonzero(weights >= 0.5 * (1.0 - share) * total / len(weights))
    front = _front(weights[likely], goal)
    if front is None:
        likely = np.arange(len(weights))
        front = _front(weights, goal)
    return likely if front is None else np.sort(likely[front])


def _front(weights: Float64, goal: float) -> Indices | None:
    """The front of the ranking whose sum first reaches `goal`; None if all together do not."""
    order = np.argsort(-weights, kind="stable")
    reached = int(np.searchsorted(np.cumsum(weights[order]), goal, side="left"))
    return order[: reached + 1] if reached < len(order) else None
