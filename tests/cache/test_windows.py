"""Attention windows and chunks: what rows see of groups that have one, against a plain search of positions.

Steps of many rows and of one, trees, rows out of order, sequences with gaps and after an eviction, with a
group beside them that hides nothing.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fivefold.cache import PagedCache
from fivefold.core.batch import Commit, Int32, Span, Step
from fivefold.core.layout import CacheGroup, CacheLayout
from fivefold.ops.attention import visible_slots

WINDOW, CHUNK = 7, 6
LAYOUT = CacheLayout(
    (
        CacheGroup("whole", (0,), 1, 8, 8, page_size=4),
        CacheGroup("near", (1,), 1, 8, 8, page_size=4, window=WINDOW),
        CacheGroup("as near", (4,), 1, 8, 8, page_size=4, window=WINDOW),
        CacheGroup("heads", (2,), 2, 8, 8, tables=2, page_size=4, window=3),
        CacheGroup("chunk", (3,), 1, 8, 8, page_size=4, chunk=CHUNK),
    )
)
PAGES = {"whole": 64, "near": 64, "as near": 64, "heads": 128, "chunk": 64}
KEYS = [(group.name, table) for group in LAYOUT.groups for table in range(group.tables)]


class Nothing:
    """A storage that keeps nothing."""

    def copy_entries(self, name: str, *places: Int32) -> None:
        """There is nothing to copy."""

    def copy_head_entries(self, name: str, layer: int, head: int, *places: Int32) -> None:
        """Nor here."""

    def copy_state(self, source: int, target: int) -> None:
        """Nor here."""


class Watched:
    """A cache, and beside it the positions of the slots of each table of each sequence."""

    def __init__(self) -> None:
        self.cache = PagedCache(LAYOUT, PAGES, Nothing())
        self.held: dict[int, dict[tuple[str, int], list[int]]] = {}
        self.following: dict[int, int] = {}

    def open(self) -> int:
        number = self.cache.open()
        self.held[number] = {key: [] for key in KEYS}
        self.following[number] = 0
        return number

    def gone(self, number: int, key: tuple[str, int]) -> int:
        """Slots of a table whose pages are gone; no row that is to come may see them, nor those closed up."""
        held = self.held[number][key]
        gone = self.cache._sequences[number].tables[key[0]][key[1]].gone * 4
        closed = len(held) - gone - self.cache.length(number, *key)
        window = LAYOUT.group(key[0]).window
        for position in held[: gone + closed]:
            assert window is not None and position <= self.following[number] - window
        del held[:closed]
        return gone

    def run(self, *spans: Span) -> None:
        """A step; each row of it must see what a plain search finds."""
        batch = self.cache.prepare(Step(spans))
        for span in spans:
            for key in KEYS:
                self.gone(span.sequence, key)
        offset = 0
        for span in spans:
            for row in range(len(span.tokens)):
                for (name, table), old in self.held[span.sequence].items():
                    slots = visible_slots(batch.groups[name], offset + row, table)
                    all_positions = [*old, *span.positions.tolist()]
                    found = [(int(slot), all_positions[slot]) for slot in slots]
                    group = LAYOUT.group(name)
                    assert found == list(seen(span, row, len(old), all_positions, group)), (name, row)
            offset += len(span.tokens)

    def keep(self, span: Span, rows: list[int]) -> None:
        self.cache.commit([Commit(span.sequence, np.array(rows, np.int32))])
        if rows:
            self.following[span.sequence] = int(span.positions[rows[-1]]) + 1
        for key in KEYS:
            held = self.held[span.sequence][key]
            held.extend(span.positions[rows].tolist())
            self.gone(span.sequence, key)
        self.cache.check_integrity()

    def evict(self, number: int, key: tuple[str, int], slots: list[int]) -> None:
        gone = self.gone(number, key)
        self.cache.retain(number, *key, np.array(slots, np.int32))
        held = self.held[number]
        held[key] = [held[key][gone + slot] for slot in slots]
        for each in KEYS:
            self.gone(number, each)


def seen(span: Span, row: int, old: int, positions: list[int], group: CacheGroup) -> Any:
    """Slots and positions that a row sees, by the words of `Span` and of `CacheGroup`."""
    low, high = span.visible[row].tolist()
    own, window, chunk = int(span.positions[row]), group.window, group.chunk
    for slot, position in enumerate(positions):
        inside = slot - old
        if inside >= 0 and span.mask is not None:
            allowed = bool(span.mask[row, inside])
        else:
            allowed = low <= position < high
        near = window is None or position > own - window
        if allowed and near and (chunk is None or position // chunk >= own // chunk):
            yield slot, position


def chain(number: int, first: int, count: int) -> Span:
    return Span.causal(number, np.zeros(count, np.int32), first)


@pytest.mark.parametrize("chunks", [[20], [1] * 20, [3, 1, 9, 7], [8, 8, 4], [30, 1, 1]])
def test_chunks_and_single_rows_see_the_window(chunks: list[int]) -> None:
    watched = Watched()
    number, first = watched.open(), 0
    for count in chunks:
        span = chain(number, first, count)
        watched.run(span)
        watched.keep(span, list(range(count)))
        first += count


def test_a_row_sees_itself_and_as_many_as_the_window_has() -> None:
    watched = Watched()
    span = chain(watched.open(), 0, 12)
    views = watched.cache.prepare(Step((span,))).groups
    assert (views["near"].stop - views["near"].start)[:, 0].tolist() == [1, 2, 3, 4, 5, 6, *[7] * 6]
    assert (views["heads"].stop - views["heads"].start)[:, 1].tolist() == [1, 2, *[3] * 10]
    assert not views["whole"].start.any()
    assert (views["chunk"].stop - views["chunk"].start)[:, 0].tolist() == [1, 2, 3, 4, 5, 6] * 2


@pytest.mark.parametrize("seed", range(8))
def test_sequences_of_all_kinds_see_the_window(seed: int) -> None:
    dice, watched = random.Random(seed), Watched()
    numbers = [watched.open() for _ in range(3)]
    following = dict.fromkeys(numbers, 0)
    for _ in range(14):
        spans = [any_span(dice, n, following[n]) for n in dice.sample(numbers, dice.randint(1, 3))]
        watched.run(*spans)
        for span in spans:
            count = len(span.tokens)
            rows = list(range(count))
            if span.mask is not None:
                rows = rows[:1]
            elif np.any(np.diff(span.positions) < 0):
                rows = []
            elif dice.random() < 0.3:
                rows = sorted(dice.sample(rows, dice.randint(0, count)))
            watched.keep(span, rows)
            if rows:
                following[span.sequence] = int(span.positions[rows[-1]]) + 1
        if dice.random() < 0.25:
            number, key = dice.choice(numbers), dice.choice(KEYS)
            slots = range(watched.cache.length(number, *key))
            watched.evict(number, key, sorted(dice.sample(slots, dice.randint(0, len(slots)))))


def any_span(dice: random.Random, number: int, first: int) -> Span:
    """A chunk, with a gap before it at times, that sees a part; rows out of order; or a tree."""
    count, kind = dice.randint(1, 12), dice.choice(["chunk", "chunk", "order", "tree"])
    if kind == "chunk":
        span = chain(number, first + dice.choice([0, 0, 0, 5]), count)
        span.visible[:, 0] = dice.choice([0, 0, 2, first])
        return span
    positions = list(range(first, first + count))
    mask = None
    if kind == "order":
        dice.shuffle(positions)
    else:  # two rows a depth, the second ones a path of their own
        positions = [first + depth // 2 for depth in range(count)]
        mask = np.array([[a % 2 == b % 2 and b <= a for b in range(count)] for a in range(count)], bool)
    at = np.array(positions, np.int32)
    visible = np.stack([np.zeros_like(at), at + 1], axis=1)
    return Span(number, np.zeros(count, np.int32), at, visible, mask)


@pytest.mark.parametrize("masked", [False, True])
def test_a_row_may_count_its_window_from_elsewhere(masked: bool) -> None:
    """Rows of a canvas see what a row at its start would see, and each other; those before it are as ever."""
    watched = Watched()
    number = watched.open()
    watched.cache.prepare(Step((chain(number, 0, 10),)))
    watched.cache.commit([Commit(number, np.arange(10, dtype=np.int32))])
    span = chain(number, 10, 11)
    span.visible[3:, 1] = 21
    mask = np.arange(11)[None, :] < span.visible[:, 1:] - 10 if masked else None
    span = replace(span, window_at=np.minimum(span.positions, 13), mask=mask)
    near = watched.cache.prepare(Step((span,))).groups["near"]
    assert near.start[:, 0].tolist() == [4, 5, 6, *[13 - WINDOW + 1] * 8]
    if not masked:
        assert near.stop[:, 0].tolist() == [11, 12, 13, *[21] * 8]
