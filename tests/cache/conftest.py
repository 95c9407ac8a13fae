"""A model of the cache in plain Python, and a storage that knows what was written into each slot.

`Book` drives a `PagedCache` as a runner and an executor would: it writes every row's entry through the
tables and slots of the batch. The value of an entry is a number for (the entry before it, position, token),
so two entries are equal only if all that led to them is. Beside the cache each sequence is a
plain list of entries; `check` reads them back through the tables and compares.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from fivefold.cache import PagedCache
from fivefold.core.batch import LOGITS, Batch, Bool, Commit, Int32, Span, Step
from fivefold.core.layout import CacheGroup, CacheLayout

SIZE = 4
Entry = tuple[int, int]
"""Position and value."""

Lanes = tuple[int, ...]
"""What a slot has for each layer and head of its page."""


class Slots:
    """A storage of values by group, page and slot, one for each layer and head of the page, and the place of
    the table; reading one that was never written fails."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, int, int], tuple[Lanes, int]] = {}
        self.heads: dict[str, int] = {}
        self.copied = 0
        self.copied_states: list[tuple[int, int]] = []

    def copy_entries(
        self, name: str, page_from: Int32, slot_from: Int32, page_to: Int32, slot_to: Int32
    ) -> None:
        moves = zip(page_from.tolist(), slot_from.tolist(), page_to.tolist(), slot_to.tolist(), strict=True)
        for page, slot, to_page, to_slot in moves:
            self.values[name, to_page, to_slot] = self.values[name, page, slot]
            self.copied += 1

    def copy_head_entries(
        self, name: str, layer: int, head: int,
        page_from: Int32, slot_from: Int32, page_to: Int32, slot_to: Int32,
    ) -> None:  # fmt: skip
        lane = layer * self.heads[name] + head
        moves = zip(page_from.tolist(), slot_from.tolist(), page_to.tolist(), slot_to.tolist(), strict=True)
        for page, slot, to_page, to_slot in moves:
            lanes, place = self.values[name, page, slot]
            old = list(self.values.get((name, to_page, to_slot), (lanes, place))[0])
            old[lane] = lanes[lane]
            self.values[name, to_page, to_slot] = (tuple(old), place)
            self.copied += 1

    def copy_state(self, source: int, target: int) -> None:
        self.copied_states.append((source, target))


@dataclass
class Known:
    """What a sequence must have: all entries that came and stayed, and those that each table still has."""

    salt: str
    tokens: list[int] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    tables: dict[tuple[str, int], list[tuple[int, Lanes]]] = field(default_factory=dict)
    exact: bool = True
    promised: int = 0


@dataclass(frozen=True)
class Rows:
    """Rows to add to a sequence: what each holds, which rows it sees, and which of them stay."""

    tokens: list[int]
    positions: list[int]
    parents: list[int]
    """Index of the row before it, -1 for the last entry of the sequence."""
    stay: list[int]
    tree: bool = False


