"""Statistics of paired comparisons, against numbers worked out by hand and plain other ways."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from fivefold.bench.eviction.statistics import Difference, Summary, paired, verdict, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (8, 8, 0.6756, 1.0),  # 8 / (8 + z²)
        (0, 8, 0.0, 0.3244),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),  # the same
        (1, 29, 0.0061, 0.1718),  # the same
    ],
)
def test_wilson_is_that_of_the_tables(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=6e-5)


def test_wilsons_ends_are_where_the_share_is_z_standard_errors_away() -> None:
    share = 0.3
    for end in wilson(30, 100):
        assert abs(end - share) / math.sqrt(end * (1 - end) / 100) == pytest.approx(1.959964, abs=1e-5)


def test_no_trials_say_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_bootstrap_is_a_plain_one_within_its_noise() -> None:
    draw = random.Random(1)
    ours = [draw.gauss(0.2, 1) for _ in range(40)]
    theirs = [draw.gauss(0, 1) for _ in range(40)]
    found = paired(ours, theirs)
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    means = sorted(statistics.fmean(draw.choices(differences, k=40)) for _ in range(4000))
    assert found.mean == pytest.approx(statistics.fmean(differences))
    assert found.low == pytest.approx(means[100], abs=0.05)
    assert found.high == pytest.approx(means[3899], abs=0.05)


def test_the_bootstrap_gives_the_same_every_time_and_is_paired() -> None:
    ours, theirs = [1.0, 5.0, 2.0, 9.0], [0.5, 4.5, 1.5, 8.5]
    assert paired(ours, theirs) == paired(ours, theirs) == Difference(4, 0.5, 0.5, 0.5)
    assert paired(ours, theirs[::-1]) != paired(ours, theirs)


@pytest.mark.parametrize(
    ("low", "high", "less_is_better", "word"),
    [
        (0.1, 0.2, False, "above"), (-0.2, -0.1, False, "below"), (-0.1, 0.2, False, "not worse"),
        (-0.2, -0.1, True, "above"), (0.1, 0.2, True, "below"), (0.0, 0.2, False, "not worse"),
        (0.0, 0.2, True, "not worse"),
    ],
)  # fmt: skip
def test_verdicts_follow_the_interval(low: float, high: float, less_is_better: bool, word: str) -> None:
    assert verdict(Difference(9, (low + high) / 2, low, high), less_is_better) == word


def test_quartiles_are_interpolated() -> None:
    assert Summary.of([4.0, 1.0, 2.0, 3.0]) == Summary(4, 2.5, 1.75, 2.5, 3.25)
