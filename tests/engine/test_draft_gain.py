"""Whether drafts are made, learned from machines on which they help, hurt, or do nothing."""

from __future__ import annotations

import random

import pytest

from fivefold.engine.draft_gain import PART, DraftGain


def share_of_drafts(speed: float, noise: float, parts: int = 200, seed: int = 1) -> float:
    """How often drafts are wanted in the second half, where steps with them write `speed` times as fast, on a
    machine that is slow and fast by turns."""
    dice, gain, wanted = random.Random(seed), DraftGain(), 0
    pace = 1.0
    for step in range(parts * PART):
        if step % 500 == 0:
            pace = dice.uniform(0.6, 1.6)
        tokens = dice.choice((1, 2, 3, 4)) if gain.wanted else 1
        seconds = 0.001 * pace * dice.uniform(1 - noise, 1 + noise)
        wanted += gain.wanted and step >= parts * PART // 2
        gain.drafts += gain.wanted
        gain.note(1, tokens, seconds * (2.5 / speed if gain.wanted else 1.0))
    return wanted / (parts * PART / 2)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_faster_is_done_most_of_the_time(seed: int) -> None:
    assert share_of_drafts(1.3, 0.3, seed=seed) > 0.8
    assert share_of_drafts(0.75, 0.3, seed=seed) < 0.2


def test_drafts_are_made_at_first_and_both_ways_are_tried() -> None:
    gain = DraftGain()
    seen = []
    for _ in range(6 * PART):
        seen.append(gain.wanted)
        gain.drafts += gain.wanted
        gain.note(1, 1, 0.001)
    assert all(seen[:PART]) and not all(seen)


def test_a_part_with_other_writers_is_not_compared() -> None:
    gain = DraftGain()
    before = gain.gain
    for step in range(20 * PART):
        gain.drafts += gain.wanted
        gain.note(4 + 4 * (step // 2 % 2), 5, 0.001)
    assert gain.gain == before and gain.wanted


def test_writers_that_come_and_go_are_compared_by_the_tokens_of_one() -> None:
    """Thirty or so at once, one less or more with each step; drafts cost a tenth and bring nothing."""
    dice, gain = random.Random(4), DraftGain()
    for _ in range(100 * PART):
        writers = dice.choice((29, 30, 31, 32))
        gain.drafts += gain.wanted
        gain.note(writers, writers, 0.005 * (1.1 if gain.wanted else 1.0))
    assert gain.gain < -0.05


def test_where_drafts_are_clearly_dear_they_are_soon_left_out() -> None:
    gain, drafted = DraftGain(), 0
    for _ in range(100):
        drafted += gain.wanted
        gain.drafts += gain.wanted
        gain.note(32, 32, 0.014 if gain.wanted else 0.007)
    assert drafted <= 20


def test_a_part_in_which_no_draft_was_worth_making_says_nothing() -> None:
    gain = DraftGain()
    before = gain.gain
    for _ in range(100 * PART):
        gain.note(1, 1, 0.002 if gain.wanted else 0.001)
    assert gain.gain == before
