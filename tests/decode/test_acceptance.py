"""What drafts were worth lately, to all requests."""

from __future__ import annotations

import pytest

from fivefold.decode.acceptance import LEAST_HOPE, Hope


def test_hope_follows_what_drafts_were_worth() -> None:
    hope = Hope()
    for _ in range(200):
        hope.observe([0.9, 0.6, 0.3])
    assert hope.worth(4) == pytest.approx([0.9, 0.6, 0.3, 0.15], abs=0.01)
    hope.observe([0.9, 0.7])
    assert hope.worth(3)[2] < 0.3, "a place that was not reached was worth nothing"


def test_after_the_worst_drafts_another_one_can_be_asked_for() -> None:
    hope = Hope()
    for _ in range(500):
        hope.observe([0.0, 0.0])
    assert hope.worth(2) == [LEAST_HOPE, pytest.approx(0.0, abs=1e-6)]
    for _ in range(60):
        hope.observe([0.8, 0.5])
    assert hope.worth(2) == pytest.approx([0.8, 0.5], abs=0.1)
