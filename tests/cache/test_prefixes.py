"""Shared prefixes: what is found, what publishing does, and what is given up when pages are needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fivefold.cache import OutOfPagesError
from fivefold.core.errors import InputError
from fivefold.core.layout import StateGroup

TWELVE = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]
GROUPS = (("kv", 1, 4), ("wide", 2, 4))


@pytest.mark.parametrize("groups", [GROUPS[:1], GROUPS], ids=["one group", "two groups"])
@pytest.mark.parametrize("used", [True, False], ids=["used", "left"])
@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (TWELVE, 12),
        ([*TWELVE, 7, 7], 12),
        (TWELVE[:8], 8),
        (TWELVE[:7], 7),
        (TWELVE[:1], 1),
        ([*TWELVE[:5], 0, 0, 0, 0], 5),
        ([*TWELVE[:4], 0], 4),
        ([0, *TWELVE], 0),
        (TWELVE[4:], 0),
        ([], 0),
    ],
    ids=str,
)
def test_the_longest_beginning_is_found(
    make_book: Any, groups: Any, used: bool, tokens: list[int], expected: int
) -> None:
    book = make_book(groups=groups)
    first = book.begin(TWELVE, publish=True)
    if not used:
        book.close(first)
    second = book.open()
    free = book.cache.figures().free
    assert book.attach(second, tokens) == expected
    assert book.cache.figures().free == free, "what is shared takes no page"
    book.check_all()
    book.extend(second, [7, 7, 7, 7, 7])
    book.publish(second)
    book.check_all()


@pytest.mark.parametrize("salt", ["a", "", "ä", "\ud800"], ids=repr)
def test_only_the_same_salt_finds(make_book: Any, salt: str) -> None:
    book = make_book()
    book.close(book.begin(TWELVE, "b", publish=True))
    assert book.attach(book.open(salt), TWELVE) == 0
    book.close(book.begin(TWELVE, salt, publish=True))
    assert book.attach(book.open(salt), TWELVE) == 12
    assert book.attach(book.open("b"), TWELVE) == 12
    book.check_all()


def test_only_an_empty_sequence_is_attached(make_book: Any) -> None:
    book = make_book()
    filled = book.begin(TWELVE, publish=True)
    reserved = book.open()
    assert book.reserve(reserved, 1)
    evicted = book.begin(TWELVE)
    book.retain(evicted, ("kv", 0), [])
    for number in (filled, reserved, evicted):
        with pytest.raises(InputError, match="has entries"):
            book.cache.attach(number, TWELVE)
        book.check_all()
    book.truncate(evicted, 0)
    assert book.attach(evicted, TWELVE) == 12


def test_whole_pages_are_published_and_once(make_book: Any) -> None:
    book = make_book()
    number = book.open()
    for count, pages in ((3, 0), (4, 1), (7, 1), (11, 2), (12, 3)):
        book.extend(number, TWELVE[len(book.known[number].tokens) : count])
        for _ in range(2):
            book.publish(number)
            assert len(book.alive("")) == pages
            book.check_all()
    book.publish(number, 5)
    assert len(book.alive("")) == 3


@pytest.mark.parametrize("groups", [GROUPS[:1], GROUPS], ids=["one group", "two groups"])
def test_twins_end_up_in_the_same_pages(make_book: Any, groups: Any) -> None:
    book = make_book(8, groups)
    first, second = book.begin(TWELVE), book.begin(TWELVE)
    assert book.cache.figures().free == 2 * 4
    book.publish(first)
    assert book.cache.figures().free == 2 * 4
    book.publish(second)
    assert book.cache.figures().free == 5 * 4
    for name, tables, _ in groups:
        for place in range(tables):
            assert book.pages(first, (name, place)) == book.pages(second, (name, place))
    book.check_all()
    book.close(first)
    book.extend(second, [1, 2])
    book.check_all()


def test_forks_publish_the_page_that_both_have(make_book: Any) -> None:
    book = make_book()
    first = book.begin(TWELVE)
    second = book.fork(first)
    free = book.cache.figures().free
    for number in (second, first):
        book.publish(number)
        assert book.cache.figures().free == free
        book.check_all()
    book.close(first)
    book.close(second)
    assert (book.cache.figures().free, book.cache.figures().kept) == (free, 12)
    book.check_all()


def test_a_page_can_be_under_two_salts(make_book: Any) -> None:
    """It is free when both have given it up, and counted once until then."""
    book = make_book(6)
    first = book.open()
    book.extend(first, TWELVE[:4])
    second = book.fork(first)
    book.cache.publish(first, TWELVE[:4], "a")
    book.cache.publish(second, TWELVE[:4], "b")
    book.check_all()
    book.close(first)
    assert book.cache.figures().kept == 0
    book.close(second)
    assert (book.cache.figures().free, book.cache.figures().kept) == (5 * 4, 4)
    book.cache.check_integrity()
    assert book.reserve(book.open(), 6 * 4)
    assert (book.alive("a"), book.alive("b"), book.cache.figures().kept) == ([], [], 0)
    book.check_all()


def test_others_tokens_are_not_published(make_book: Any) -> None:
    book = make_book()
    number = book.begin(TWELVE[:8], "a")
    with pytest.raises(InputError, match="not the sequence's own"):
        book.cache.publish(number, TWELVE, "a")
    with pytest.raises(InputError, match="not the sequence's own"):
        book.cache.publish(number, TWELVE[:8], "b")
    assert book.alive("a") == book.alive("b") == []
    book.publish(number)
    copy = book.fork(number)
    book.extend(copy, TWELVE[8:])
    with pytest.raises(InputError, match="not the sequence's own"):
        book.cache.publish(copy, TWELVE, "b")
    book.check_all()


@pytest.mark.parametrize("lost", ["evicted", "gap"])
def test_a_sequence_that_has_lost_entries_offers_nothing(make_book: Any, lost: str) -> None:
    book = make_book()
    number = book.begin(TWELVE[:6])
    if lost == "gap":
        book.extend(number, [1, 2, 3], stay=[0, 2])
    else:
        book.retain(number, ("kv", 0), [0, 1, 2, 3, 5])
    book.publish(number)
    assert book.alive("") == []
    book.truncate(number, 0)
    book.extend(number, TWELVE)
    book.publish(number)
    assert len(book.alive("")) == 3
    book.check_all()


def test_the_newest_siblings_are_compared(make_book: Any) -> None:
    """A part of a page is looked for among 64 children, a whole one among all."""
    book = make_book(80)
    for last in range(64):
        book.close(book.begin([1, 2, 3, last], publish=True))
    assert book.attach(book.open(), [1, 2, 3, 0, 5]) == 4
    assert book.attach(book.open(), [1, 2, 3]) == 3
    book.close(book.begin([9, 9, 9, 9], publish=True))
    assert book.attach(book.open(), [1, 2, 3, 0]) == 4
    for last in range(10, 17):
        book.close(book.begin([9, 9, 9, last], publish=True))
    assert book.attach(book.open(), [1, 2, 8]) == 2
    book.check_all()


def test_an_old_sibling_is_not_compared(make_book: Any) -> None:
    book = make_book(80)
    book.close(book.begin([1, 2, 3, 4], publish=True))
    for last in range(64):
        book.close(book.begin([1, 9, 9, last], publish=True))
    assert book.attach(book.open(), [1, 2, 3]) == 1
    assert book.attach(book.open(), [1, 2, 3, 4]) == 4


def test_the_least_recently_used_leaf_goes_first(make_book: Any) -> None:
    book = make_book(6)
    long, short = [1] * 12, [2] * 4
    book.close(book.begin(long, publish=True))
    book.close(book.begin(short, publish=True))
    book.close(book.begin([3] * 4, publish=True))
    again = book.open()
    assert book.attach(again, short) == 4
    book.close(again)
    order = [(1,) * 12, (1,) * 8, (1,) * 4, (3,) * 4, (2,) * 4]
    left, taker = set(order), book.open()
    for count, gone in enumerate(order, start=2):
        assert book.reserve(taker, 4 * count)
        left.remove(gone)
        assert set(book.alive("")) == left
        book.check_all()
    assert not book.reserve(taker, 28)


def test_a_branch_is_given_up_from_its_leaves(make_book: Any) -> None:
    """A node that others begin with stays until they are gone, however long it was unused."""
    book = make_book(5)
    for last in (1, 2, 3):
        book.close(book.begin([0, 0, 0, 0, last, last, last, last], publish=True))
    assert (book.cache.figures().free, book.cache.figures().kept) == (4, 16)
    taker = book.open()
    for count, left in ((2, 3), (3, 2), (4, 1), (5, 0)):
        assert book.reserve(taker, count * 4)
        assert len(book.alive("")) == left
        assert not left or (0, 0, 0, 0) in book.alive("")
        book.check_all()


def test_nothing_in_use_is_given_up(make_book: Any) -> None:
    book = make_book(6)
    book.close(book.begin(TWELVE, publish=True))
    user, taker = book.open(), book.open()
    assert book.attach(user, TWELVE[:6]) == 6
    assert book.cache.figures().kept == 4
    assert book.reserve(taker, 16)
    assert len(book.alive("")) == 2
    assert not book.reserve(taker, 17)
    with pytest.raises(OutOfPagesError, match="no room"):
        book.extend(user, [1])
    book.check_all()
    book.close(taker)
    book.extend(user, [1])
    assert book.attach(book.open(), TWELVE) == 8
    book.check_all()


def test_a_leaf_that_is_used_again_is_passed_over(make_book: Any) -> None:
    book = make_book(3)
    for token in (1, 2):
        book.close(book.begin([token] * 4, publish=True))
    user = book.open()
    assert book.attach(user, [1] * 4) == 4
    assert book.reserve(book.open(), 8)
    assert book.alive("") == [(1,) * 4]
    book.check_all()
    book.close(user)
    assert book.reserve(book.open(), 4)
    assert book.alive("") == []


def test_roots_of_empty_salts_are_dropped(make_book: Any) -> None:
    book = make_book(8)
    for salt in range(50):
        book.close(book.begin(TWELVE[:4], f"salt {salt}", publish=True))
        book.check_all()
    assert len(book.cache._tree._roots) == 8
    assert book.reserve(book.open(), 32)
    assert not book.cache._tree._roots


def test_old_offers_are_forgotten(make_book: Any) -> None:
    """The list of leaves stays as short as the tree, however often they are used."""
    book = make_book(6)
    book.close(book.begin(TWELVE, publish=True))
    for _ in range(1000):
        number = book.open()
        assert book.attach(number, TWELVE) == 12
        book.close(number)
    assert len(book.cache._tree._leaves) < 100
    assert book.reserve(book.open(), 24)
    book.check_all()


@pytest.mark.parametrize("kind", ["recurrent state", "unequal pages"])
def test_some_layouts_share_nothing(make_book: Any, kind: str) -> None:
    if kind == "unequal pages":
        book = make_book(12, (("kv", 1, 4), ("other", 1, 8)))
    else:
        book = make_book(12, states=(StateGroup("state", (0,), (2, 2)),))
    first = book.begin(TWELVE, publish=True)
    assert book.attach(book.open(), TWELVE) == 0
    second = book.fork(first)
    book.extend(second, [1, 2, 3])
    book.extend(first, [4])
    book.truncate(second, 5 if kind == "unequal pages" else 0)
    book.extend(second, [1])
    book.check_all()
    for number in list(book.known):
        book.close(number)
    assert book.cache.figures().free == book.cache.figures().capacity


def test_tokens_may_be_of_any_integer_kind(make_book: Any) -> None:
    book = make_book()
    first = book.begin(TWELVE)
    book.cache.publish(first, np.array(TWELVE, np.int64))
    for tokens in (tuple(TWELVE), np.array(TWELVE, np.uint32), np.array([TWELVE, TWELVE], np.int32).T[:, 0]):
        assert book.cache.attach(book.cache.open(), tokens) == 12
    book.cache.check_integrity()
