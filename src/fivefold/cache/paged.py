"""The paged cache: sequences with page tables, prefixes they share, and steps turned into batches.

`prepare` gives the rows of a step slots after the entries already there and turns visible positions
into slots; `commit` keeps the rows that a decoder accepted, moving their entries together when they are
not a prefix. `attach` begins a sequence with pages that others have published, `publish` offers a
sequence's own. A page with more than one holder is never written: whoever is about to, takes a copy.
The cache owns numbers only; entries are moved by the storage it is given.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Listing
from dataclasses import replace

import numpy as np

from fivefold.core.batch import Batch, Commit, GroupView, Int32, Span, Step, joined
from fivefold.core.errors import InputError
from fivefold.core.layout import STEP_ROWS, CacheGroup, CacheLayout
from fivefold.core.runner import CacheFigures

from .compaction import Kept, evict, retain
from .integrity import Known, check_cache
from .pages import OutOfPagesError
from .room import PageRoom
from .states import StatePlace, StateSlots
from .storage import Storage
from .tables import Sequence, pages_for
from .views import continues, given_rows, group_views, row_sets


class PagedCache:
    """All sequences of one model. `pages` are those of each cache group by name; steps have up to `rows`, and
    there is room for so many recurrent states as there are `slots`."""

    def __init__(
        self, layout: CacheLayout, pages: Mapping[str, int], storage: Storage, rows: int = STEP_ROWS,
        slots: int = 0,
    ) -> None:  # fmt: skip
        self.layout = layout
        self._rows = rows
        self._groups = {group.name: group for group in layout.groups}
        self._storage = storage
        self._room = PageRoom(layout, pages, storage, rows)
        self._pools, self._tree, self._size = self._room.pools, self._room.tree, self._room.size
        sizes = {group.page_size for group in layout.groups}
        self._shares = len(sizes) == 1 and not layout.states
        self._sequences: dict[int, Sequence] = {}
        self._states = StateSlots(bool(layout.states), slots)
        self._next = 0

    def page_free(self, group: str) -> int:
        """Free pages of a group."""
        return self._pools[group].page_free

    def figures(self) -> CacheFigures:
        """How full the fullest group is; a model that keeps no entries has room for any number."""
        endless = CacheFigures(sys.maxsize, sys.maxsize, 0, sys.maxsize)
        each = [self._figures(group) for group in self.layout.groups]
        fullest = min(each, key=lambda figures: figures.free + figures.kept, default=endless)
        return replace(fullest, longest=min((one.longest for one in each), default=sys.maxsize))

    def open(self) -> int:
        """A new, empty sequence; its number."""
        number = self._next
        self._next += 1
        self._sequences[number] = Sequence(self.layout)
        return number

    def close(self, sequence: int) -> None:
        """Forget a sequence and release its pages; the one way out."""
        kept = self._sequences.pop(sequence)
        self._room.drop_nodes(kept, 0)
        for group, table in kept.each(self._groups):
            self._room.release(group.name, table.cut(0))
        self._states.drop(kept.state)

    def fork(self, sequence: int) -> int:
        """A second sequence with the same entries, in the same pages until one of them writes.

        What the first has reserved does not cover the copy of a page that this makes necessary. Its
        recurrent state is copied; OutOfPagesError if there is no slot for it.
        """
        old = self._sequences[sequence]
        assert old.pending is None, "a fork between a step and its commit"
        if not self._states.fit([StatePlace()]):
            raise OutOfPagesError("there is no slot for another recurrent state", remedy="close a sequence")
        number = self.open()
        new = self._sequences[number]
        if old.state.count:
            self._states.reserve(new.state)
            new.state.count = old.state.count
            self._storage.copy_state(old.state.slot, new.state.slot)
        new.count, new.plain, new.exact, new.salt = old.count, old.plain, old.exact, old.salt
        new.floor, new.nodes = old.floor, list(old.nodes)
        self._tree.hold(old.nodes)
        for name, tables in old.tables.items():
            for table, copy in zip(tables, new.tables[name], strict=True):
                pages = table.pages[table.gone : pages_for(old.length(table), self._groups[name].page_size)]
                copy.let_go(table.gone)
                copy.positions = table.positions
                self._room.hold(name, copy, pages.tolist())
        return number

    def attach(self, sequence: int, tokens: Listing[int], salt: str = "") -> int:
        """Begin an empty sequence with what has been published of `tokens`; how many entries that is."""
        kept = self._sequences[sequence]
        if kept.count or not kept.plain or any(table.size for _, table in kept.each(self._groups)):
            raise InputError("a sequence that has entries cannot be attached", where=f"sequence {sequence}")
        kept.exact, kept.salt = True, salt
        if not self._shares:
            return 0
        nodes, kept.count = self._tree.find(np.asarray(tokens, np.int32), salt)
        self._tree.hold(nodes)
        kept.nodes = nodes
        for name, tables in kept.tables.items():
            gone = self._room.let_go(kept, self._groups[name])
            for place, table in enumerate(tables):
                self._room.hold(name, table, [node.pages[name][place] for node in nodes[gone:]])
        return kept.count

    def publish(self, sequence: int, tokens: Listing[int], salt: str = "") -> None:
        """Offer the whole pages of a sequence, whose first entries are those of `tokens`.

        Costs only the pages that have come since the last time. A sequence that has lost entries, or whose
        positions have gaps, has nothing to offer.
        """
        kept = self._sequences[sequence]
        whole = len(tokens) // self._size
        if not self._shares or not kept.exact or whole <= len(kept.nodes):
            return
        if len(tokens) > kept.count or kept.salt not in (None, salt):
            raise InputError("these are not the sequence's own entries", where=f"sequence {sequence}")
        kept.salt = salt
        for index in range(len(kept.nodes), whole):
            part = np.asarray(tokens[index * self._size : (index + 1) * self._size], np.int32)
            pages = {
                name: tuple(int(table.pages[index]) for table in tables)
                for name, tables in kept.tables.items()
                if all(index >= table.gone for table in tables)
            }
            parent = kept.nodes[-1] if kept.nodes else None
            node, new = self._tree.add(parent, salt, part, pages)
            kept.nodes.append(node)
            if not new:  # somebody was faster: the entries are the same, so one page is enough
                for name in pages:
                    for table, page in zip(kept.tables[name], node.pages[name], strict=True):
                        self._pools[name].share(page)
                        self._pools[name].release(int(table.pages[index]))
                        table.pages[index] = page

    def reserve(self, sequence: int, entries: int) -> bool:
        """Pages for that many entries of each table, and a state slot, held from now on; False changes
        nothing.

        Of a group with a window, as many as a step needs with what its rows see.
        """
        kept = self._sequences[sequence]
        if not self._states.fit([kept.state]) or not self._room.take([(kept, 0, entries)]):
            return False
        self._states.reserve(kept.state)
        kept.reserved = max(kept.reserved, entries)
        return True

    def truncate(self, sequence: int, positions: int) -> None:
        """Forget the entries at that logical position and after it, what was reserved, and an open step.

        InputError where a window has let go of what the rows from there on would see, or where a recurrent
        state would have to be taken back: it can only be given up, at 0.
        """
        kept = self._sequences[sequence]
        if 0 < positions < kept.floor:
            raise InputError(
                f"what rows from position {positions} on see is gone", where=f"sequence {sequence}",
                remedy=f"go back to {kept.floor} or to 0",
            )  # fmt: skip
        self._states.truncate(kept.state, positions)
        kept.pending = None
        kept.count = min(kept.count, positions)
        for _, table in kept.each(self._groups):
            if table.positions is not None:
                table.positions = table.positions[: int(np.searchsorted(table.positions, positions))]
        self._room.fit(kept)
        self._room.drop_nodes(kept, pages_for(kept.count, self._size))
        if positions == 0:
            self._sequences[sequence] = Sequence(self.layout)

    def retain(self, sequence: int, name: str, place: int, slots: Int32) -> None:
        """Keep only these slots (ascending) of one table, moved together; the rest is evicted.

        Slots count from the first page that is not gone.

        Logical positions stay with their entries, so from here on a slot is not a position, and the
        sequence is not published any more. Whatever was reserved is given back.
        """
        retain(self._room, self._sequences[sequence], (name, place), slots)

    def evict(self, sequence: int, kept: Mapping[str, Kept], offered: bool = False) -> None:
        """Keep only these entries of the named groups, each layer and KV head its own; the rest is evicted.

        A group's are (layers, KV heads, B) ascending slots. Where KV heads have tables of their own, they may
        also be one (layers, B of that head) array for each KV head. Slots count from the first page that is
        not gone.

        The entries lie in slots 0 to B - 1 afterwards. Slot i has the highest position of the entries in it,
        so that whoever comes later sees all of them. Pages behind are released at once, and so is what
        was reserved and what the prefix tree held of this sequence alone; with `offered` the tree keeps that,
        as it keeps the beginnings of sequences that were closed, until its pages are needed. The sequence is
        not published any more, and it cannot be truncated to a position before its present end, except to 0.
        Groups that are not named keep what they have.

        InputError for slots that do not ascend within the tables, and for a group with a window or with
        chunks, which hide entries by their positions; OutOfPagesError if others hold the pages and there are
        none for copies. Neither changes anything.
        """
        evict(self._room, self._sequences[sequence], kept, offered)

    def length(self, sequence: int, group: str, table: int = 0) -> int:
        """Entries that a sequence keeps in a table."""
        kept = self._sequences[sequence]
        one = kept.tables[group][table]
        return kept.length(one) - one.gone * self._groups[group].page_size

    def pages(self, sequence: int, group: str, table: int = 0) -> Int32:
        """The numbers of the pages of a table that hold its entries, those that are gone left out."""
        kept = self._sequences[sequence]
        one = kept.tables[group][table]
        held: Int32 = one.pages[one.gone : pages_for(kept.length(one), self._groups[group].page_size)]
        return held

    def prepare(self, step: Step) -> Batch:
        """The batch of a step; OutOfPagesError leaves all that rows can see as it was."""
        spans = step.spans
        kept = [self._sequences[span.sequence] for span in spans]
        counts = [len(span.tokens) for span in spans]
        for sequence in kept:
            self._room.slide(sequence)
        states = [sequence.state for sequence in kept]
        for place, span in zip(states, spans, strict=True):
            self._states.check(place, span)
        drafted = sum(count for count, span in zip(counts, spans, strict=True) if span.draft)
        wanted = [(one, rows, one.reserved) for one, rows in zip(kept, counts, strict=True)]
        if not self._states.fit(states, drafted) or not self._room.take(wanted):
            raise OutOfPagesError(
                "the cache has no room for the rows of this step",
                remedy="shorten the text or give the cache more memory",
            )
        for sequence, span in zip(kept, spans, strict=True):
            sequence.pending = span
        return Batch(
            joined([span.tokens for span in spans]).astype(np.int32, copy=False),
            joined([span.positions for span in spans]).astype(np.int32, copy=False),
            np.repeat(np.arange(len(spans), dtype=np.int32), counts),
            row_sets(spans, counts),
            group_views(self.layout.groups, spans, kept),
            self._states.view(states, spans),
            given_rows(spans),
        )

    def ahead(self, sequence: int, name: str, rows: int) -> GroupView | None:
        """A view of one group for further rows of a sequence, each of which sees all before it and itself,
        where nothing is kept of them: what they store lies in slots that the next step writes anew.

        None where that takes more than a look: for pages that are not held yet or that others hold too,
        windows and chunks, several tables, positions with gaps, or a step that is open.
        """
        kept, group = self._sequences[sequence], self._groups[name]
        if group.window is not None or group.chunk is not None:
            return None
        table = kept.tables[name][0]
        first, last = kept.count, kept.count + rows
        if not kept.plain or kept.pending is not None or group.tables > 1:
            return None
        if pages_for(last, group.page_size) > table.size:
            return None
        if any(
            self._pools[name].holders(int(page)) > 1
            for page in table.pages[first // group.page_size : pages_for(last, group.page_size)]
        ):
            return None
        write = np.arange(first, last, dtype=np.int32)[:, None]
        return GroupView(table.pages[None, None], np.zeros_like(write), write + 1, write)

    def commit(self, commits: Iterable[Commit]) -> None:
        """Keep the named rows of each sequence's last span, and forget the others; then what a commit says.

        InputError where a recurrent state after these rows is not there, and where `truncate` has it.
        """
        for commit in commits:
            kept = self._sequences[commit.sequence]
            span = kept.pending
            assert span is not None, "a commit without a step"
            self._states.commit(kept.state, span, commit.rows)
            kept.pending = None
            self._keep(kept, span, commit.rows)
            if commit.until is not None:
                self.truncate(commit.sequence, commit.until)

    def check_integrity(self) -> None:
        """AssertionError unless pages, tables, entries and the prefix tree fit together."""
        pages = {name: Known(pool, self._groups[name]) for name, pool in self._pools.items()}
        check_cache(self._sequences.values(), pages, self._tree, self._room.promised)
        self._states.check_integrity(
            (kept.state, kept.pending is not None) for kept in self._sequences.values()
        )

    def _figures(self, group: CacheGroup) -> CacheFigures:
        pool = self._pools[group.name]
        pages = (pool.count, pool.page_free, pool.page_kept)
        capacity, free, only = (count // group.tables * group.page_size for count in pages)
        endless = capacity >= group.held_entries(sys.maxsize, self._rows)
        return CacheFigures(capacity, free, only, sys.maxsize if endless else capacity)

    def _keep(self, kept: Sequence, span: Span, rows: Int32) -> None:
        """Move the kept rows' entries together after the old ones, and drop the rest."""
        count = len(rows)
        first = not count or int(rows[-1]) == count - 1  # they ascend: then nothing has to be moved
        positions = span.positions[:count] if first else span.positions[rows]
        if kept.plain and not continues(positions, kept.count):
            self._room.spell_out(kept)
        for group, table in kept.each(self._groups):
            length = kept.length(table)
            if not first:
                self._room.move(group, table, length + rows, length + np.arange(count, dtype=np.int32))
            if table.positions is not None:
                table.positions = np.concatenate([table.positions, positions]).astype(np.int32)
            promised = self._room.promised(kept, group, table, kept.reserved)
            self._room.release(
                group.name, table.cut(pages_for(max(length + count, promised), group.page_size))
            )
        kept.count += count
