"""Eviction by layer and head: what each slot holds afterwards, who else is touched, and what comes free."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from fivefold.cache import OutOfPagesError, PagedCache
from fivefold.core.batch import Commit, Span, Step
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.layout import CacheGroup, CacheLayout
from fivefold.core.runner import CacheFigures
from fivefold.program.reference import ReferenceCache

TEN = list(range(1, 11))
LAYERS_AND_HEADS = (("kv", 1, 4, None, 2, 2),)
EACH = (("kv", 1, 4), ("wide", 2, 4, None, 2))


def slots(*lists: list[int], layers: int = 2) -> Any:
    """(layers, KV heads, B) of the lists, layer by layer."""
    return np.array(lists, np.int32).reshape(layers, len(lists) // layers, -1)


SOME = slots([0, 3, 9], [1, 2, 3], [0, 1, 2], [5, 6, 7])


def positions(book: Any, number: int, key: tuple[str, int] = ("kv", 0)) -> list[int]:
    found: list[int] = book.cache._sequences[number].tables[key[0]][key[1]].positions.tolist()
    return found


def test_each_layer_and_head_keeps_its_own(make_book: Any) -> None:
    """And a slot has the highest position of its entries, so that later rows see it."""
    book = make_book(8, LAYERS_AND_HEADS)
    first = book.begin(TEN)
    book.evict(first, {"kv": SOME})
    assert positions(book, first) == [5, 6, 9]
    assert book.cache.length(first, "kv") == 3
    assert book.cache.figures() == CacheFigures(32, 28, 0, 32)
    book.check_all()
    book.extend(first, [11, 12])
    assert positions(book, first) == [5, 6, 9, 10, 11]
    book.check_all()


def test_tables_of_their_own_may_differ_in_length(make_book: Any) -> None:
    book = make_book(8, EACH)
    first = book.begin(TEN)
    ragged = [np.array([[0, 9], [3, 4]], np.int32), np.array([[1, 2, 3, 4, 8], [0, 1, 2, 3, 4]], np.int32)]
    book.evict(first, {"wide": ragged})
    assert [book.cache.length(first, name, place) for name, place in book.known[first].tables] == [10, 2, 5]
    assert positions(book, first, ("kv", 0)) == list(range(10)), "a group that is not named stays"
    assert positions(book, first, ("wide", 0)) == [3, 9]
    book.extend(first, [11])
    book.evict(first, {"kv": slots([0, 10], layers=1), "wide": slots([0], [5], [1], [4])})
    assert [book.cache.length(first, name, place) for name, place in book.known[first].tables] == [2, 1, 1]
    assert [book.cache.page_free(name) for name in ("kv", "wide")] == [7, 14]
    book.check_all()


def test_entries_in_own_pages_move_in_place(make_book: Any) -> None:
    """Without a single free page, and those that stay where they are are not copied."""
    book = make_book(3, LAYERS_AND_HEADS)
    first = book.begin(TEN)
    assert book.reserve(first, 12)
    book.evict(first, {"kv": SOME})
    assert book.storage.copied == 2 + 3 + 0 + 3
    assert len(book.pages(first)) == 1
    assert book.cache.figures().free == 8, "what was reserved is given back too"


@pytest.mark.parametrize("holder", ["fork", "tree", "closed"])
def test_whoever_shares_the_pages_keeps_them(make_book: Any, holder: str) -> None:
    book = make_book(12, LAYERS_AND_HEADS)
    first = book.begin(TEN, publish=holder != "fork")
    other = book.open()
    if holder == "fork":
        other = book.fork(first)
    elif holder == "tree":
        assert book.attach(other, TEN) == 8
    book.evict(first, {"kv": SOME})
    book.check_all()
    if holder == "closed":
        assert book.alive("") == [] and book.attach(other, TEN) == 0, "it had no other owner"
    else:
        assert book.pages(other)[0] != book.pages(first)[0]
        book.extend(other, [7])
        assert len(book.alive("")) == (2 if holder == "tree" else 0)
    book.extend(first, [8] * 6)
    book.publish(first)
    assert len(book.alive("")) == (2 if holder == "tree" else 0), "what is evicted is not offered"
    book.check_all()


def test_the_whole_prefix_lasts_until_its_last_owner_evicts(make_book: Any) -> None:
    book = make_book(12, LAYERS_AND_HEADS)
    first = book.begin(TEN, publish=True)
    second = book.begin(TEN)
    book.evict(first, {"kv": SOME})
    assert sorted(map(len, book.alive(""))) == [4, 8]
    third = book.begin(TEN)
    book.evict(second, {"kv": SOME})
    book.evict(third, {"kv": SOME})
    assert book.alive("") == []
    assert book.cache.figures() == CacheFigures(48, 36, 0, 48)
    book.check_all()


def test_a_beginning_that_others_go_on_from_stays(make_book: Any) -> None:
    """Nodes that nobody uses stay as well, where something follows them that is not evicted."""
    book = make_book(12, LAYERS_AND_HEADS)
    book.close(book.begin([*TEN[:4], 0, 0, 0, 0], publish=True))
    first = book.begin(TEN, publish=True)
    assert len(book.alive("")) == 3
    book.evict(first, {"kv": SOME})
    assert sorted(book.alive("")) == [(1, 2, 3, 4), (1, 2, 3, 4, 0, 0, 0, 0)]
    assert book.cache.figures().kept == 8
    assert book.attach(book.open(), [*TEN[:4], 0, 0, 9]) == 6
    book.check_all()


def test_a_beginning_that_one_other_goes_on_from_stays(make_book: Any) -> None:
    """Also where it is all that the sequence has."""
    book = make_book(12, LAYERS_AND_HEADS)
    book.close(book.begin([*TEN[:8], 0, 0, 0, 0], publish=True))
    first = book.begin(TEN)
    book.evict(first, {"kv": SOME})
    assert sorted(map(len, book.alive(""))) == [4, 8, 12]
    book.check_all()


def test_eviction_needs_no_page_when_only_the_tree_shares(make_book: Any) -> None:
    """The tree gives its hold up first, so a full cache can evict."""
    book = make_book(3, LAYERS_AND_HEADS)
    first = book.begin(TEN, publish=True)
    assert book.reserve(first, 12) and book.cache.figures().free == 0
    book.evict(first, {"kv": SOME})
    assert book.cache.figures() == CacheFigures(12, 8, 0, 12)
    book.check_all()


def test_eviction_without_room_for_copies_changes_nothing(make_book: Any) -> None:
    book = make_book(3, LAYERS_AND_HEADS)
    first = book.begin(TEN, publish=True)
    second = book.fork(first)
    before = book.cache.figures()
    with pytest.raises(OutOfPagesError, match="no page to keep entries apart"):
        book.cache.evict(first, {"kv": SOME})
    assert book.cache.figures() == before
    assert len(book.alive("")) == 2
    book.check_all()
    assert book.cache._sequences[first].exact
    book.cache.evict(first, {"kv": slots(*[[0, 1, 2, 3]] * 4)})
    book.cache.check_integrity()
    book.check(second)


def test_a_step_after_eviction_keeps_any_rows(make_book: Any, make_tree: Any) -> None:
    book = make_book(12, LAYERS_AND_HEADS)
    first = book.begin(TEN)
    book.evict(first, {"kv": SOME})
    book.extend(first, [1, 2, 3, 4, 5], stay=[0, 2])
    assert positions(book, first) == [5, 6, 9, 10, 12]
    book.run({first: make_tree(first, 13, random.Random(1), 3)})
    other = book.begin(TEN)
    book.run({first: book.chain(first, [3, 3], stay=[]), other: book.chain(other, [5])})
    copy = book.fork(first)
    book.extend(copy, [6] * 5)
    book.extend(first, [7])
    book.check_all()


def test_eviction_in_mid_decode(make_book: Any) -> None:
    """Entries that were kept and those that came since are chosen from alike."""
    book = make_book(12, LAYERS_AND_HEADS)
    first = book.begin(TEN)
    book.evict(first, {"kv": SOME})
    book.extend(first, [1, 2, 3, 4, 5, 6])
    copy = book.fork(first)
    book.evict(first, {"kv": slots([0, 1, 8], [0, 2, 3], [1, 2, 3], [6, 7, 8])})
    assert positions(book, first) == [13, 14, 15]
    book.extend(first, [1])
    book.check_all()
    book.truncate(copy, 12)
    book.evict(copy, {"kv": slots(*[[4]] * 4)})
    assert positions(book, copy) == [11]
    book.check_all()


def test_what_comes_after_an_eviction_can_be_taken_back(make_book: Any) -> None:
    """And what was there before cannot, but for everything."""
    book = make_book(12, LAYERS_AND_HEADS)
    first = book.begin(TEN)
    book.evict(first, {"kv": slots(*[[0, 1]] * 4)})
    with pytest.raises(InputError, match="what rows from position 9 on see is gone; go back to 10 or to 0"):
        book.truncate(first, 9)
    book.truncate(first, 10)
    book.extend(first, [1, 2, 3])
    book.truncate(first, 11)
    assert positions(book, first) == [0, 1, 10]
    copy = book.fork(first)
    with pytest.raises(InputError, match="go back to 10"):
        book.truncate(copy, 3)
    book.truncate(first, 0)
    assert book.attach(first, TEN) == 0
    book.extend(first, TEN)
    book.publish(first)
    assert len(book.alive("")) == 2, "begun anew, it can be offered again"
    book.check_all()


@pytest.mark.parametrize(
    ("kept", "what"),
    [
        ({"kv": slots([0, 3], [1, 2], [2, 1], [5, 6])}, "ascend"),
        ({"kv": slots([0, 3], [1, 2], [2, 2], [5, 6])}, "ascend"),
        ({"kv": slots([0, 3], [1, 2], [0, 1], [5, 10])}, "ascend within the table's 10"),
        ({"kv": slots([0, 3], [1, 2], [-1, 1], [5, 6])}, "ascend"),
        ({"kv": slots([0, 3], [1, 2], layers=2)}, "another shape"),
        ({"kv": [np.zeros((2, 1), np.int32), np.array([[0, 1]] * 2, np.int32)]}, "equally many"),
        ({"keys": SOME}, "no cache group 'keys'; name one of kv, near"),
        ({"near": slots([0], layers=1)}, "a window or a chunk"),
    ],
)
def test_what_cannot_be_kept_is_refused(make_book: Any, kept: Any, what: str) -> None:
    book = make_book(12, (*LAYERS_AND_HEADS, ("near", 1, 4, 5)))
    first = book.begin(TEN, publish=True)
    with pytest.raises(InputError, match=what) as raised:
        book.cache.evict(first, kept)
    assert isinstance(raised.value, UnsupportedError) == ("near" in kept)
    book.check_all()
    assert book.cache._sequences[first].plain, "nothing has changed"


def test_windows_go_on_sliding_after_an_eviction(make_book: Any) -> None:
    """The group beside the evicted one keeps what rows can see, however long the answer."""
    book = make_book({"kv": 40, "near": 6}, (("kv", 1, 4, None, 2, 2), ("near", 1, 4, 5)))
    first = book.begin(TEN)
    book.evict(first, {"kv": SOME})
    assert book.reserve(first, 100), "of a window no more than rows can see"
    for token in range(80):
        book.extend(first, [token])
        assert 5 <= book.cache.length(first, "near") <= 5 + 2 * 4
    assert book.cache.length(first, "kv") == 3 + 80
    with pytest.raises(InputError, match="is gone"):
        book.truncate(first, 70)
    book.truncate(first, 88)
    book.extend(first, [5, 6])
    book.check_all()


def test_nothing_may_stay(make_book: Any) -> None:
    book = make_book(12, LAYERS_AND_HEADS)
    first = book.begin(TEN)
    book.evict(first, {"kv": np.zeros((2, 2, 0), np.int32)})
    assert book.cache.figures().used == 0
    book.extend(first, [1, 2])
    assert positions(book, first) == [10, 11]
    book.check_all()


def test_the_reference_moves_numbers() -> None:
    """Keys and values of each layer and head, read back through the tables after the move."""
    layout = CacheLayout((CacheGroup("kv", (3, 7), 2, 2, 1, page_size=4),))
    storage = ReferenceCache(layout, 6)
    cache = PagedCache(layout, {"kv": 6}, storage)
    number = cache.open()
    batch = cache.prepare(Step((Span.causal(number, np.arange(10, dtype=np.int32), 0),)))
    for layer in (3, 7):
        for row in range(10):
            keys = np.array([[layer, row], [layer, row + 100]], np.float32)
            storage.write(batch, "kv", layer, row, keys, keys[:, 1:])
    cache.commit([Commit(number, np.arange(10, dtype=np.int32))])
    cache.evict(number, {"kv": SOME})
    batch = cache.prepare(Step((Span.causal(number, np.zeros(1, np.int32), 10),)))
    for at, layer in enumerate((3, 7)):
        for head in (0, 1):
            keys, values = storage.read(batch, "kv", layer, 0, head, np.arange(3))
            expected = SOME[at, head] + 100 * head
            assert keys.tolist() == [[layer, row] for row in expected.tolist()]
            assert values[:, 0].tolist() == expected.tolist()
