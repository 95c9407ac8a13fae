"""Small statistics of measurements: medians with their spread, percentiles, a straight line through points.

Rounds are few, so they are all kept and shown; nothing is thrown away as an outlier.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
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


@dataclass(frozen=True, slots=True)
class Curve:
    """A polynomial through points, the constant first, fitted so that relative distances are least.

    residual   root of the mean squared relative distance of the points to it.
    excess     the largest share by which a point lies above it (a cliff), and where; negative if none does.
    jump       the largest share by which the points rise from one to the next more than it does (a step that
               lasts), and where to.
    floor      what the points up to `flat_to` have in common, not on the polynomial; None if all are on it.
    """

    coefficients: tuple[float, ...]
    residual: float
    excess: float
    excess_at: float
    jump: float
    jump_at: float
    floor: float | None = None
    flat_to: float | None = None


def fit_curve(x: Sequence[float], y: Sequence[float], degree: int) -> Curve | None:
    """The polynomial of that degree; None unless more points than it has coefficients differ in x, and all
    are above zero."""
    if len(set(x)) <= degree + 1 or min(y) <= 0:
        return None
    across, up = np.asarray(x, np.float64), np.asarray(y, np.float64)
    coefficients = _coefficients(across, up, degree)
    return _curve(across, up, _values(coefficients, across), coefficients)


def fit_bent(x: Sequence[float], y: Sequence[float]) -> Curve | None:
    """A line, or a floor of two points or more and a line through the rest, whichever is nearer; x rising.

    None as with `fit_curve`.
    """
    best = fit_curve(x, y, 1)
    if best is None:
        return None
    across, up = np.asarray(x, np.float64), np.asarray(y, np.float64)
    for flat in range(2, len(x) - 2):
        coefficients = _coefficients(across[flat:], up[flat:], 1)
        floor = 1.0 / float(np.mean(1.0 / up[:flat]))
        fitted = np.concatenate([np.full(flat, floor), _values(coefficients, across[flat:])])
        found = _curve(across, up, fitted, coefficients)
        if found.residual < best.residual:
            best = replace(found, floor=floor, flat_to=float(across[flat - 1]))
    return best


def _coefficients(across: Float64, up: Float64, degree: int) -> Float64:
    matrix = across[:, None] ** np.arange(degree + 1)
    # Columns of one size, so that powers of thousands do not drown the constant.
    sizes = np.abs(matrix).max(axis=0)
    found, *_ = np.linalg.lstsq(matrix / sizes / up[:, None], np.ones_like(up), rcond=None)
    return np.asarray(found / sizes, np.float64)


def _values(coefficients: Float64, across: Float64) -> Float64:
    return np.asarray(across[:, None] ** np.arange(len(coefficients)) @ coefficients, np.float64)


def _curve(across: Float64, up: Float64, fitted: Float64, coefficients: Float64) -> Curve:
    over = up / fitted
    most = int(over.argmax())
    rises = over[1:] / over[:-1] - 1.0
    highest = int(rises.argmax())
    return Curve(
        tuple(float(each) for each in coefficients), float(np.sqrt(np.mean((over - 1.0) ** 2))),
        float(over[most] - 1.0), float(across[most]), float(rises[highest]), float(across[highest + 1]),
    )  # fmt: skip


def polynomial(coefficients: Sequence[float], digits: int) -> str:
    """A polynomial in x as people write it, the constant first."""
    text = f"{coefficients[0]:.{digits}g}"
    for power, each in enumerate(coefficients[1:], 1):
        text += f" {'-' if each < 0 else '+'} {abs(each):.{digits}g} x{'²' if power == 2 else ''}"
    return text


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
