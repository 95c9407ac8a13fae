"""The paged cache: sequences with page tables, and steps turned into batches.

For each sequence, group and table it keeps the pages and the logical position of each entry, slot by
slot. `prepare` gives the rows of a step slots after the entries already there and turns visible
positions into slots; `commit` keeps the rows that a decoder accepted, moving their entries together
when they are not a prefix. It owns numbers only: entries are moved by the storage it is given.
Sharing of prefixes and eviction build on these tables; they are not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fivefold.core.batch import Batch, Bool, Commit, Float32, GroupView, Int32, Span, Step
from fivefold.core.errors import InputError
from fivefold.core.layout import CacheGroup, CacheLayout

from .pages import PagePool


class Storage(Protocol):
    """What moves entries between slots."""

    def copy_entries(
        self, name: str, page_from: Int32, slot_from: Int32, page_to: Int32, slot_to: Int32
    ) -> None:
        """Copy entry by entry, in order."""
        ...


@dataclass(slots=True)
class _Table:
    """Pages and the logical positions of the entries that stay (one a slot, ascending)."""

    pages: list[int]
    positions: Int32

    @property
    def length(self) -> int:
        return len(self.positions)


_EMPTY: Int32 = np.zeros(0, np.int32)


class PagedCache:
    """All sequences of one model. `pages` are the pages of each cache group by name."""

    def __init__(self, layout: CacheLayout, pages: Mapping[str, int], storage: Storage) -> None:
        self.layout = layout
        self._storage = storage
        self._pools = {group.name: PagePool(pages[group.name]) for group in layout.groups}
        self._tables: dict[int, dict[str, list[_Table]]] = {}
        self._states: dict[int, int] = {}
        self._pending: dict[int, Span] = {}
        self._next = 0

    def page_free(self, group: str) -> int:
        """Free pages of a group."""
        return self._pools[group].page_free

    def open(self) -> int:
        """A new, empty sequence; its number."""
        sequence = self._next
        self._next += 1
        self._tables[sequence] = {
            group.name: [_Table([], _EMPTY) for _ in range(group.tables)] for group in self.layout.groups
        }
        used = set(self._states.values())
        self._states[sequence] = next(slot for slot in range(len(used) + 1) if slot not in used)
        return sequence

    def close(self, sequence: int) -> None:
        """Forget a sequence and release its pages; the one way out."""
        for name, tables in self._tables.pop(sequence).items():
            for table in tables:
                for page in table.pages:
                    self._pools[name].release(page)
        del self._states[sequence]
        self._pending.pop(sequence, None)

    def truncate(self, sequence: int, positions: int) -> None:
        """Forget the entries at that logical position and after it."""
        for name, tables in self._tables[sequence].items():
            for table in tables:
                keep = int(np.searchsorted(table.positions, positions))
                table.positions = table.positions[:keep]
                self._trim(self.layout.group(name), table)

    def retain(self, sequence: int, name: str, place: int, slots: Int32) -> None:
        """Keep only these slots (ascending) of one table, moved together; the rest is evicted.

        Logical positions stay with their entries, so from here on a slot is not a position.
        """
        group, table = self.layout.group(name), self._tables[sequence][name][place]
        if len(slots) and (np.any(np.diff(slots) <= 0) or slots[0] < 0 or slots[-1] >= table.length):
            raise InputError("slots to keep must ascend within the table", where=f"{name}, table {place}")
        self._move(group, table, slots, np.arange(len(slots), dtype=np.int32))
        table.positions = table.positions[slots]
        self._trim(group, table)

    def length(self, sequence: int, group: str, table: int = 0) -> int:
        """Entries that a sequence keeps in a table."""
        return self._tables[sequence][group][table].length

    def prepare(self, step: Step) -> Batch:
        """The batch of a step; OutOfPagesError leaves everything as it was."""
        self._reserve(step)
        spans = step.spans
        counts = [len(span.tokens) for span in spans]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        names = dict.fromkeys(name for span in spans for name in span.row_sets)
        row_sets = {
            name: np.concatenate(
                [offsets[i] + span.row_sets[name] for i, span in enumerate(spans) if name in span.row_sets]
            ).astype(np.int32)
            for name in names
        }
        given = dict.fromkeys(name for span in spans for name in span.inputs)
        inputs: dict[str, Float32] = {
            name: np.concatenate([span.inputs[name] for span in spans if name in span.inputs])
            for name in given
        }
        for span in spans:
            self._pending[span.sequence] = span
        state = np.array([self._states[span.sequence] for span in spans], np.int32)
        return Batch(
            np.concatenate([span.tokens for span in spans]).astype(np.int32),
            np.concatenate([span.positions for span in spans]).astype(np.int32),
            np.repeat(np.arange(len(spans), dtype=np.int32), counts),
            row_sets,
            {group.name: self._view(group, spans) for group in self.layout.groups},
            {group.name: state for group in self.layout.states},
            inputs,
        )

    def commit(self, commits: Iterable[Commit]) -> None:
        """Keep the named rows of each sequence's last span, and forget the others."""
        for commit in commits:
            span = self._pending.pop(commit.sequence)
            for name, tables in self._tables[commit.sequence].items():
                for table in tables:
                    self._keep(self.layout.group(name), table, span, commit.rows)

    def check_integrity(self) -> None:
        """AssertionError unless pages, tables and entries fit together."""
        for name, pool in self._pools.items():
            tables = [table for kept in self._tables.values() for table in kept[name]]
            pool.check_integrity([page for table in tables for page in table.pages])
            size = self.layout.group(name).page_size
            for table in tables:
                assert table.length <= len(table.pages) * size, "entries without a page"
                assert bool(np.all(np.diff(table.positions) > 0)), "positions out of order"

    def _reserve(self, step: Step) -> None:
        """Pages for all rows of the step, all or none."""
        wanted: list[tuple[PagePool, _Table, int]] = []
        for span in step.spans:
            for name, tables in self._tables[span.sequence].items():
                size = self.layout.group(name).page_size
                for table in tables:
                    more = -(-(table.length + len(span.tokens)) // size) - len(table.pages)
                    wanted.append((self._pools[name], table, max(more, 0)))
        for name, pool in self._pools.items():
            total = sum(more for owner, _, more in wanted if owner is pool)
            if total > pool.page_free:
                pool.take(total)  # raises with the numbers
            del name
        for pool, table, more in wanted:
            table.pages.extend(pool.take(more))

    def _view(self, group: CacheGroup, spans: tuple[Span, ...]) -> GroupView:
        """Tables, intervals and masks of one group for the rows of these spans."""
        tables = [self._tables[span.sequence][group.name] for span in spans]
        width = max(len(table.pages) for kept in tables for table in kept)
        numbers = np.full((len(spans), group.tables, max(width, 1)), -1, np.int32)
        for index, kept in enumerate(tables):
            for place, table in enumerate(kept):
                numbers[index, place, : len(table.pages)] = table.pages
        parts = [_intervals(span, kept) for span, kept in zip(spans, tables, strict=True)]
        start, stop, write = (np.concatenate([part[i] for part in parts]) for i in range(3))
        if all(part[3] is None for part in parts):
            return GroupView(numbers, start, stop, write)
        mask, first = _masks(spans, tables, parts)
        return GroupView(numbers, start, stop, write, mask, first)

    def _keep(self, group: CacheGroup, table: _Table, span: Span, rows: Int32) -> None:
        """Move the kept rows' entries together after the old ones, and drop the rest."""
        base = table.length
        self._move(group, table, base + rows, base + np.arange(len(rows), dtype=np.int32))
        table.positions = np.concatenate([table.positions, span.positions[rows]]).astype(np.int32)
        self._trim(group, table)

    def _move(self, group: CacheGroup, table: _Table, source: Int32, target: Int32) -> None:
        """Copy entries from slots to slots that are not after them."""
        moved = source != target
        if not moved.any():
            return
        pages, size = np.array(table.pages, np.int32), group.page_size
        self._storage.copy_entries(
            group.name,
            pages[source[moved] // size],
            (source[moved] % size).astype(np.int32),
            pages[target[moved] // size],
            (target[moved] % size).astype(np.int32),
        )

    def _trim(self, group: CacheGroup, table: _Table) -> None:
        """Release the pages after the last entry."""
        needed = -(-table.length // group.page_size)
        for page in table.pages[needed:]:
            self._pools[group.name].release(page)
        del table.pages[needed:]


_Part = tuple[Int32, Int32, Int32, Bool | None]


def _intervals(span: Span, tables: list[_Table]) -> _Part:
    """start, stop, write (T, tables) of a span's rows, and (T, T) which rows see each other, or None."""
    count = len(span.tokens)
    ordered = bool(np.all(np.diff(span.positions) > 0))
    mask = span.mask
    if mask is None and not ordered:
        inside = span.positions[None, :]
        mask = (inside >= span.visible[:, :1]) & (inside < span.visible[:, 1:])
    shape = (count, len(tables))
    start, stop, write = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for place, table in enumerate(tables):
        known = np.concatenate([table.positions, span.positions]) if mask is None else table.positions
        start[:, place] = np.searchsorted(known, span.visible[:, 0])
        stop[:, place] = np.searchsorted(known, span.visible[:, 1]) if mask is None else table.length + count
        write[:, place] = table.length + np.arange(count)
    return start, stop, write, mask


def _masks(
    spans: tuple[Span, ...], tables: list[list[_Table]], parts: list[_Part]
) -> tuple[npt.NDArray[np.uint64], Int32]:
    """Bit masks (N, W) over the rows of each span, and the slot that bit 0 stands for (N, tables)."""
    words = max(-(-len(span.tokens) // 64) for span in spans)
    masks, firsts = [], []
    for span, kept, part in zip(spans, tables, parts, strict=True):
        count = len(span.tokens)
        seen = np.ones((count, count), bool) if part[3] is None else part[3]
        bits = np.zeros((count, words * 64), np.uint8)
        bits[:, :count] = seen
        packed = np.packbits(bits, axis=1, bitorder="little")
        masks.append(np.ascontiguousarray(packed).view("<u8"))
        firsts.append(np.tile(np.array([table.length for table in kept], np.int32), (count, 1)))
    return np.concatenate(masks).astype(np.uint64), np.concatenate(firsts)
