"""A batch as attention works on it: pieces whose rows attend together, the same for all layers of a group.

Several rows of one sequence (a part of a prompt) are a piece of their own. Sequences with one row (writers) share
pieces: their entries are padded to the longest, and only sequences whose lengths differ by less than twice come
together, so that no more is read than twice what is there. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fivefold.core.batch import Batch, Bool, GroupView
from fivefold.core.layout import CacheGroup

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Piece:
    """B sequences with T rows each that see S slots at most.

    rows     (B * T,) places of the rows in the step, or the slice that they are.
    slots    (B * S,) slots of keys and values, and the empty one where a sequence has fewer.
    shape    (B, T, S).
    bias     (B, 1, T, S) zero where a row sees a slot and minus infinity where not; None if all see all,
             or if they are causal: row t of T sees the first t + 1 of S = T slots.
    """

    rows: Any
    slots: Any
    shape: tuple[int, int, int]
    bias: Any
    causal: bool


@dataclass(frozen=True, slots=True)
class Pieces:
    """All rows of a step in one cache group: `write` (N,) the slot in which each is stored, and the pieces."""

    write: Any
    parts: tuple[Piece, ...]


def pieces_of(batch: Batch, group: CacheGroup, empty: int, number: Any) -> Pieces:
    """The pieces of a batch in a group; `empty` is the slot that is always zero, `number` the type of biases."""
    view = batch.groups[group.name]
    sequences = len(view.tables)
    counts = np.bincount(batch.sequence, minlength=sequences)
    firsts = np.cumsum(counts) - counts
    pages = view.tables[:, 0].astype(np.int64)
    stored = _slots(pages[batch.sequence], view.write[:, :1].astype(np.int64), group.page_size, empty)
    writers = np.flatnonzero(counts == 1)
    parts = list(_single_rows(view, pages, writers, firsts[writers], (group.page_size, empty, number)))
    for sequence in np.flatnonzero(counts > 1):
        rows = slice(int(firsts[sequence]), int(firsts[sequence] + counts[sequence]))
        parts.append(_chunk(view, pages[sequence], rows, (group.page_size, empty, number)))
    return Pieces(torch.from_numpy(stored[:, 0]), tuple(parts))


_How = tuple[int, int, Any]
"""Page size, the empty slot, and the type of biases."""


def _single_rows(view: GroupView, pages: Int64, sequences: Int64, rows: Int64, how: _How) -> Iterator[Piece]:
    """Pieces of sequences with one row each, those of like length together."""
    start, stop = view.start[rows, 0].astype(np.int64), view.stop[rows, 0].astype(np.int64)
    size = np.maximum(stop - start, 1)
    classes = np.frexp(size - 0.5)[1]  # lengths from 2^(n-1) + 1 to 2^n
    for one in np.unique(classes):
        here = np.flatnonzero(classes == one)
        wide = int(size[here].max())
        places = start[here, None] + np.arange(wide)
        seen = (places < stop[here, None]) & _unmasked(view, rows[here], places)
        slots = _slots(pages[sequences[here]], np.where(seen, places, -1), *how[:2])
        bias = None if seen.all() else _bias(seen[:, None, None], how[2])
        yield Piece(
            _places(rows[here]), torch.from_numpy(slots.ravel()), (len(here), 1, wide), bias, causal=False
        )


def _chunk(view: GroupView, pages: Int64, rows: slice, how: _How) -> Piece:
    """The piece of one sequence's rows."""
    start, stop = view.start[rows, 0].astype(np.int64), view.stop[rows, 0].astype(np.int64)
    first, last = int(start.min()), int(stop.max())
    places = np.arange(first, last)
    seen = (places >= start[:, None]) & (places < stop[:, None])
    seen &= _unmasked(view, np.arange(rows.start, rows.stop), np.broadcast_to(places, seen.shape))
    count = rows.stop - rows.start
    slots = torch.from_numpy(_slots(pages[None], places[None], *how[:2]).ravel())
    shape = (1, count, last - first)
    if count == last - first and np.array_equal(seen, np.tri(count, dtype=bool)):
        return Piece(rows, slots, shape, None, causal=True)
    return Piece(rows, slots, shape, _bias(seen[None, None], how[2]), causal=False)


def _slots(pages: Int64, places: Int64, size: int, empty: int) -> Int64:
    """Slots (B, S) of places in the tables (B, P); the empty one for a place below zero."""
    known = np.maximum(places, 0)
    found = np.take_along_axis(pages, known // size, axis=1) * size + known % size
    slots: Int64 = np.where(places < 0, empty, found)
    return slots


def _unmasked(view: GroupView, rows: Int64, places: Int64) -> Bool:
    """Whether the bit mask lets each row see its places (R, S)."""
    if view.mask is None or view.mask_from is None:
        return np.ones(places.shape, bool)
    bit = places - view.mask_from[rows, :1]
    inside = (bit >= 0) & (bit < view.mask.shape[1] * 64)
    known = np.where(inside, bit, 0)
    words = np.take_along_axis(view.mask[rows], known // 64, axis=1)
    allowed = (words >> (known % 64).astype(np.uint64)) & np.uint64(1)
    return (bit < 0) | (inside & (allowed == 1))


def _bias(seen: Bool, number: Any) -> Any:
    """Zero where something is seen, minus infinity elsewhere."""
    return torch.zeros(seen.shape, dtype=number).masked_fill_(torch.from_numpy(~seen), float("-inf"))


def _places(rows: Sequence[int] | Int64) -> Any:
    """Rows as a slice where they follow one another, for that is a view; else as an index."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else torch.from_numpy(np.asarray(rows))
