"""Shares of a step's rows, and the pace that bounds them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivefold.engine.pace import FIRST_GUESS, LEAST_ROWS, Pace
from fivefold.engine.schedule import LEAST_SHARE, MOST_READERS, shares


@given(st.lists(st.integers(1, 5000), max_size=12), st.integers(0, 600))
def test_shares_keep_to_budget_and_backlog_and_waste_nothing(backlogs: list[int], budget: int) -> None:
    rows = shares(backlogs, budget)
    assert sum(rows.values()) <= budget
    assert len(rows) <= MOST_READERS
    assert all(0 < rows[index] <= backlogs[index] for index in rows)
    if backlogs and budget:
        assert rows.get(0, 0) > 0, "the oldest moves in every step"
    chosen = [0, *sorted(range(1, len(backlogs)), key=lambda index: backlogs[index])][:MOST_READERS]
    assert sum(rows.values()) == min(budget, sum(backlogs[index] for index in chosen[: len(backlogs)]))


def test_a_lone_prompt_takes_all() -> None:
    assert shares([6000], 512) == {0: 512}


def test_a_short_prompt_passes_a_long_one_that_still_moves() -> None:
    assert shares([6000, 40], 512) == {0: 472, 1: 40}
    assert shares([6000, 6000], 512) == {0: 256, 1: 256}
    assert shares([100_000, 9000, 30, 20], 256) == {0: 142, 3: 20, 2: 30, 1: 64}


def test_a_small_budget_is_not_cut_below_a_page() -> None:
    assert shares([500, 500, 500], LEAST_SHARE) == {0: LEAST_SHARE}
    assert shares([500, 500], 3) == {0: 3}


def test_the_pace_lets_prompts_use_a_step_alone() -> None:
    assert Pace().reading_rows(writing=0, most=512) == 512


def test_the_pace_begins_with_a_guess() -> None:
    assert Pace().reading_rows(writing=4, most=512) == FIRST_GUESS
    assert Pace().reading_rows(writing=4, most=8) == 8


@pytest.mark.parametrize(("row", "alone"), [(0.001, 0.010), (0.0005, 0.004), (0.0001, 0.02)])
def test_the_pace_finds_the_rows_that_stretch_a_step_so_far(row: float, alone: float) -> None:
    """Against a machine of known speed: steps of writers take `alone`, each row of a prompt adds `row`."""
    pace = Pace(stretch=2.0)
    for _ in range(20):
        pace.observe(8, 0, alone)
    for _ in range(40):
        rows = pace.reading_rows(8, 512)
        pace.observe(8, rows, alone + row * rows)
    rows = pace.reading_rows(8, 512)
    assert alone + row * rows <= 2.0 * alone * 1.01
    assert alone + row * (rows + 2) >= 2.0 * alone or rows == 512


def test_a_crowd_of_readers_may_stretch_a_step_further() -> None:
    pace = Pace(stretch=2.0)
    pace.observe(8, 0, 0.010)
    pace.observe(8, 10, 0.020)
    assert pace.reading_rows(8, 512, crowd=0.1) == pace.reading_rows(8, 512) == 10
    assert pace.reading_rows(8, 512, crowd=3.0) == 50
    assert pace.reading_rows(8, 30, crowd=3.0) == 30


def test_the_pace_never_stops_a_prompt() -> None:
    pace = Pace()
    pace.observe(1, 0, 0.001)
    pace.observe(1, 100, 10.0)
    assert pace.reading_rows(1, 512) == LEAST_ROWS
