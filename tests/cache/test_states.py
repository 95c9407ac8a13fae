"""Slots of recurrent states: who has which, what a commit may keep, and that none is ever lost."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from fivefold.cache import OutOfPagesError, PagedCache
from fivefold.core.batch import Batch, Commit, Span, Step
from fivefold.core.errors import InputError
from fivefold.core.layout import CacheGroup, CacheLayout, StateGroup

LAYOUT = CacheLayout((CacheGroup("kv", (1,), 1, 8, 8),), (StateGroup("state", (0,), (2, 2)),))


class Copies:
    """A storage that only notes which states are copied."""

    def __init__(self) -> None:
        self.states: list[tuple[int, int]] = []

    def copy_entries(self, *_: Any) -> None:
        pass

    def copy_head_entries(self, *_: Any) -> None:
        pass

    def copy_state(self, source: int, target: int) -> None:
        self.states.append((source, target))


def cache_of(slots: int) -> PagedCache:
    return PagedCache(LAYOUT, {"kv": 40}, Copies(), slots=slots)


def span(sequence: int, start: int, count: int, draft: bool = False) -> Span:
    plain = Span.causal(sequence, np.zeros(count, np.int32), start)
    return Span(sequence, plain.tokens, plain.positions, plain.visible, draft=draft)


def run(cache: PagedCache, *spans: Span) -> Batch:
    batch = cache.prepare(Step(spans))
    cache.check_integrity()
    return batch


def commit(cache: PagedCache, sequence: int, rows: Any) -> None:
    try:
        cache.commit([Commit(sequence, np.array(rows, np.int32))])
    finally:
        cache.check_integrity()


def slots(batch: Batch) -> tuple[list[int], list[int]]:
    assert batch.states is not None
    return batch.states.read.tolist(), batch.states.write.tolist()


def test_rows_go_on_in_place_from_a_state_of_zeros() -> None:
    cache = cache_of(3)
    first, second = cache.open(), cache.open()
    assert slots(run(cache, span(first, 0, 3), span(second, 0, 1))) == ([-1, -1], [-1, -1, 0, 1])
    commit(cache, first, range(3))
    commit(cache, second, [0])
    assert slots(run(cache, span(second, 1, 2), span(first, 3, 1))) == ([1, 0], [-1, 1, 0])


@pytest.mark.parametrize("kept", range(5))
def test_a_draft_keeps_the_state_after_its_last_kept_row(kept: int) -> None:
    cache = cache_of(6)
    number = cache.open()
    run(cache, span(number, 0, 2))
    commit(cache, number, [0, 1])
    read, write = slots(run(cache, span(number, 2, 4, draft=True)))
    assert len({*read, *write}) == 5, "the state before the draft stays beside those of its rows"
    commit(cache, number, range(kept))
    after = slots(run(cache, span(number, 2 + kept, 1)))
    chosen = [*read, *write][kept]
    assert after == ([chosen], [chosen])
    assert cache.length(number, "kv") == 2 + kept


def test_a_span_that_is_no_draft_is_kept_whole() -> None:
    cache = cache_of(2)
    number = cache.open()
    run(cache, span(number, 0, 3))
    with pytest.raises(InputError, match="a part of a span is kept that is not a draft"):
        commit(cache, number, [0, 1])
    with pytest.raises(InputError, match="waits for its commit"):
        cache.prepare(Step((span(number, 3, 1),)))
    commit(cache, number, [0, 1, 2])
    assert cache.length(number, "kv") == 3


def test_a_draft_is_kept_from_its_beginning() -> None:
    cache = cache_of(4)
    number = cache.open()
    run(cache, span(number, 0, 3, draft=True))
    with pytest.raises(InputError, match="not its beginning"):
        commit(cache, number, [0, 2])
    commit(cache, number, [0])
    run(cache, span(number, 1, 3, draft=True))


def test_a_state_is_given_up_but_not_taken_back() -> None:
    cache = cache_of(4)
    number = cache.open()
    run(cache, span(number, 0, 5))
    with pytest.raises(InputError, match="cannot be taken back to position 5"):
        cache.truncate(number, 5)
    commit(cache, number, range(5))
    with pytest.raises(InputError, match="cannot be taken back to position 4"):
        cache.truncate(number, 4)
    cache.truncate(number, 5)
    run(cache, span(number, 5, 3, draft=True))
    cache.truncate(number, 5)
    cache.check_integrity()
    assert slots(run(cache, span(number, 5, 1)))[0] == [0]
    cache.truncate(number, 0)
    cache.check_integrity()
    assert slots(run(cache, span(number, 0, 1))) == ([-1], [0])


def test_without_a_slot_nothing_changes() -> None:
    cache = cache_of(2)
    first, second, third = (cache.open() for _ in range(3))
    assert cache.reserve(first, 40)
    assert cache.reserve(second, 40)
    assert not cache.reserve(third, 40)
    free = cache.page_free("kv")
    for draft in (False, True):
        with pytest.raises(OutOfPagesError):
            cache.prepare(Step((span(first, 0, 1), span(third, 0, 1, draft))))
    with pytest.raises(OutOfPagesError):
        cache.fork(first)
    assert cache.page_free("kv") == free
    cache.check_integrity()
    cache.close(second)
    assert cache.reserve(third, 40)
    run(cache, span(first, 0, 1), span(third, 0, 1))


def test_a_fork_has_a_copy() -> None:
    cache = cache_of(3)
    first = cache.open()
    assert slots(run(cache, span(cache.fork(first), 0, 1))) == ([-1], [0])
    run(cache, span(first, 0, 2))
    commit(cache, first, range(2))
    second = cache.fork(first)
    assert cache._storage.states == [(1, 2)]  # type: ignore[attr-defined]
    assert slots(run(cache, span(second, 2, 1), span(first, 2, 1))) == ([2, 1], [2, 1])


@pytest.mark.parametrize("way", ["a gap", "backwards", "a mask"])
def test_rows_out_of_order_are_refused(way: str) -> None:
    cache = cache_of(1)
    number = cache.open()
    plain = span(number, 1 if way == "a gap" else 0, 2)
    positions = plain.positions[::-1] if way == "backwards" else plain.positions
    mask = np.ones((2, 2), bool) if way == "a mask" else None
    with pytest.raises(InputError, match="one after the other"):
        cache.prepare(Step((Span(number, plain.tokens, positions, plain.visible, mask),)))
    cache.check_integrity()
    run(cache, span(number, 0, 2))


def test_states_of_random_operations_follow_a_model() -> None:
    """What each slot holds is written down as the text that made it; a read finds the sequence's own."""
    dice = random.Random(4)
    for _ in range(40):
        cache, held = cache_of(9), dict[int, tuple[int, ...]]()
        texts: dict[int, list[int]] = {}
        for _ in range(60):
            if not texts or dice.random() < 0.15:
                texts[cache.open()] = []
            number = dice.choice(list(texts))
            action = dice.random()
            if action < 0.1:
                cache.close(number)
                del texts[number]
            elif action < 0.2:
                cache.truncate(number, 0)
                texts[number] = []
            else:
                _step(cache, held, texts, dice)
            cache.check_integrity()


def _step(cache: PagedCache, held: dict[int, tuple[int, ...]], texts: Any, dice: random.Random) -> None:
    chosen = dice.sample(list(texts), dice.randint(1, min(3, len(texts))))
    spans = [span(n, len(texts[n]), dice.randint(1, 3), dice.random() < 0.4) for n in chosen]
    try:
        read, write = slots(cache.prepare(Step(tuple(spans))))
    except OutOfPagesError:
        return
    for one, slot in zip(spans, read, strict=True):
        assert (held[slot] if slot >= 0 else ()) == tuple(texts[one.sequence])
    row = 0
    for one in spans:
        new = [dice.randrange(100) for _ in one.tokens]
        for count in range(len(new)):
            if write[row] >= 0:
                held[write[row]] = (*texts[one.sequence], *new[: count + 1])
            row += 1
        kept = dice.randint(0, len(new)) if one.draft else len(new)
        cache.commit([Commit(one.sequence, np.arange(kept, dtype=np.int32))])
        texts[one.sequence] += new[:kept]
