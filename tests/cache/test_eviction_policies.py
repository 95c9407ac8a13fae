"""What holds of every policy in the table: which slots it keeps, how many, and what it keeps for certain."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from fivefold.cache.eviction import (
    POLICIES,
    Draft,
    Evidence,
    LearnedRows,
    Policy,
    QueryStatistics,
    Repetition,
    TrueAnswer,
    policy_named,
)
from fivefold.core.errors import InputError, NotFiniteError

LAYERS, HEADS, KV_HEADS, SIZE = 5, 6, 3, 8
OBSERVING = sorted(POLICIES.keys() - {"window", "random"})


@dataclasses.dataclass
class World:
    """Evidence in the making, for any policy."""

    importance: Any
    keys: Any
    norms: Any
    mean: Any
    covariance: Any

    def evidence(self) -> Evidence:
        queries = QueryStatistics(self.mean, self.covariance, np.eye(SIZE, dtype=np.float32))
        slots = self.importance.shape[-1]
        return Evidence(LAYERS, KV_HEADS, slots, self.importance, self.keys, self.norms, queries)


def world(slots: int, seed: int = 3) -> World:
    dice = np.random.default_rng(seed)
    scores = dice.exponential(size=(LAYERS, HEADS, slots)).astype(np.float32)
    keys = dice.normal(size=(LAYERS, KV_HEADS, slots, SIZE)).astype(np.float32)
    norms = dice.uniform(1, 2, size=(LAYERS, KV_HEADS, slots)).astype(np.float32)
    mean = dice.normal(size=(LAYERS, HEADS, SIZE)).astype(np.float32)
    root = dice.normal(size=(LAYERS, HEADS, SIZE, SIZE)).astype(np.float32) / SIZE
    return World(scores, keys, norms, mean, root @ root.swapaxes(-1, -2))


def rows(kept: Any) -> list[list[list[int]]]:
    return [[np.asarray(head).tolist() for head in layer] for layer in kept]


def frame(policy: Policy, slots: int, budget: int) -> tuple[int, int]:
    """Sinks and window that a policy keeps for certain."""
    if policy.name == "window":
        sinks = min(4, budget // 4)
        return sinks, budget - sinks
    found: Any = policy.frame(slots, budget)  # type: ignore[attr-defined]
    return found.sinks, found.window


@pytest.mark.parametrize("budget", [1, 2, 5, 16, 40, 64, 99])
@pytest.mark.parametrize("name", POLICIES)
def test_slots_ascend_and_are_as_many_as_the_budget_says(name: str, budget: int) -> None:
    policy, slots = POLICIES[name], 100
    kept = policy.select(world(slots).evidence(), budget)
    found = rows(kept)
    assert len(found) == LAYERS and all(len(layer) == KV_HEADS for layer in found)
    for head in (head for layer in found for head in layer):
        assert head == sorted(set(head))
        assert not head or 0 <= head[0] <= head[-1] < slots
        sinks, window = frame(policy, slots, budget)
        assert head[:sinks] == list(range(sinks)), "the sinks are kept"
        assert head[len(head) - window :] == list(range(slots - window, slots)), "and so is the window"
        assert policy.ragged or len(head) == budget
    assert sum(len(head) for layer in found for head in layer) == LAYERS * KV_HEADS * budget
    if not policy.ragged:
        assert isinstance(kept, np.ndarray) and kept.dtype == np.int32


@pytest.mark.parametrize("slots", [1, 3, 30, 64])
@pytest.mark.parametrize("name", POLICIES)
def test_what_fits_is_kept_whole(name: str, slots: int) -> None:
    found = rows(POLICIES[name].select(world(slots).evidence(), 64))
    assert all(head == list(range(slots)) for layer in found for head in layer)


@pytest.mark.parametrize("name", sorted(POLICIES.keys() - {"random"}))
def test_heads_may_come_in_another_order(name: str) -> None:
    """KV heads with their query heads in another order keep the same slots in that order."""
    one, order = world(120), [2, 0, 1]
    share = HEADS // KV_HEADS
    heads = [order[place] * share + inner for place in range(KV_HEADS) for inner in range(share)]
    other = World(
        one.importance[:, heads], one.keys[:, order], one.norms[:, order], one.mean[:, heads],
        one.covariance[:, heads],
    )  # fmt: skip
    kept = rows(POLICIES[name].select(one.evidence(), 40))
    turned = rows(POLICIES[name].select(other.evidence(), 40))
    assert turned == [[layer[head] for head in order] for layer in kept]


@pytest.mark.parametrize("slot", [4, 23, 60])
@pytest.mark.parametrize("name", OBSERVING)
def test_an_entry_that_all_look_at_is_kept(name: str, slot: int) -> None:
    some = world(200)
    some.importance[:, :, slot] = 1000
    mean = some.mean.reshape(LAYERS, KV_HEADS, -1, SIZE).mean(axis=2)
    some.keys[:, :, slot] = 100 * mean / np.square(mean).sum(axis=-1, keepdims=True)
    found = rows(POLICIES[name].select(some.evidence(), 64))
    assert all(slot in head for layer in found for head in layer)


@pytest.mark.parametrize("name", POLICIES)
def test_equal_scores_are_decided_by_the_lower_slot(name: str) -> None:
    """And the choice is the same each time."""
    some = world(90)
    for array in (some.importance, some.keys, some.norms, some.mean, some.covariance):
        array[:] = 1
    first, again = (rows(POLICIES[name].select(some.evidence(), 40)) for _ in range(2))
    assert first == again
    if name != "random":
        for head in (head for layer in first for head in layer):
            _, window = frame(POLICIES[name], 90, 40)
            assert head[: len(head) - window] == list(range(len(head) - window))


@pytest.mark.parametrize("name", sorted(set(OBSERVING) - {"expected_attention"}))
def test_evidence_that_cannot_be_used_is_refused(name: str) -> None:
    good = world(80).evidence()
    policy = POLICIES[name]
    with pytest.raises(InputError, match="nothing was observed"):
        policy.select(dataclasses.replace(good, importance=None), 40)
    with pytest.raises(InputError, match="is not that of"):
        policy.select(dataclasses.replace(good, slots=79), 40)
    assert good.importance is not None
    good.importance[0, 0, 50] = np.nan
    with pytest.raises(NotFiniteError, match="not finite"):
        policy.select(good, 40)


def test_statistics_that_cannot_be_used_are_refused() -> None:
    good, policy = world(80).evidence(), POLICIES["expected_attention"]
    with pytest.raises(InputError, match="were not measured"):
        policy.select(dataclasses.replace(good, queries=None), 40)
    assert good.keys is not None
    with pytest.raises(InputError, match="are not those of"):
        policy.select(dataclasses.replace(good, keys=good.keys[:, :, 1:]), 40)
    good.keys[1, 1, 70] = np.inf
    with np.errstate(invalid="ignore"), pytest.raises(NotFiniteError, match="not finite"):
        policy.select(good, 40)


def test_each_policy_says_what_it_observes() -> None:
    long = {name: policy.observation(1000) for name, policy in POLICIES.items()}
    short = {name: policy.observation(3) for name, policy in POLICIES.items()}
    windows = {"h2o": 1000, "tova": 1, "snapkv": 32, "pyramidkv": 32, "adakv": 32, "laq": 8}
    assert {name: seen.window for name, seen in long.items() if seen.window} == windows
    assert all(short[name].window == min(3, windows.get(name, 0)) for name in POLICIES)
    assert {name: seen.probe for name, seen in long.items() if seen.probe is not None} == {
        "kvzip": Repetition(2048), "laq": Draft(8, "snapkv"), "lookahead": LearnedRows(),
        "oracle": TrueAnswer(),
    }  # fmt: skip
    assert [name for name, seen in long.items() if seen.reduce == "max"] == ["kvzip"]
    assert [name for name, seen in long.items() if seen.statistics] == ["expected_attention"]


def test_policies_are_found_by_name() -> None:
    assert set(POLICIES) == {
        "adakv", "expected_attention", "h2o", "kvzip", "laq", "lookahead", "oracle", "pyramidkv", "random",
        "snapkv", "tova", "window",
    }  # fmt: skip
    assert policy_named("snapkv") is POLICIES["snapkv"]
    with pytest.raises(InputError, match="no eviction policy 'best'; choose of adakv, "):
        policy_named("best")
