"""Percentiles, spreads and fits against numpy, the standard library and data whose answer is known."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from fivefold.bench.summary import PERCENTILES, fit_line, percentiles, ratio, spread


def test_percentiles_of_a_ramp_are_known() -> None:
    found = percentiles([float(value) for value in range(101)])
    assert found == {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}


def test_percentiles_do_not_depend_on_the_order_and_agree_with_the_standard_library() -> None:
    values = [float(value) for value in np.random.default_rng(3).lognormal(size=997)]
    found = percentiles(values)
    assert found is not None
    assert found == percentiles(sorted(values, reverse=True))
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    for name in PERCENTILES:
        assert found[f"p{name}"] == pytest.approx(cuts[name - 1])


def test_percentiles_of_little() -> None:
    assert percentiles([]) is None
    assert percentiles([2.5]) == {"p50": 2.5, "p90": 2.5, "p95": 2.5, "p99": 2.5}


def test_a_line_is_found_again() -> None:
    depths = [0.0, 1000.0, 2000.0, 4000.0]
    line = fit_line(depths, [0.003 + 2e-6 * depth for depth in depths])
    assert line is not None
    assert line.base == pytest.approx(0.003)
    assert line.slope == pytest.approx(2e-6)
    assert line.residual == pytest.approx(0.0, abs=1e-12)
    assert line.r_squared == pytest.approx(1.0)


def test_a_noisy_line_agrees_with_numpy() -> None:
    generator = np.random.default_rng(5)
    x = generator.uniform(0, 6000, 40)
    y = 0.004 + 1.5e-6 * x + generator.normal(0, 3e-4, 40)
    line = fit_line(list(x), list(y))
    slope, base = np.polyfit(x, y, 1)
    assert line is not None
    assert (line.slope, line.base) == pytest.approx((slope, base))
    left = y - base - slope * x
    assert line.residual == pytest.approx(float(np.sqrt(np.mean(left**2))))
    assert line.r_squared == pytest.approx(float(np.corrcoef(x, y)[0, 1] ** 2))


def test_no_line_through_one_depth() -> None:
    assert fit_line([5.0, 5.0, 5.0], [1.0, 2.0, 3.0]) is None
    assert fit_line([], []) is None


def test_a_level_line_explains_all_of_nothing() -> None:
    line = fit_line([0.0, 1.0, 2.0], [4.0, 4.0, 4.0])
    assert line is not None
    assert (line.slope, line.r_squared) == pytest.approx((0.0, 1.0))


def test_spread_and_ratio() -> None:
    assert spread([3.0, 1.0, 2.004]) == {"median": 2.0, "rounds": [3.0, 1.0, 2.0]}
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(3.0, 0.0) is None
