"""Recurrent states of sequences: which slot holds the state after a sequence's entries.

A state cannot be taken back, so it is moved with care. The rows of a span go on in place, in the sequence's
own slot, and must then all be committed. Of a span that is marked as a draft each row leaves its state in a
slot of its own, and the commit chooses one. A sequence has no slot before it reserves room or runs, and
gives it back when it is truncated to nothing or closed. Slots are numbers here; states themselves are moved
by the storage.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fivefold.core.batch import Int32, Span, StateView
from fivefold.core.errors import InputError

_ANEW = "truncate the sequence to 0 and read its text again"


@dataclass(slots=True)
class StatePlace:
    """Where one sequence's state is.

    slot    of the sequence, -1 while it has none.
    count   positions that the state has seen; 0 is a state of zeros, wherever it lies.
    moved   whether a step has gone on in place and waits for its commit.
    drafts  the slots of the rows of a draft that waits for its commit.
    """

    slot: int = -1
    count: int = 0
    moved: bool = False
    drafts: list[int] = field(default_factory=list)


class StateSlots:
    """All state slots of a cache; without `wanted` there are no states, and all of this does nothing."""

    def __init__(self, wanted: bool, count: int) -> None:
        self.wanted = wanted
        self._count = count
        self._free = list(range(count))

    def fit(self, places: Iterable[StatePlace], drafted: int = 0) -> bool:
        """Whether there are slots for the sequences that have none, and for so many rows of drafts."""
        return not self.wanted or sum(place.slot < 0 for place in places) + drafted <= len(self._free)

    def reserve(self, place: StatePlace) -> None:
        """Give a sequence its slot if it has none. There must be one."""
        if self.wanted and place.slot < 0:
            place.slot = heapq.heappop(self._free)

    def check(self, place: StatePlace, span: Span) -> None:
        """InputError unless the span's rows are the next ones, in order."""
        if not self.wanted:
            return
        if place.moved or place.drafts:
            raise InputError(
                "a step of this sequence waits for its commit", where=f"sequence {span.sequence}",
                remedy=_ANEW,
            )  # fmt: skip
        following = np.arange(place.count, place.count + len(span.positions))
        if span.mask is not None or not np.array_equal(span.positions, following):
            raise InputError(
                "a model with recurrent states reads the positions of a text one after the other",
                where=f"sequence {span.sequence}", remedy="give rows in order, and no mask",
            )  # fmt: skip

    def view(self, places: Sequence[StatePlace], spans: Sequence[Span]) -> StateView | None:
        """Where the states of a step's rows are, which have been checked and for which there is room."""
        if not self.wanted:
            return None
        read, write = [], []
        for place, span in zip(places, spans, strict=True):
            self.reserve(place)
            rows = len(span.positions)
            read.append(place.slot if place.count else -1)
            if span.draft:
                place.drafts = [heapq.heappop(self._free) for _ in range(rows)]
                write += place.drafts
            else:
                place.moved = True
                write += [-1] * (rows - 1) + [place.slot]
        return StateView(np.array(read, np.int32), np.array(write, np.int32))

    def commit(self, place: StatePlace, span: Span, rows: Int32) -> None:
        """Keep the state after the last of these rows; InputError changes nothing."""
        if not self.wanted:
            return
        kept, drafted = len(rows), bool(place.drafts)
        if not np.array_equal(rows, np.arange(kept)) or not (drafted or kept == len(span.positions)):
            what = "a part of a draft is kept that is not its beginning" if drafted else (
                "a part of a span is kept that is not a draft"
            )  # fmt: skip
            raise InputError(
                what, where=f"sequence {span.sequence}",
                remedy="keep all rows, or the first ones of a span that is marked as a draft",
            )  # fmt: skip
        if kept and drafted:
            place.drafts.append(place.slot)
            place.slot = place.drafts.pop(kept - 1)
        place.count += kept
        self._settle(place)

    def truncate(self, place: StatePlace, positions: int) -> None:
        """Forget a draft that waits; InputError where the state would have to be taken back."""
        if not self.wanted:
            return
        if positions == 0:
            self.drop(place)
        elif place.moved or positions < place.count:
            raise InputError(f"a recurrent state cannot be taken back to position {positions}", remedy=_ANEW)
        else:
            self._settle(place)

    def drop(self, place: StatePlace) -> None:
        """The sequence has no state any more."""
        self._settle(place)
        if place.slot >= 0:
            heapq.heappush(self._free, place.slot)
        place.slot, place.count = -1, 0

    def check_integrity(self, places: Iterable[tuple[StatePlace, bool]]) -> None:
        """AssertionError unless each slot is free or held once; with each place whether a step waits."""
        held = list(self._free)
        for place, waits in places:
            held += [*place.drafts, *([place.slot] if place.slot >= 0 else [])]
            assert place.slot >= 0 or not (place.count or place.moved or place.drafts), "a state lies nowhere"
            assert waits or not (place.moved or place.drafts), "a state waits for no commit"
        assert sorted(held) == list(range(self._count)), "state slots are lost or held twice"

    def _settle(self, place: StatePlace) -> None:
        for slot in place.drafts:
            heapq.heappush(self._free, slot)
        place.drafts, place.moved = [], False
