"""Spans as executors see them: page tables, slots and masks in place of logical positions.

For plain sequences a position is a slot, so the spans' own arrays do. Otherwise visible positions are looked
up among those of the entries; rows of a span that are not in the order of their positions, or that see
each other by a rule of their own, get a bit mask. A group with a window shows each row no position that
lies further back than that, and one with chunks none before the row's own chunk, whatever the span allows;
both are counted from other positions than the row's own where the span says so.
"""

from __future__ import annotations

from collections.abc import Sequence as Listing

import numpy as np
import numpy.typing as npt

from fivefold.core.batch import Bool, Float32, GroupView, Int32, Span, joined
from fivefold.core.layout import CacheGroup

from .tables import Sequence

_Part = tuple[Int32, Int32, Int32, Bool | None]


def follows_on(span: Span, sequence: Sequence) -> bool:
    """Whether a span's rows are the next positions of a plain sequence, with no mask."""
    if not sequence.plain or span.mask is not None:
        return False
    positions, first = span.positions, sequence.count
    if positions[0] != first or positions[-1] != first + len(positions) - 1:
        return False
    return len(positions) < 3 or bool((positions[1:] - positions[:-1] == 1).all())


def group_views(
    groups: Listing[CacheGroup], spans: Listing[Span], sequences: Listing[Sequence]
) -> dict[str, GroupView]:
    """A view for each group, for the rows of all spans together. Views of groups that show rows the same may
    share their arrays, which nobody writes to."""
    if all(follows_on(span, sequence) for span, sequence in zip(spans, sequences, strict=True)):
        count = [len(span.tokens) for span in spans]
        last = [s.count + rows for s, rows in zip(sequences, count, strict=True)]
        seen = np.maximum(joined([span.visible for span in spans]), 0)
        seen = np.minimum(seen, last[0] if len(last) == 1 else np.repeat(last, count)[:, None])
        write = joined([span.positions for span in spans])
        at = joined([_counted_from(span) for span in spans])
        alike: dict[tuple[int | None, int | None, int], tuple[Int32, Int32, Int32]] = {}
        views: dict[str, GroupView] = {}
        for group in groups:
            kind = group.window, group.chunk, group.tables
            if kind not in alike:
                alike[kind] = (
                    _for_each_table(_within(group, seen[:, 0], at), group.tables),
                    _for_each_table(seen[:, 1], group.tables), _for_each_table(write, group.tables),
                )  # fmt: skip
            views[group.name] = GroupView(_numbers(group, sequences), *alike[kind])
        return views
    return {group.name: _looked_up(group, spans, sequences) for group in groups}


def _counted_from(span: Span) -> Int32:
    """The positions that the rows' windows and chunks are counted from."""
    return span.positions if span.window_at is None else span.window_at


def _within(group: CacheGroup, first: Int32, positions: Int32) -> Int32:
    """The first positions that rows see, moved into the group's window or chunk."""
    nearest = _nearest(group, positions)
    if nearest is None:
        return first
    inside: Int32 = np.maximum(first, nearest)
    return inside


def _nearest(group: CacheGroup, positions: Int32) -> Int32 | None:
    """The first positions that the group shows to rows at those positions; None if it shows them all."""
    if group.window is not None:
        return positions - (group.window - 1)
    if group.chunk is not None:
        return positions - positions % group.chunk
    return None


def _for_each_table(slots: npt.NDArray[np.integer], tables: int) -> Int32:
    """(N,) the same for each table: (N, tables)."""
    spread = np.empty((len(slots), tables), np.int32)
    spread[:] = slots[:, None]
    return spread


def _numbers(group: CacheGroup, sequences: Listing[Sequence]) -> Int32:
    """Page numbers (B, tables, P), -1 where there is no page."""
    tables = [sequence.tables[group.name] for sequence in sequences]
    width = max(table.size for kept in tables for table in kept)
    numbers = np.full((len(sequences), group.tables, max(width, 1)), -1, np.int32)
    for index, kept in enumerate(tables):
        for place, table in enumerate(kept):
            numbers[index, place, : table.size] = table.pages
    return numbers


