"""The test of draws: its arithmetic against known values, and what it says of right and of wrong draws."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fivefold.bench.parallel.chi_square import Draws, survival, two_samples
from fivefold.engine import LoadedModel, LoadOptions, load

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
PROMPT = (5, 9, 7, 11, 3)
COUNT = 600


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(TINY, LoadOptions(threads=1, entries=512))


@pytest.mark.parametrize(
    ("statistic", "degrees", "expected"),
    [(0.0, 5, 1.0), (3.841458820694124, 1, 0.05), (18.307038053275146, 10, 0.05), (2.0, 2, 0.367879441),
     (9.341818, 10, 0.5), (149.4492527, 100, 0.001), (1000.0, 4, 3.5e-215), (3.0, 0, 1.0)],
)  # fmt: skip
def test_survival_is_that_of_the_tables(statistic: float, degrees: int, expected: float) -> None:
    assert survival(statistic, degrees) == pytest.approx(expected, rel=2e-3 if expected < 1e-9 else 1e-5)


def test_two_samples() -> None:
    """By hand: 60:40 against 50:50 of a hundred each; seldom outcomes count as one."""
    test = two_samples({(1,): 60, (2,): 40}, {(1,): 50, (2,): 50})
    assert (test.statistic, test.degrees) == (
        pytest.approx(200 * (60 * 50 - 40 * 50) ** 2 / (100**2 * 110 * 90)),
        1,
    )
    same = Counter({(1,): 50, **{(2, token): 1 for token in range(20)}})
    assert two_samples(same, same).degrees == 1 and two_samples(same, same).chance == 1
    other = Counter({(1,): 50, **{(3, token): 1 for token in range(20)}})
    assert two_samples(same, other).degrees == 1


def test_checked_draws_are_of_the_models_distribution(loaded: LoadedModel) -> None:
    drawn = Draws(loaded, PROMPT, 0.8)
    plain = Counter(drawn.plain(seed) for seed in range(COUNT))
    assert drawn.guessed == 0
    checked = Counter(drawn.checked(COUNT + seed) for seed in range(COUNT))
    assert 0.05 < drawn.right / drawn.guessed < 0.95, "some guesses are right, some are not"
    assert any(len(outcome) == 2 for outcome in checked), "both places of a window are tested"
    test = two_samples(plain, checked)
    assert test.degrees >= 5 and test.chance > 0.001
    again = [drawn.checked(seed) for seed in range(40)]
    assert again == [drawn.plain(seed) for seed in range(40)], "the same seeds give the same tokens"
    drawn.close()
    loaded.runner.check_integrity()
    assert loaded.runner.figures().used == 0


def test_other_distributions_are_found_out(loaded: LoadedModel) -> None:
    """As they would be if a guess were taken too often, or if what comes in its place were drawn wrongly."""
    drawn, warmer = Draws(loaded, PROMPT, 0.8), Draws(loaded, PROMPT, 1.2)
    plain = Counter(drawn.plain(seed) for seed in range(COUNT))
    other = Counter(warmer.checked(COUNT + seed) for seed in range(COUNT))
    eager = Counter(
        (drawn.likeliest, 0) if seed % 5 == 0 else drawn.checked(COUNT + seed) for seed in range(COUNT)
    )
    for wrong in (other, eager):
        assert two_samples(plain, wrong).chance < 1e-6
    drawn.close()
    warmer.close()
