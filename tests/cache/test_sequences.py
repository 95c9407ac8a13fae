"""Sequences in pages: copies before writing, reservations, eviction, rows that stay, and figures."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import pytest

from fivefold.cache import OutOfPagesError, PagePool
from fivefold.core.batch import Span, Step
from fivefold.core.errors import InputError
from fivefold.core.layout import StateGroup
from fivefold.core.runner import CacheFigures

SIX = [1, 2, 3, 4, 5, 6]
EIGHT = [1, 2, 3, 4, 5, 6, 7, 8]
KEY = ("kv", 0)
GROUPS = (("kv", 1, 4), ("wide", 2, 4))


def copied(book: Any) -> int:
    """Entries copied since the last call."""
    count: int = book.storage.copied
    book.storage.copied = 0
    return count


def test_writing_after_a_part_of_a_page_leaves_the_page_alone(make_book: Any) -> None:
    book = make_book()
    first = book.begin(EIGHT, publish=True)
    second = book.open()
    assert book.attach(second, [*SIX, 0]) == 6
    shared = book.pages(second)
    assert copied(book) == 0
    book.extend(second, [9])
    assert copied(book) == 2
    assert book.pages(second)[0] == shared[0]
    assert book.pages(second)[1] != shared[1]
    book.extend(second, [9])
    assert copied(book) == 0
    book.check_all()
    book.publish(second)
    assert sorted(len(tokens) for tokens in book.alive("")) == [4, 8, 8]
    assert book.attach(book.open(), EIGHT) == 8
    book.close(first)
    book.check_all()


def test_writing_after_truncating_into_a_shared_page(make_book: Any) -> None:
    book = make_book()
    first = book.begin(EIGHT, publish=True)
    book.truncate(first, 5)
    assert copied(book) == 0
    book.extend(first, [0, 0])
    assert copied(book) == 1
    assert book.attach(book.open(), EIGHT) == 8
    book.publish(first)
    book.extend(first, [0])
    book.publish(first)
    assert len(book.alive("")) == 3
    book.check_all()


@pytest.mark.parametrize("groups", [GROUPS[:1], GROUPS], ids=["one group", "two groups"])
@pytest.mark.parametrize("writer", [0, 1], ids=["the old writes", "the new writes"])
def test_a_fork_and_its_origin_do_not_see_each_other(make_book: Any, groups: Any, writer: int) -> None:
    book = make_book(groups=groups)
    both = [book.begin(SIX)]
    both.append(book.fork(both[0]))
    tables = sum(count for _, count, _ in groups)
    book.extend(both[writer], [7, 7, 7])
    assert copied(book) == 2 * tables
    book.check_all()
    book.extend(both[1 - writer], [8])
    assert copied(book) == 0, "the last holder of a page need not copy it"
    book.truncate(both[0], 3)
    book.extend(both[0], [9])
    assert copied(book) == 3 * tables
    book.check_all()
    book.close(both[0])
    book.check_all()


def test_forks_that_write_in_one_step_need_one_copy(make_book: Any) -> None:
    book = make_book(3)
    first = book.begin(SIX)
    second = book.fork(first)
    book.run({first: book.chain(first, [7]), second: book.chain(second, [8])})
    assert copied(book) == 2
    book.check_all()
    third = book.fork(first)
    with pytest.raises(OutOfPagesError):
        book.run({first: book.chain(first, [7]), third: book.chain(third, [8])})
    book.check_all()


def test_a_fork_between_a_step_and_its_commit_is_refused(make_book: Any) -> None:
    book = make_book()
    first = book.begin(SIX)
    book.run({first: book.chain(first, [7, 8, 9])}, commit=False)
    with pytest.raises(AssertionError, match="between a step and its commit"):
        book.cache.fork(first)


def test_truncating_forgets_an_open_step(make_book: Any) -> None:
    book = make_book(3)
    first = book.begin(SIX)
    book.run({first: book.chain(first, [7, 8, 9])}, commit=False)
    assert book.cache.figures().free == 0
    book.truncate(first, 6)
    assert book.cache.figures().free == 4
    book.check_all()
    book.check_all()
    book.fork(first)
    book.check_all()


def test_a_step_without_room_changes_nothing(make_book: Any) -> None:
    book = make_book(5)
    first, second = book.begin(SIX), book.begin(EIGHT)
    before = book.cache.figures()
    with pytest.raises(OutOfPagesError, match="no room") as raised:
        book.run({first: book.chain(first, [7, 8, 9]), second: book.chain(second, [9])})
    assert "memory" in str(raised.value)
    assert book.cache.figures() == before
    book.check_all()
    book.run({first: book.chain(first, [7, 8]), second: book.chain(second, [9])})
    book.check_all()


def test_reserving_takes_all_or_nothing(make_book: Any) -> None:
    book = make_book(5)
    book.close(book.begin([9] * 4, publish=True))
    first, second = book.begin(SIX), book.open()
    before = book.cache.figures()
    assert not book.reserve(second, 13)
    assert book.cache.figures() == before
    assert len(book.alive("")) == 1, "nothing is given up in vain"
    assert book.reserve(second, 12)
    assert book.cache.figures() == CacheFigures(20, 0, 0, 20)
    assert book.reserve(second, 5)
    assert book.reserve(first, 8)
    assert not book.reserve(first, 9)
    book.check_all()


def test_a_reservation_lasts_through_commits(make_book: Any) -> None:
    book = make_book(5)
    first, second = book.open(), book.open()
    assert book.reserve(first, 14)
    for _ in range(3):
        book.extend(first, [1, 2, 3, 4], stay=[0])
        assert book.cache.figures().free == 4
        book.check_all()
    book.extend(second, [1, 1, 1, 1])
    with pytest.raises(OutOfPagesError):
        book.extend(second, [1])
    book.extend(first, [5] * 13)
    assert book.cache.figures().free == 0
    with pytest.raises(OutOfPagesError):
        book.extend(first, [1])
    book.check_all()


@pytest.mark.parametrize("way", ["truncate", "clear", "close"])
def test_a_reservation_is_given_back(make_book: Any, way: str) -> None:
    book = make_book(5)
    first = book.begin(SIX)
    assert book.reserve(first, 20)
    if way == "close":
        book.close(first)
    else:
        book.truncate(first, 6 if way == "truncate" else 0)
    assert book.cache.figures().free == (12 if way == "truncate" else 20)
    book.check_all()
    if way != "close":
        book.extend(first, [1] * 9, stay=[0])
        assert book.cache.figures().free == (12 if way == "truncate" else 16), "it does not come back"
    assert book.reserve(book.open(), book.cache.figures().free)


def test_reserving_takes_the_copy_of_a_shared_page(make_book: Any) -> None:
    book = make_book(4)
    book.close(book.begin(EIGHT, publish=True))
    first = book.open()
    assert book.attach(first, [*SIX, 0]) == 6
    assert book.reserve(first, 6)
    assert copied(book) == 0
    assert book.reserve(first, 8)
    assert copied(book) == 2
    assert book.reserve(book.open(), 8)
    book.extend(first, [0, 0])
    book.check_all()


def test_eviction_gives_back_what_is_reserved(make_book: Any) -> None:
    """Another reservation counts the entries that each table has, not those that came and went."""
    book = make_book(7, (("kv", 1, 4), ("wide", 2, 4)))
    first = book.begin(EIGHT, publish=True)
    assert book.reserve(first, 20)
    book.retain(first, KEY, [0, 7])
    assert [book.cache.page_free(name) for name in ("kv", "wide")] == [7 - 2 - 1, 14 - 4]
    assert book.reserve(first, 12)
    assert [book.cache.page_free(name) for name in ("kv", "wide")] == [7 - 2 - 3, 14 - 4 - 2]
    book.extend(first, [1] * 4)
    assert [book.cache.page_free(name) for name in ("kv", "wide")] == [7 - 2 - 3, 14 - 4 - 2]
    book.check_all()
    book.retain(first, KEY, [0, 5])
    book.extend(first, [1] * 9, stay=[])
    assert [book.cache.page_free(name) for name in ("kv", "wide")] == [7 - 2 - 1, 14 - 4 - 2]
    book.check_all()


def test_truncating_a_sequence_with_gaps_counts_its_entries(make_book: Any, make_rows: Any) -> None:
    book = make_book(4)
    first = book.begin(EIGHT)
    book.run({first: make_rows([1, 1], [8, 1000], [-1, 0], [1])})
    book.truncate(first, 1000)
    assert book.cache.length(first, "kv") == 8
    assert book.reserve(first, 13)
    assert book.cache.figures().free == 0
    book.check_all()


@pytest.mark.parametrize("holder", ["fork", "tree"])
def test_eviction_leaves_shared_pages_alone(make_book: Any, holder: str) -> None:
    book = make_book(8, GROUPS)
    first = book.begin(EIGHT, publish=holder == "tree")
    other = book.fork(first) if holder == "fork" else book.open()
    book.retain(first, ("wide", 1), [1, 2, 4, 7])
    book.check_all()
    if holder == "tree":
        assert book.attach(other, EIGHT) == 8
    book.extend(first, [9, 9])
    book.extend(other, [7])
    book.retain(first, ("wide", 1), [0, 5])
    book.retain(first, ("wide", 0), list(range(10)))
    book.retain(first, ("kv", 0), [])
    assert [book.cache.length(first, name, place) for name, place in book.known[first].tables] == [0, 10, 2]
    book.extend(first, [3])
    book.check_all()
    book.truncate(first, 8)
    assert [book.cache.length(first, name, place) for name, place in book.known[first].tables] == [0, 8, 1]
    book.check_all()


def test_pages_kept_after_eviction_are_not_counted_as_free(make_book: Any) -> None:
    """The tree holds them too, but giving them up would free nothing."""
    book = make_book(4)
    first = book.begin(EIGHT, publish=True)
    book.retain(first, KEY, [0, 1, 2, 3])
    assert book.cache.figures() == CacheFigures(16, 8, 4, 16)
    assert not book.reserve(book.open(), 13)
    assert len(book.alive("")) == 2, "nothing is given up in vain"
    assert book.reserve(book.open(), 12)
    book.check_all()
    book.close(first)
    book.check_all()


@pytest.mark.parametrize("slots", [[1, 0], [2, 2], [-1, 3], [0, 8]], ids=str)
def test_slots_to_keep_ascend_within_the_table(make_book: Any, slots: list[int]) -> None:
    book = make_book()
    first = book.begin(EIGHT)
    with pytest.raises(InputError, match="ascend"):
        book.retain(first, KEY, slots)
    book.publish(first)
    assert len(book.alive("")) == 2, "nothing has changed"
    book.check_all()


def test_eviction_without_a_page_for_the_copy_changes_nothing(make_book: Any) -> None:
    book = make_book(2)
    first = book.begin(EIGHT, publish=True)
    with pytest.raises(OutOfPagesError, match="no page"):
        book.retain(first, KEY, [0, 2])
    book.check_all()
    assert book.known[first].exact
    book.publish(first)
    book.retain(first, KEY, [0, 1, 2, 3, 4])
    book.check_all()


def test_rows_that_stay_need_not_be_the_first(make_book: Any, make_tree: Any) -> None:
    book = make_book(12, GROUPS)
    first = book.begin(SIX)
    book.extend(first, [7, 8, 9], stay=[])
    assert book.known[first].exact
    rows = make_tree(first, 6, random.Random(4), 3)
    rows.stay[:] = [row for row in range(len(rows.tokens)) if row in rows.parents or row in rows.stay]
    book.run({first: rows})
    assert book.known[first].exact, "a path of a tree leaves no gap"
    book.publish(first)
    book.extend(first, [1, 2, 3, 4, 5], stay=[0, 3, 4])
    assert not book.known[first].exact
    book.extend(first, [1, 2])
    other = book.begin(EIGHT)
    book.run({other: book.chain(other, [1]), first: book.chain(first, [2, 2])})
    book.truncate(first, 8)
    book.check_all()


def test_figures_are_those_of_the_fullest_group(make_book: Any) -> None:
    book = make_book({"kv": 10, "wide": 13}, GROUPS)
    assert book.cache.figures() == CacheFigures(6 * 4, 6 * 4, 0, 6 * 4)
    first = book.begin(SIX, publish=True)
    assert book.cache.figures() == CacheFigures(6 * 4, 4 * 4, 0, 6 * 4)
    assert book.cache.page_free("kv") == 8
    assert book.cache.page_free("wide") == 9
    book.close(first)
    assert book.cache.figures() == CacheFigures(6 * 4, 5 * 4, 4, 6 * 4)
    assert book.cache.figures().used == 0


def test_a_model_without_entries_has_room_for_any_number(make_book: Any) -> None:
    book = make_book(groups=(), states=(StateGroup("state", (0,), (2, 2)),))
    assert book.cache.figures() == CacheFigures(sys.maxsize, sys.maxsize, 0, sys.maxsize)
    first = book.open()
    assert book.reserve(first, 1 << 40)
    book.extend(first, SIX)
    book.check_all()


def test_states_are_told_apart_and_used_again(make_book: Any) -> None:
    book = make_book(states=(StateGroup("state", (0,), (2, 2)),))

    def state(number: int) -> int:
        batch = book.cache.prepare(Step((Span.causal(number, np.array([1], np.int32), 0),)))
        return int(batch.states.write[0])

    numbers = [book.open() for _ in range(3)]
    assert [state(number) for number in numbers] == [0, 1, 2]
    book.truncate(numbers[1], 0)
    assert state(numbers[1]) == 1
    book.close(numbers[1])
    book.close(numbers[0])
    assert [state(book.open()) for _ in range(3)] == [0, 1, 3]
    book.cache.check_integrity()


def test_a_pool_takes_all_or_nothing_and_counts_holders() -> None:
    pool = PagePool(3)
    first, second = pool.take(2)
    with pytest.raises(OutOfPagesError, match="1 free pages and 2"):
        pool.take(2)
    pool.keep(first)
    pool.share(second)
    assert (pool.page_free, pool.page_kept, pool.holders(first)) == (1, 0, 2)
    pool.release(first)
    assert pool.page_kept == 1
    pool.check_integrity([second, second], [first])
    with pytest.raises(AssertionError, match="not held"):
        pool.release(first)
    with pytest.raises(AssertionError, match="not kept"):
        pool.give_up(second)
    pool.share(first)
    assert pool.page_kept == 0
    pool.release(first)
    pool.give_up(first)
    assert (pool.page_free, pool.page_kept) == (2, 0)
    for call in (pool.release, pool.share, pool.keep, pool.give_up):
        with pytest.raises(AssertionError):
            call(first)
    with pytest.raises(AssertionError, match="more or less"):
        pool.check_integrity([second], [])
