"""The choice of experts, held against plain words for what each family does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fivefold.ops import OPS, Call

EXPERTS = 12


def route(logits: Any, bias: Any = None, **given: Any) -> tuple[list[list[int]], Any]:
    """Numbers of experts and their weights."""
    plain = {"scoring": 0, "normalise": 1, "factor": 1.0, "groups": 1, "groups_chosen": 1, "group_best": 1}
    batch: Any = SimpleNamespace()
    call = Call([logits], [bias, None], {**plain, **given}, batch, np.arange(len(logits)), 0)
    (found,) = OPS["route"].reference(call)
    count = found.shape[1] // 2
    return found[:, :count].astype(int).tolist(), found[:, count:]


@pytest.fixture
def logits() -> Any:
    return np.random.default_rng(0).normal(0, 1.5, (20, EXPERTS)).astype(np.float32)


def softmax(row: Any) -> Any:
    raised = np.exp(row.astype(np.float64) - row.max())
    return raised / raised.sum()


def sigmoid(row: Any) -> Any:
    return 1 / (1 + np.exp(-row.astype(np.float64)))


def first_best(scores: Any, count: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda e: (-scores[e], e))[:count]


def test_qwen3_divides_the_shares_of_all_by_those_of_the_chosen(logits: Any) -> None:
    numbers, weights = route(logits, chosen=3)
    for row, best, shares in zip(logits, numbers, weights, strict=True):
        scores = softmax(row)
        assert best == first_best(scores, 3)
        np.testing.assert_allclose(shares, scores[best] / scores[best].sum(), rtol=1e-6)
    _, plain = route(logits, chosen=3, normalise=0)
    np.testing.assert_allclose(plain[0], softmax(logits[0])[numbers[0]], rtol=1e-6)


def test_gpt_oss_takes_a_softmax_of_the_chosen(logits: Any) -> None:
    numbers, weights = route(logits, chosen=4, scoring=1)
    for row, best, shares in zip(logits, numbers, weights, strict=True):
        assert best == first_best(row, 4)
        np.testing.assert_allclose(shares, softmax(row[best]), rtol=1e-6)


def test_deepseek_v2_chooses_from_groups_with_the_best_expert(logits: Any) -> None:
    given = {"normalise": 0, "factor": 16.0, "groups": 4, "groups_chosen": 2}
    numbers, weights = route(logits, chosen=3, **given)
    differs = False
    for row, best, shares in zip(logits, numbers, weights, strict=True):
        scores = softmax(row)
        groups = first_best(scores.reshape(4, 3).max(axis=1), 2)
        allowed = [score if e // 3 in groups else -1.0 for e, score in enumerate(scores)]
        assert best == first_best(allowed, 3)
        differs |= best != first_best(scores, 3)
        np.testing.assert_allclose(shares, 16 * scores[best], rtol=1e-6)
    assert differs


def test_deepseek_v3_adds_a_bias_for_the_choice_alone(logits: Any) -> None:
    bias = np.random.default_rng(1).normal(0, 0.5, EXPERTS).astype(np.float32)
    given = {"scoring": 2, "factor": 2.5, "groups": 4, "groups_chosen": 2, "group_best": 2}
    numbers, weights = route(logits, bias, chosen=3, **given)
    for row, best, shares in zip(logits, numbers, weights, strict=True):
        scores = sigmoid(row)
        keys = scores.astype(np.float32) + bias
        groups = first_best(np.sort(keys.reshape(4, 3), axis=1)[:, -2:].sum(axis=1), 2)
        assert best == first_best([k if e // 3 in groups else -9.0 for e, k in enumerate(keys)], 3)
        np.testing.assert_allclose(shares, 2.5 * scores[best] / scores[best].sum(), rtol=1e-6)


@pytest.mark.parametrize("scoring", [0, 1, 2])
def test_of_equals_the_lowest_number_is_chosen(scoring: int) -> None:
    logits = np.array([[1, 2, 2, 1, 2, 0], [0, 0, 0, 0, 0, 0]], np.float32)
    numbers, _ = route(logits, chosen=4, scoring=scoring)
    assert numbers == [[1, 2, 4, 0], [0, 1, 2, 3]]
    grouped, _ = route(logits, chosen=2, scoring=scoring, groups=3, groups_chosen=1)
    assert grouped == [[1, 0], [0, 1]]


def test_scores_that_vanish_do_not_divide_by_nothing() -> None:
    _, weights = route(np.full((1, 4), -800, np.float32), chosen=2, scoring=2)
    assert np.isfinite(weights).all()