def _looked_up(group: CacheGroup, spans: Listing[Span], sequences: Listing[Sequence]) -> GroupView:
    """The view of sequences of any kind."""
    parts = [_intervals(group, span, s) for span, s in zip(spans, sequences, strict=True)]
    start, stop, write = (np.concatenate([part[i] for part in parts]) for i in range(3))
    numbers = _numbers(group, sequences)
    if all(part[3] is None for part in parts):
        return GroupView(numbers, start, stop, write)
    mask, first = _masks(group, spans, sequences, parts)
    return GroupView(numbers, start, stop, write, mask, first)


def _intervals(group: CacheGroup, span: Span, sequence: Sequence) -> _Part:
    """start, stop, write (T, tables) of a span's rows, and (T, T) which rows see each other, or None."""
    tables, count = sequence.tables[group.name], len(span.tokens)
    at = _counted_from(span)
    first, ends = _within(group, span.visible[:, 0], at), span.visible[:, 1]
    ordered = bool(np.all(np.diff(span.positions) > 0))
    mask, inside = span.mask, span.positions[None, :]
    if mask is None and not ordered:
        mask = (inside >= first[:, None]) & (inside < ends[:, None])
    elif mask is not None and (nearest := _nearest(group, at)) is not None:
        mask = mask & (inside >= nearest[:, None])
    shape = (count, len(tables))
    start, stop, write = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for place, table in enumerate(tables):
        length, positions = sequence.length(table), sequence.positions(table)
        known = np.concatenate([positions, span.positions]) if mask is None else positions
        start[:, place] = np.searchsorted(known, first)
        stop[:, place] = np.searchsorted(known, ends) if mask is None else length + count
        write[:, place] = length + np.arange(count)
    return start, stop, write, mask


def _masks(
    group: CacheGroup, spans: Listing[Span], sequences: Listing[Sequence], parts: Listing[_Part]
) -> tuple[npt.NDArray[np.uint64], Int32]:
    """Bit masks (N, W) over the rows of each span, and the slot that bit 0 stands for (N, tables)."""
    words = max(-(-len(span.tokens) // 64) for span in spans)
    masks, firsts = [], []
    for span, sequence, part in zip(spans, sequences, parts, strict=True):
        count = len(span.tokens)
        seen = np.ones((count, count), bool) if part[3] is None else part[3]
        bits = np.zeros((count, words * 64), np.uint8)
        bits[:, :count] = seen
        packed = np.packbits(bits, axis=1, bitorder="little")
        masks.append(np.ascontiguousarray(packed).view("<u8"))
        lengths = [sequence.length(table) for table in sequence.tables[group.name]]
        firsts.append(np.tile(np.array(lengths, np.int32), (count, 1)))
    return np.concatenate(masks).astype(np.uint64), np.concatenate(firsts)


def row_sets(spans: Listing[Span], counts: Listing[int]) -> dict[str, Int32]:
    """Each row set's indices into the rows of all spans."""
    if len(spans) == 1:
        return {name: rows.astype(np.int32, copy=False) for name, rows in spans[0].row_sets.items()}
    sets: dict[str, Int32] = {}
    offsets = np.cumsum(counts) - counts
    for name in dict.fromkeys(name for span in spans for name in span.row_sets):
        parts = [(i, span.row_sets[name]) for i, span in enumerate(spans) if name in span.row_sets]
        rows = np.concatenate([part for _, part in parts])
        first = np.repeat(offsets[[i for i, _ in parts]], [len(part) for _, part in parts])
        sets[name] = (rows + first).astype(np.int32)
    return sets


def continues(positions: Int32, first: int) -> bool:
    """Whether the positions are first, first + 1, and so on."""
    if len(positions) == 1:
        return int(positions[0]) == first
    return np.array_equal(positions, np.arange(first, first + len(positions)))


def given_rows(spans: Listing[Span]) -> dict[str, Float32]:
    """The rows that stand in for computed ones, of all spans, by the Program's input."""
    names = dict.fromkeys(name for span in spans for name in span.inputs)
    return {
        name: np.concatenate([span.inputs[name] for span in spans if name in span.inputs]) for name in names
    }