class Book:
    """A cache under test and its model."""

    def __init__(
        self, layout: CacheLayout, pages: int | dict[str, int], rows: int = 6, slots: int = 8
    ) -> None:
        each = pages if isinstance(pages, dict) else {g.name: pages * g.tables for g in layout.groups}
        self.layout, self.storage = layout, Slots()
        self.cache = PagedCache(layout, each, self.storage, rows, slots)
        self.known: dict[int, Known] = {}
        self._sizes = {group.name: group.page_size for group in layout.groups}
        self.storage.heads = {group.name: group.heads_per_page for group in layout.groups}
        self._lanes = {group.name: len(group.layers) * group.heads_per_page for group in layout.groups}

    @staticmethod
    def value(before: object, position: int, token: int) -> int:
        """The number of an entry."""
        return hash((before, position, token))

    def open(self, salt: str = "") -> int:
        number = self.cache.open()
        self.known[number] = Known(salt, tables={key: [] for key in self._keys()})
        return number

    def attach(self, number: int, tokens: Sequence[int]) -> int:
        """Attach, and read back what was found."""
        known = self.known[number]
        found = self.cache.attach(number, tokens, known.salt)
        before: object = known.salt
        for position, token in enumerate(tokens[:found]):
            before = self.value(before, position, token)
            known.entries.append((position, before))
        known.tokens = list(tokens[:found])
        for name, place in known.tables:
            known.tables[name, place] = [(p, (value,) * self._lanes[name]) for p, value in known.entries]
        self.check(number)
        return found

    def begin(self, tokens: Sequence[int], salt: str = "", publish: bool = False) -> int:
        """A sequence with these tokens: attached as far as possible, the rest run."""
        number = self.open(salt)
        found = self.attach(number, tokens)
        if found < len(tokens):
            self.extend(number, tokens[found:])
        if publish:
            self.publish(number)
        return number

    def extend(self, number: int, tokens: Sequence[int], stay: list[int] | None = None) -> None:
        """Run some tokens in order; by default all of them stay."""
        self.run({number: self.chain(number, tokens, stay)})

    def chain(self, number: int, tokens: Sequence[int], stay: list[int] | None = None) -> Rows:
        """Rows that follow each other."""
        first, count = self.next_position(number), len(tokens)
        positions = list(range(first, first + count))
        return Rows(
            list(tokens), positions, list(range(-1, count - 1)), list(range(count)) if stay is None else stay
        )

    def next_position(self, number: int) -> int:
        entries = self.known[number].entries
        return entries[-1][0] + 1 if entries else 0

    def run(self, work: dict[int, Rows], commit: bool = True) -> None:
        """One step of several sequences; OutOfPagesError comes before anything is changed."""
        spans = [_span(number, rows) for number, rows in work.items()]
        batch = self.cache.prepare(Step(tuple(spans)))
        values = [self._values_of(number, rows) for number, rows in work.items()]
        self._write(batch, [value for part in values for value in part])
        last = -1
        for index, (number, rows) in enumerate(work.items()):
            last += len(rows.tokens)
            self._see(batch, last, index, number, rows, values[index])
        if commit:
            self.commit(work, values)

    def commit(self, work: dict[int, Rows], values: list[list[int]]) -> None:
        self.cache.commit(Commit(number, np.array(rows.stay, np.int32)) for number, rows in work.items())
        for (number, rows), part in zip(work.items(), values, strict=True):
            known = self.known[number]
            for row in rows.stay:
                known.exact = known.exact and rows.positions[row] == len(known.entries)
                known.entries.append((rows.positions[row], part[row]))
                known.tokens.append(rows.tokens[row])
                for (name, _), table in known.tables.items():
                    table.append((rows.positions[row], (part[row],) * self._lanes[name]))
            self.check(number)

    def publish(self, number: int, count: int | None = None) -> None:
        known = self.known[number]
        self.cache.publish(number, known.tokens[:count], known.salt)
        self.check(number)

    def fork(self, number: int) -> int:
        old, copy = self.known[number], self.cache.fork(number)
        old.promised = 0  # the copy of the page that both have now was not reserved
        tables = {key: list(table) for key, table in old.tables.items()}
        self.known[copy] = Known(old.salt, list(old.tokens), list(old.entries), tables, old.exact)
        self.check(copy)
        return copy

    def truncate(self, number: int, position: int) -> None:
        self.cache.truncate(number, position)
        known = self.known[number]
        known.promised = 0
        known.entries = [entry for entry in known.entries if entry[0] < position]
        del known.tokens[len(known.entries) :]
        for key, table in known.tables.items():
            known.tables[key] = [entry for entry in table if entry[0] < position]
        known.exact = known.exact or position == 0
        self.check(number)

    def retain(self, number: int, key: tuple[str, int], slots: list[int]) -> None:
        known = self.known[number]
        gone = len(known.tables[key]) - self.cache.length(number, *key)
        self.cache.retain(number, *key, np.array(slots, np.int32))
        known.tables[key] = [known.tables[key][gone + slot] for slot in slots]
        known.exact, known.promised = False, 0
        self.check(number)

    def evict(self, number: int, kept: dict[str, Any]) -> None:
        """`kept` is as PagedCache takes it; each lane of a slot then has the value of its own entry."""
        known = self.known[number]
        self.cache.evict(number, kept)
        for name, wanted in kept.items():
            group = self.layout.group(name)
            each = list(np.moveaxis(wanted, 1, 0)) if isinstance(wanted, np.ndarray) else wanted
            for place in range(group.tables):
                heads = each[place * group.heads_per_page :][: group.heads_per_page]
                lanes = [head[layer].tolist() for layer in range(len(group.layers)) for head in heads]
                old = known.tables[name, place]
                known.tables[name, place] = [
                    (max(old[slot][0] for slot in slots), tuple(old[s][1][i] for i, s in enumerate(slots)))
                    for slots in zip(*lanes, strict=True)
                ]
        known.exact, known.promised = False, 0
        self.check(number)

    def reserve(self, number: int, entries: int) -> bool:
        taken = self.cache.reserve(number, entries)
        if taken:
            self.known[number].promised = max(entries, self.known[number].promised)
        return taken

    def close(self, number: int) -> None:
        self.cache.close(number)
        del self.known[number]

    def pages(self, number: int, key: tuple[str, int] = ("kv", 0)) -> Any:
        """The pages of one table."""
        return self.cache._sequences[number].tables[key[0]][key[1]].pages.tolist()

    def alive(self, salt: str) -> list[tuple[int, ...]]:
        """The tokens from the root to each node of a salt, by the tree itself."""
        roots = self.cache._tree._roots
        left = [((), root) for key, root in roots.items() if key == salt.encode()]
        found: list[tuple[int, ...]] = []
        while left:
            before, node = left.pop()
            below = [((*before, *np.frombuffer(key, np.int32).tolist()), child)
                     for key, child in node.children.items()]  # fmt: skip
            found.extend(tokens for tokens, _ in below)
            left.extend(below)
        return found

    def whole_pages(self, salt: str, tokens: Sequence[int]) -> int:
        """How many tokens in whole pages the tree has with all that rows from a page before the end see."""
        node, path = self.cache._tree._roots.get(salt.encode()), list[set[str]]()
        while node is not None and len(tokens) >= (len(path) + 1) * SIZE:
            part = np.array(tokens[len(path) * SIZE : (len(path) + 1) * SIZE], np.int32)
            node = node.children.get(part.tobytes())
            if node is not None:
                path.append(set(node.pages))
        windows = {group.name: group.window for group in self.layout.groups if group.window is not None}
        for count in range(len(path), 0, -1):
            if all(
                name in path[place]
                for name, window in windows.items()
                for place in range(count)
                if (place + 1) * SIZE > (count - 1) * SIZE - window + 1
            ):
                return count * SIZE
        return 0

    def check(self, number: int) -> None:
        """Every entry of every table is what the model says."""
        known = self.known[number]
        for name, place in known.tables:
            size, values = self._sizes[name], self.storage.values
            there = [page for page in self.pages(number, (name, place)) if page >= 0]
            keys = [(name, page, slot) for page in there for slot in range(size)]
            length = self.cache.length(number, name, place)
            del keys[length:]
            table = known.tables[name, place]
            gone, window = table[: len(table) - length], self.layout.group(name).window
            for position, _ in gone:
                assert window is not None and position <= self.next_position(number) - window, "it is seen"
            assert len(gone) % size == 0 or not known.exact
            expected = [(value, place) for _, value in table[len(gone) :]]
            assert [values[key] for key in keys] == expected, (number, name, place)

    def check_all(self) -> None:
        for number in self.known:
            self.check(number)
        self.cache.check_integrity()

    def _keys(self) -> list[tuple[str, int]]:
        return [(group.name, place) for group in self.layout.groups for place in range(group.tables)]

    def _values_of(self, number: int, rows: Rows) -> list[int]:
        known, values = self.known[number], list[int]()
        first: object = known.entries[-1][1] if known.entries else known.salt
        for token, position, parent in zip(rows.tokens, rows.positions, rows.parents, strict=True):
            values.append(self.value(first if parent < 0 else values[parent], position, token))
        return values

    def _write(self, batch: Batch, values: list[int]) -> None:
        """What an executor does with the rows of a batch."""
        for group in self.layout.groups:
            view, pool = batch.groups[group.name], self.cache._pools[group.name]
            for row, (sequence, slots) in enumerate(zip(batch.sequence, view.write.tolist(), strict=True)):
                for place, slot in enumerate(slots):
                    page = int(view.tables[sequence, place, slot // group.page_size])
                    assert pool.holders(page) == 1, "a page that others have is written"
                    lanes = (values[row],) * self._lanes[group.name]
                    self.storage.values[group.name, page, slot % group.page_size] = (lanes, place)

    def _see(self, batch: Batch, row: int, index: int, number: int, rows: Rows, values: list[int]) -> None:
        """The last row of a span sees the kept entries of each table, the rows before it, and itself."""
        path, at = list[Entry](), len(values) - 1
        while at >= 0:
            path.append((rows.positions[at], values[at]))
            at = rows.parents[at]
        for name, place in self.known[number].tables:
            group = self.layout.group(name)
            view, size, window = batch.groups[name], group.page_size, group.window
            seen = list[tuple[Lanes, int]]()
            for slot in range(int(view.start[row, place]), int(view.stop[row, place])):
                bit = slot - int(view.mask_from[row, place]) if view.mask_from is not None else -1
                if view.mask is None or bit < 0 or int(view.mask[row, bit // 64]) >> bit % 64 & 1:
                    page = int(view.tables[index, place, slot // size])
                    seen.append(self.storage.values[name, page, slot % size])
            new = [(position, (value,) * self._lanes[name]) for position, value in path[::-1]]
            entries = self.known[number].tables[name, place] + new
            least = 0 if window is None else rows.positions[-1] - window + 1
            assert seen == [(value, place) for position, value in entries if position >= least]


def _span(number: int, rows: Rows) -> Span:
    count = len(rows.tokens)
    positions = np.array(rows.positions, np.int32)
    visible = np.stack([np.zeros(count, np.int32), positions + 1], axis=1)
    mask: Bool | None = None
    if rows.tree:
        mask = np.zeros((count, count), bool)
        for row, parent in enumerate(rows.parents):
            if parent >= 0:
                mask[row] = mask[parent]
            mask[row, row] = True
    wanted = {LOGITS: np.array([count - 1], np.int32)}
    return Span(number, np.array(rows.tokens, np.int32), positions, visible, mask, wanted)


def draft_tree(number: int, first: int, random: random.Random, most: int) -> Rows:
    """A path of draft tokens with a wrong sibling at each depth; a part of the path stays."""
    rows, path = Rows([], [], [], [], tree=True), [-1]
    for depth in range(random.randint(1, most)):
        before = path[-1]
        for right in random.sample([True, False], 2):
            if right:
                path.append(len(rows.tokens))
            rows.tokens.append(random.randrange(2))
            rows.positions.append(first + depth)
            rows.parents.append(before)
    rows.stay.extend(path[1 : random.randint(1, len(path))])
    return rows


def group(
    name: str = "kv", tables: int = 1, size: int = SIZE, window: int | None = None,
    layers: int = 1, heads: int = 1,
) -> CacheGroup:  # fmt: skip
    """`heads` are those of each table."""
    there = tuple(range(layers))
    return CacheGroup(name, there, tables * heads, 8, 8, tables=tables, page_size=size, window=window)


@pytest.fixture
def make_book() -> Callable[..., Book]:
    """A book over some groups, by default one; `pages` of each table."""

    def make(
        pages: int | dict[str, int] = 12,
        groups: Sequence[tuple[Any, ...]] = (("kv", 1, SIZE),),
        states: tuple[object, ...] = (),
    ) -> Book:
        chosen = tuple(group(*numbers) for numbers in groups)
        return Book(CacheLayout(chosen, states), pages)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_tree() -> Callable[..., Rows]:
    return draft_tree


@pytest.fixture
def make_rows() -> Callable[..., Rows]:
    return Rows
