"""Small statistics of measurements: medians with their spread, percentiles, a straight line through points.

Rounds are few, so they are all kept and shown; nothing is thrown away as an outlier.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Line:
    """A least-squares line: value = base + slope * x.

    residual   root of the mean squared distance of the points to it, in the unit of the values.
    r_squared  the share of the values' variance that it explains; 1 when they do not vary.
    """

    base: float
    slope: float
    residual: float
    r_squared: float


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """The line through points; None when fewer than two of them differ in x."""
    if len(set(x)) < 2:
        return None
    across, up = np.asarray(x, np.float64), np.asarray(y, np.float64)
    matrix = np.stack([np.ones_like(across), across], axis=1)
    (base, slope), *_ = np.linalg.lstsq(matrix, up, rcond=None)
    left = float(np.sum((up - base - slope * across) ** 2))
    whole = float(np.sum((up - up.mean()) ** 2))
    explained = 1.0 - left / whole if whole > 0 else 1.0
    return Line(float(base), float(slope), float(np.sqrt(left / len(across))), explained)


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """p50, p90, p95 and p99, interpolated linearly between the two nearest; None without values."""
    if not values:
        return None
    found = np.percentile(np.asarray(values, np.float64), PERCENTILES)
    return {f"p{name}": float(value) for name, value in zip(PERCENTILES, found, strict=True)}


def spread(rounds: Sequence[float], digits: int = 2) -> dict[str, Any]:
    """The median of the rounds, and the rounds."""
    return {
        "median": round(statistics.median(rounds), digits),
        "rounds": [round(value, digits) for value in rounds],
    }


def ratio(ours: float, theirs: float, digits: int = 3) -> float | None:
    """Ours over theirs; None when theirs is nothing."""
    return round(ours / theirs, digits) if theirs else None
