"""A batch as attention works on it: a piece for each sequence, the same for all layers of a cache group.

Sequences attend one after the other, each over exactly its own entries. Putting those with one row
together, padded to one length, was slower from 128 entries on: what is gathered for all of them does not
stay in the processor's caches (docs/log.md). Nothing here computes.
"""

from __future__ import annotations

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
    """The T rows of one sequence, which see S slots.

    rows    their places in the step.
    slots   the slots of keys and values: a slice where they follow one another (a view); else (S,).
    seen    S.
    bias    (1, 1, T, S) zero where a row sees a slot and minus infinity where not; None if all rows see all,
            or if they are causal: row t of T sees the first t + 1 of S = T slots.
    """

    rows: slice
    slots: Any
    seen: int
    bias: Any
    causal: bool


@dataclass(frozen=True, slots=True)
class Pieces:
    """All rows of a step in a cache group: `write` (N,), the slot in which each is stored, and the pieces."""

    write: Any
    parts: tuple[Piece, ...]


def pieces_of(batch: Batch, group: CacheGroup, number: Any) -> Pieces:
    """The pieces of a batch in a group; `number` is the type of biases."""
    view = batch.groups[group.name]
    pages = view.tables[:, 0].astype(np.int64)
    counts = np.bincount(batch.sequence, minlength=len(pages))
    lasts = np.cumsum(counts)
    places = view.write[:, 0].astype(np.int64)
    stored = pages[batch.sequence, places // group.page_size] * group.page_size + places % group.page_size
    parts = [
        _piece(view, own, slice(int(last - count), int(last)), group.page_size, number)
        for own, count, last in zip(pages, counts, lasts, strict=True)
    ]
    return Pieces(torch.from_numpy(stored), tuple(parts))


def _piece(view: GroupView, pages: Int64, rows: slice, size: int, number: Any) -> Piece:
    """The piece of one sequence, whose pages have those numbers."""
    start, stop = view.start[rows, 0], view.stop[rows, 0]
    first, last = int(start.min()), int(stop.max())
    places = np.arange(first, last)
    slots = pages[places // size] * size + places % size
    count = rows.stop - rows.start
    whole = (
        len(slots) > 0 and int(slots[-1] - slots[0]) == len(slots) - 1 and bool((np.diff(slots) == 1).all())
    )
    found = slice(int(slots[0]), int(slots[-1]) + 1) if whole else torch.from_numpy(slots)
    seen = (places >= start[:, None]) & (places < stop[:, None])
    if view.mask is not None:
        seen &= _unmasked(view, rows, places)
    causal = count > 1 and count == len(places) and np.array_equal(seen, np.tri(count, dtype=bool))
    bias = None if causal or seen.all() else _bias(seen, number)
    return Piece(rows, found, len(places), bias, causal)


def _unmasked(view: GroupView, rows: slice, places: npt.NDArray[np.integer]) -> Bool:
    """Whether the bit mask lets each row see its places (T, S)."""
    assert view.mask is not None and view.mask_from is not None
    bit = places - view.mask_from[rows, :1]
    inside = (bit >= 0) & (bit < view.mask.shape[1] * 64)
    known = np.where(inside, bit, 0)
    words = np.take_along_axis(view.mask[rows], known // 64, axis=1)
    allowed = (words >> (known % 64).astype(np.uint64)) & np.uint64(1)
    seen: Bool = (bit < 0) | (inside & (allowed == 1))
    return seen


def _bias(seen: Bool, number: Any) -> Any:
    """Zero where something is seen, minus infinity elsewhere."""
    bias = torch.zeros(1, 1, *seen.shape, dtype=number)
    return bias.masked_fill_(torch.from_numpy(~seen), float("-inf"))
