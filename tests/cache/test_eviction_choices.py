"""Small cases counted by hand: what each policy keeps, budgets, and pooling."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest

from fivefold.cache.eviction import POLICIES, Budget, Evidence, QueryStatistics
from fivefold.cache.eviction.adakv import head_counts
from fivefold.cache.eviction.expected_attention import expected_logarithms, mean_rotation
from fivefold.cache.eviction.pooling import average_pool, max_pool
from fivefold.cache.eviction.pyramidkv import layer_counts
from fivefold.cache.eviction.selection import Frame
from fivefold.core.errors import InputError


def choose(name: str, importance: Any, budget: int, kv_heads: int = 1, **numbers: Any) -> Any:
    """What a policy with these numbers keeps, as lists."""
    scores = np.array(importance, np.float32)
    policy: Any = dataclasses.replace(POLICIES[name], **numbers)  # type: ignore[type-var]
    kept = policy.select(Evidence(scores.shape[0], kv_heads, scores.shape[2], scores), budget)
    return [[np.asarray(head).tolist() for head in layer] for layer in kept]


def test_window_keeps_both_ends() -> None:
    """arXiv 2309.17453: four sinks and the last ones; a quarter of a small budget are sinks."""
    nothing = np.zeros((1, 1, 30))
    assert choose("window", nothing, 16) == [[[0, 1, 2, 3, *range(18, 30)]]]
    assert choose("window", nothing, 5) == [[[0, 26, 27, 28, 29]]]


def test_h2o_keeps_half_of_recent_ones() -> None:
    """arXiv 2306.14048: half of the budget is recent, half what was attended to most."""
    scores = [[[0, 9, 1, 2, 8, 3, 7, 0, 0, 0, 0, 0]]]
    assert choose("h2o", scores, 4, sinks=0) == [[[1, 4, 10, 11]]]
    assert choose("h2o", scores, 8) == [[[0, 1, 4, 6, 8, 9, 10, 11]]]


def test_tova_chooses_once_for_a_layer() -> None:
    """arXiv 2401.06104: the mean over all heads; slot 2 is first for no head and second for both."""
    scores = [[[5, 0, 4, 0, 0, 0], [0, 5, 4, 1, 0, 0]]]
    assert choose("tova", scores, 2, kv_heads=2) == [[[2, 5], [2, 5]]]
    assert choose("tova", scores, 4, kv_heads=2, sinks=0) == [[[0, 1, 2, 5], [0, 1, 2, 5]]]


def test_snapkv_takes_the_mean_of_a_group_and_the_neighbours() -> None:
    """arXiv 2404.14469: KV head 0 has query heads 0 and 1; slots beside a high one come along."""
    scores = np.zeros((1, 4, 16))
    scores[0, 0, 6], scores[0, 1, 6], scores[0, 1, 10] = 3, 3, 4
    scores[0, 2, 4] = scores[0, 3, 12] = 1
    kept = choose("snapkv", scores, 8, kv_heads=2, window=2, sinks=0, pool=3)
    assert kept == [[[5, 6, 7, 9, 10, 11, 14, 15], [3, 4, 5, 11, 12, 13, 14, 15]]]
    cut = choose("snapkv", scores, 4, kv_heads=2, window=2, sinks=0, pool=3)
    assert cut == [[[5, 6, 14, 15], [4, 12, 14, 15]]], "the slot itself comes before its neighbours"
    plain = choose("snapkv", scores, 4, kv_heads=2, window=2, sinks=0, pool=1)
    assert plain == [[[6, 10, 14, 15], [4, 12, 14, 15]]]


def test_snapkv_does_not_pool_what_is_kept_anyway() -> None:
    """A window and sinks that all look at lift none of their neighbours."""
    scores = np.zeros((1, 1, 40))
    scores[0, 0, :4], scores[0, 0, 32:], scores[0, 0, 20] = 100, 100, 1
    assert choose("snapkv", scores, 19, window=8) == [[[0, 1, 2, 3, *range(17, 24), *range(32, 40)]]]


def test_lookahead_and_laq_score_as_snapkv() -> None:
    """arXiv 2603.10899 and 2505.20334: other rows observe, and the choice is the same."""
    scores = np.random.default_rng(0).random((2, 6, 300))
    same = choose("snapkv", scores, 100, kv_heads=3)
    assert choose("lookahead", scores, 100, kv_heads=3) == same
    assert choose("laq", scores, 100, kv_heads=3, window=32) == same


def test_kvzip_takes_the_highest_of_a_group() -> None:
    """arXiv 2505.23416: one query head that needs an entry is enough; the paper lets all heads compete."""
    scores = np.zeros((2, 4, 8))
    scores[0, 0, 2], scores[0, 0, 3], scores[0, 1, 3], scores[0, 1, 5] = 9, 5, 5, 1
    scores[1, 2, 6], scores[1, 3, 7], scores[0, 3, 1] = 8, 7, 0.5
    assert choose("kvzip", scores, 2, kv_heads=2, sinks=0)[0] == [[2, 3], [0, 1]]
    kept = choose("kvzip", scores, 1, kv_heads=2, sinks=0, ragged=True)
    assert kept == [[[2, 3], []], [[], [6, 7]]]


def test_oracle_keeps_what_the_answer_looks_at() -> None:
    """The most that any choice can hold, when nothing is kept in any case."""
    scores = np.random.default_rng(1).random((1, 1, 50))
    (kept,) = choose("oracle", scores, 10, sinks=0, window=0)[0]
    assert sorted(np.argsort(scores[0, 0])[-10:].tolist()) == kept


def test_random_has_a_seed() -> None:
    """The floor: other seeds choose other slots, each head its own."""
    nothing = np.zeros((2, 2, 200))
    one, other = choose("random", nothing, 80, kv_heads=2), choose("random", nothing, 80, kv_heads=2, seed=1)
    assert one == choose("random", nothing, 80, kv_heads=2)
    assert one != other and one[0] != one[1] and one[0][0] != one[0][1]


def test_pyramid_falls_from_the_first_layer_to_the_last() -> None:
    """arXiv 2406.02069: from twice the mean less a twentieth of it to that twentieth."""
    frame = Frame(1000, 60, 4, 16)
    assert frame.chosen == 40
    assert layer_counts(frame, 3, beta=20).tolist() == [78, 40, 2]
    assert layer_counts(Frame(70, 60, 4, 16), 3, beta=20).tolist() == [50, 40, 30], "no more than there is"
    assert layer_counts(frame, 1, beta=20).tolist() == [40]
    for layers in range(1, 40):
        counts = layer_counts(frame, layers, beta=20)
        assert counts.sum() == layers * 40 and (np.diff(counts) <= 1).all() and counts.min() >= 0


def test_pyramid_gives_each_layer_its_count() -> None:
    scores = np.random.default_rng(2).random((3, 2, 1000))
    kept = choose("pyramidkv", scores, 60, kv_heads=2, window=16)
    assert [[len(head) for head in layer] for layer in kept] == [[98, 98], [60, 60], [22, 22]]


def test_ada_gives_to_heads_that_spread_and_leaves_each_its_floor() -> None:
    """arXiv 2407.11550: head 0 has one entry that counts, head 1 many."""
    scores = np.zeros((1, 2, 20), np.float32)
    scores[0, 0, 3], scores[0, 1, 5:15] = 9, 1
    assert head_counts(scores, 5, floor=0.2).tolist() == [[1, 9]]
    assert head_counts(scores, 5, floor=0.6).tolist() == [[3, 7]]
    assert head_counts(scores, 20, floor=0.2).tolist() == [[20, 20]]
    kept = choose("adakv", scores, 5, kv_heads=2, window=0, sinks=0, pool=1)
    assert kept == [[[3], [5, 6, 7, 8, 9, 10, 11, 12, 13]]]


def test_ada_never_goes_below_the_floor() -> None:
    scores = np.random.default_rng(5).pareto(1, (6, 4, 300)).astype(np.float32)
    scores[:, 0] *= 1000
    counts = head_counts(scores, 50, floor=0.2)
    assert counts.min() == 10 and (counts.sum(axis=1) == 200).all() and counts.max() > 100


def test_expected_attention_is_the_mean_of_many_queries() -> None:
    """arXiv 2510.00636, equation of the expectation: held against a hundred thousand drawn queries."""
    dice = np.random.default_rng(7)
    root = dice.normal(size=(4, 4)) / 2
    mean, keys = dice.normal(size=4) / 2, dice.normal(size=(6, 4))
    drawn = dice.multivariate_normal(mean, root @ root.T, 100_000)
    expected = np.log(np.exp(drawn @ keys.T / 2).mean(axis=0))
    arguments: list[Any] = [np.asarray(a, np.float32) for a in (keys, mean[None], (root @ root.T)[None])]
    assert expected_logarithms(*arguments)[0] == pytest.approx(expected, abs=0.02)


def test_expected_attention_weighs_with_the_values() -> None:
    """Three keys that all queries like alike, and values of other lengths; two layers, one head."""
    keys = np.zeros((1, 1, 4, 2), np.float32)
    keys[0, 0, :, 0] = [0, 0, 0, np.log(2) * np.sqrt(2)]
    norms = np.array([[[1, 3, 1.5, 1]]], np.float32)
    still = np.eye(2, dtype=np.float32)
    queries = QueryStatistics(np.array([[[1, 0]]], np.float32), np.zeros((1, 1, 2, 2), np.float32), still)
    evidence = Evidence(1, 1, 4, keys=keys, value_norms=norms, queries=queries)
    policy: Any = dataclasses.replace(POLICIES["expected_attention"], sinks=0)  # type: ignore[type-var]
    scores = policy.scores(evidence, policy.frame(4, 2))
    assert scores[0, 0] == pytest.approx([1 / 5, 3 / 5, 1.5 / 5, 2 / 5])
    assert policy.select(evidence, 2).tolist() == [[[1, 3]]]
    turned = np.array([[[0, 1], [-1, 0]]], np.float32)  # the mean query looks elsewhere: all keys are alike
    evidence = dataclasses.replace(evidence, queries=dataclasses.replace(queries, rotation=turned))
    assert policy.select(evidence, 2).tolist() == [[[1, 2]]]


@pytest.mark.parametrize("halves", [True, False])
def test_the_mean_rotation_is_the_mean_of_rotations(halves: bool) -> None:
    """Numbers that are not turned stay; two that belong together turn."""
    frequencies = np.array([0.5, 0.1], np.float32)
    found = mean_rotation(frequencies, 3, 2, size=5, halves=halves)
    vector = np.arange(1, 6, dtype=np.float32)
    expected = np.zeros(5)
    for position in (3, 4):
        pairs = [(0, 2), (1, 3)] if halves else [(0, 1), (2, 3)]
        for (one, other), angle in zip(pairs, frequencies * position, strict=True):
            expected[one] += (vector[one] * np.cos(angle) - vector[other] * np.sin(angle)) / 2
            expected[other] += (vector[one] * np.sin(angle) + vector[other] * np.cos(angle)) / 2
        expected[4] += vector[4] / 2
    assert found @ vector == pytest.approx(expected, abs=1e-5)


def test_pooling_by_hand() -> None:
    row = np.array([1, 5, 2, 0, 0, 3], np.float32)
    assert max_pool(row, 3).tolist() == [5, 5, 5, 2, 3, 3]
    assert average_pool(row, 3) == pytest.approx([3, 8 / 3, 7 / 3, 2 / 3, 1, 1.5])
    assert max_pool(row, 1) is row and average_pool(row, 1) is row
    assert max_pool(row, 99).tolist() == [5] * 6
    with pytest.raises(ValueError, match="odd number of slots, not 4"):
        max_pool(row, 4)


@pytest.mark.parametrize("width", [3, 5, 7, 9, 13])
def test_pooling_is_that_of_a_plain_loop(width: int) -> None:
    rows = np.random.default_rng(width).normal(size=(2, 3, 40)).astype(np.float32)
    reach = width // 2
    parts = [rows[..., max(i - reach, 0) : i + reach + 1] for i in range(40)]
    assert np.array_equal(max_pool(rows, width), np.stack([part.max(-1) for part in parts], -1))
    assert np.allclose(average_pool(rows, width), np.stack([part.mean(-1) for part in parts], -1), atol=1e-6)


def test_a_choice_of_real_size_takes_no_time() -> None:
    """SmolLM2-135M with 8192 entries: 30 layers, 9 heads, 3 KV heads; seconds would show in every answer."""
    scores = np.random.default_rng(0).random((30, 9, 8192), np.float32)
    evidence = Evidence(30, 3, 8192, scores)
    began = time.perf_counter()
    POLICIES["snapkv"].select(evidence, 256)
    assert time.perf_counter() - began < 2


def test_budgets() -> None:
    assert [Budget.parse(value).resolve(1000) for value in (256, "256", 0.1, "0.1", 0.0001)] == [
        256,
        256,
        100,
        100,
        1,
    ]
    assert Budget(5).resolve(3) == 5
    assert [str(Budget.parse(value)) for value in ("064", "0.10")] == ["64", "0.1"]


@pytest.mark.parametrize(
    "value", [0, -3, 1.0, 0.0, 2.5, float("nan"), True, None, "many", "1.5", "", [3]], ids=str
)
def test_other_budgets_are_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"budget: a budget cannot be .*; give a number of entries"):
        Budget.parse(value)
