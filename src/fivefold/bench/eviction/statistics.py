"""Statistics of paired comparisons over prompts: quartiles, Wilson's interval, the bootstrap, a verdict.

What they are used for, and the words of the verdict, was written down before anything was measured:
docs/decisions/0011-how-eviction-is-measured.md. Nothing here knows a policy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

SAMPLES = 10_000
SEED = 0
Z_95 = 1.959963984540054
"""The quantile of the normal distribution that leaves 2.5 % above it."""
_ROWS = 1000

Verdict = Literal["above", "not worse", "below"]


@dataclass(frozen=True, slots=True)
class Summary:
    """Of some values: how many, their mean, and the quartiles, interpolated linearly."""

    count: int
    mean: float
    low: float
    median: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Summary:
        """Of at least one value."""
        low, median, high = np.percentile(np.asarray(values, np.float64), (25, 50, 75))
        return Summary(len(values), float(np.mean(values)), float(low), float(median), float(high))


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of paired differences with the 95 % interval of the bootstrap."""

    count: int
    mean: float
    low: float
    high: float


def wilson(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's interval of a share (1927): its ends, 0 and 1 where there were no trials."""
    if not trials:
        return 0.0, 1.0
    share = successes / trials
    scale = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired(
    ours: Sequence[float], theirs: Sequence[float], samples: int = SAMPLES, seed: int = SEED
) -> Difference:
    """Ours less theirs, prompt by prompt: the mean, and percentiles of the means of resampled prompts."""
    differences = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    random, count = np.random.default_rng(seed), len(differences)
    means = np.empty(samples)
    for first in range(0, samples, _ROWS):  # drawn in parts: all at once would be large
        rows = min(_ROWS, samples - first)
        means[first : first + rows] = differences[random.integers(0, count, (rows, count))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Difference(count, float(differences.mean()), float(low), float(high))


def verdict(difference: Difference, less_is_better: bool) -> Verdict:
    """`above` if the interval leaves out zero on the right side, `below` if on the wrong one."""
    low, high = difference.low, difference.high
    if less_is_better:
        low, high = -high, -low
    if low > 0:
        return "above"
    return "below" if high < 0 else "not worse"
