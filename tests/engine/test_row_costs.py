"""What a step costs by its rows, learned from machines of known speed; and rows given where they pay."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivefold.engine.extra_rows import LEAST_GAIN, extra_rows
from fivefold.engine.row_costs import MOST_ROWS, OLD, ROW, RowCosts

Machine = Callable[[int], float]
MACHINES: dict[str, Machine] = {
    "line": lambda rows: 0.01 * (1 + 0.15 * (rows - 1)),
    "free": lambda rows: 0.02,
    "dear": lambda rows: 0.001 * rows,
    "tiles": lambda rows: 0.005 * (1 + 0.5 * ((rows - 1) // 4)),
    "knee": lambda rows: 0.01 * max(1.0, 0.2 * rows),
}


@pytest.mark.parametrize("name", MACHINES)
def test_the_form_of_the_curve_is_learned(name: str) -> None:
    """From noisy steps of all sizes, one in twenty far too slow, at a depth that makes all of them slower."""
    machine, dice, costs = MACHINES[name], random.Random(3), RowCosts()
    for step in range(1500):
        rows = dice.choice((1, 1, 2, 3, 4, 5, 8, 12, 16))
        seconds = machine(rows) * (1 + step / 1000) * dice.uniform(0.95, 1.05)
        costs.observe(rows, seconds * (10 if dice.random() < 0.05 else 1))
    for rows in (2, 4, 5, 8, 16):
        told, true = costs.seconds(rows) / costs.seconds(1), machine(rows) / machine(1)
        assert told == pytest.approx(true, rel=0.12), rows
    assert costs.seconds(1) == pytest.approx(machine(1) * 2.5, rel=0.2)


def test_before_anything_is_known_there_is_a_line() -> None:
    costs = RowCosts()
    assert not costs.measured and costs.is_old(1)
    costs.observe(4, 0.1)
    assert costs.measured and costs.is_old(1) and not costs.is_old(4)
    assert costs.seconds(4) == pytest.approx(0.1)
    assert costs.seconds(1) == pytest.approx(0.1 / (1 + 3 * ROW))
    assert list(costs.table()) == [4]


def test_what_is_no_step_of_writers_is_not_counted() -> None:
    costs = RowCosts()
    for rows, seconds in ((0, 1.0), (MOST_ROWS + 1, 1.0), (1, 0.0)):
        costs.observe(rows, seconds)
    assert not costs.measured


def test_one_slow_step_changes_little_wherever_it_comes() -> None:
    for place in range(10):
        costs, other = RowCosts(), RowCosts()
        for step in range(40):
            for rows, seconds in ((1, 0.01), (5, 0.016)):
                other.observe(rows, seconds)
                costs.observe(rows, 5.0 if (step, rows) == (place, 5) else seconds)
        assert costs.seconds(5) / costs.seconds(1) == pytest.approx(1.6, rel=0.1)
        assert costs.seconds(1) == pytest.approx(other.seconds(1), rel=0.1)


def test_what_is_remembered_is_what_would_be_computed() -> None:
    """But for factors that only time moves, a little, for a few steps."""
    dice, costs = random.Random(5), RowCosts()
    numbers = [*range(1, MOST_ROWS + 1), 65, 260]
    for step in range(400):
        rows = dice.choice((1, 1, 1, 2, 3, 5, 8, 16, 40)) if step > 40 else 1 + step % 3
        costs.observe(rows, 0.01 * (1 + 0.1 * rows) * dice.uniform(0.8, 1.3))
        for number in numbers:
            anew = costs._scale * costs._relative(number)
            assert costs.seconds(number) == pytest.approx(anew, rel=0.03), (step, number)


def test_what_was_measured_long_ago_is_forgotten() -> None:
    """Else a size that seemed dear once would never be tried again."""
    costs = RowCosts()
    for _ in range(60):
        costs.observe(1, 0.01)
        costs.observe(4, 0.2)
    dear = costs.seconds(4) / costs.seconds(1)
    assert dear > 8
    for _ in range(2 * OLD):
        costs.observe(1, 0.01)
    assert costs.is_old(4) and not costs.is_old(1)
    for _ in range(3000):
        costs.observe(1, 0.01)
    assert costs.seconds(4) / costs.seconds(1) == pytest.approx(1 + 3 * ROW, rel=0.1)


WORTH = st.lists(
    st.lists(st.floats(0.0, 1.0), max_size=4).map(lambda each: sorted(each, reverse=True)), max_size=4
)


@given(WORTH, st.integers(0, 3), st.integers(0, 12), st.sampled_from(sorted(MACHINES)))
def test_rows_are_given_as_a_search_of_all_ways_would(
    worth: list[list[float]], reading: int, room: int, name: str
) -> None:
    machine, rows = MACHINES[name], len(worth) + reading
    given_rows, rate = extra_rows(worth, rows, room, machine)

    def rate_of(counts: tuple[int, ...]) -> float:
        tokens = len(worth) + sum(sum(each[:count]) for each, count in zip(worth, counts, strict=True))
        return tokens / machine(rows + sum(counts))

    ways = itertools.product(*(range(len(each) + 1) for each in worth))
    best = max(rate_of(counts) for counts in ways if sum(counts) <= max(room, 0)) if worth else 0.0
    assert len(given_rows) == len(worth) and sum(given_rows) <= room
    assert rate_of(tuple(given_rows)) == pytest.approx(rate) if worth else rate == 0.0
    plain = len(worth) / machine(rows) if worth else 0.0
    assert rate == pytest.approx(best if best > plain * LEAST_GAIN else plain)


def test_a_full_batch_gets_no_rows_for_guesses_where_the_free_ones_are_used_up() -> None:
    worth = [[0.9, 0.8, 0.7]] * 32
    assert sum(extra_rows(worth, 32, 480, MACHINES["dear"])[0]) == 0
    assert sum(extra_rows(worth[:1], 1, 480, MACHINES["knee"])[0]) == 3
    assert extra_rows(worth[:2], 2, 480, MACHINES["knee"])[0] == [2, 1]
    assert sum(extra_rows(worth, 32, 480, MACHINES["free"])[0]) == 96
