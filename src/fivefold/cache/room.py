"""The pages of all groups: what sequences take of them, what they give back, and how room is made.

Room is made of what only the prefix tree holds. Whoever is about to write into a page that others hold
gets a copy first, unless he is its last holder. All of it or nothing is taken, so a refusal leaves what
rows can see as it was. Which entries a sequence keeps is not decided here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Listing

import numpy as np

from fivefold.core.batch import Int32
from fivefold.core.layout import PAGE_SIZE, CacheGroup, CacheLayout

from .moving import move_entries, own_page, shared_targets
from .pages import OutOfPagesError, PagePool
from .prefix import PrefixTree
from .storage import Storage
from .tables import Sequence, Table, pages_for


class PageRoom:
    """`pages` of each cache group by name, moved by `storage`; steps have up to `rows`."""

    def __init__(self, layout: CacheLayout, pages: Mapping[str, int], storage: Storage, rows: int) -> None:
        self.groups = {group.name: group for group in layout.groups}
        self.pools = {group.name: PagePool(pages[group.name]) for group in layout.groups}
        self.size = max((group.page_size for group in layout.groups), default=PAGE_SIZE)
        self.tree = PrefixTree(self.pools, self.size, layout.groups)
        self.storage = storage
        self._rows = rows

    def take(self, wanted: Listing[tuple[Sequence, int, int]]) -> bool:
        """Pages for so many more entries of each sequence, or so many in all; all or none.

        Shared pages that would be written are copied, but the last holder of one keeps it.
        """
        missing: list[tuple[CacheGroup, Table, int]] = []
        written: list[tuple[CacheGroup, Sequence, Table, int]] = []
        left: dict[tuple[str, int], int] = {}
        needed = dict.fromkeys(self.pools, 0)
        for kept, more, in_all in wanted:
            for group, table in kept.each(self.groups):
                length = kept.length(table)
                entries = max(length + more, self.promised(kept, group, table, in_all))
                if entries == length:
                    continue
                pages = pages_for(entries, group.page_size) - table.size
                if pages > 0:
                    missing.append((group, table, pages))
                    needed[group.name] += pages
                index, part = divmod(length, group.page_size)
                if not part:
                    continue
                page = int(table.pages[index])
                holders = self.pools[group.name].holders(page)
                if holders > 1 and (holders := left.get((group.name, page), holders)) > 1:
                    left[group.name, page] = holders - 1
                    written.append((group, kept, table, index))
                    needed[group.name] += 1
        if not self.make(needed):
            return False
        for group, kept, table, page in written:
            pool, entries = self.pools[group.name], kept.length(table) % group.page_size
            own_page(self.storage, pool, (group, table, page), entries)
            self.drop_nodes(kept, page)
        for group, table, pages in missing:
            table.extend(self.pools[group.name].take(pages))
        return True

    def make(self, needed: Mapping[str, int]) -> bool:
        """Free pages, from unused nodes of the tree if need be; False if there are too few."""
        short = [(name, self.pools[name], count) for name, count in needed.items() if count]
        if any(count > pool.page_free + pool.page_kept for _, pool, count in short):
            return False
        for name, pool, count in short:
            while count > pool.page_free:
                windowed = self.groups[name].window is not None
                found = self.tree.strip(name) if windowed else self.tree.give_up()
                assert found, "the tree holds pages that it cannot give up"
        return True

    def promised(self, kept: Sequence, group: CacheGroup, table: Table, entries: int) -> int:
        """The slots that a table is to have pages for when `entries` are reserved."""
        if group.window is None:
            return entries
        return min(entries, table.gone * group.page_size + group.held_entries(sys.maxsize, self._rows))

    def let_go(self, kept: Sequence, group: CacheGroup) -> int:
        """Let go of the first pages of a group that no row from a page before the end on sees; how many."""
        gone = group.passed(kept.count - group.page_size)
        for table in kept.tables[group.name]:
            self.release(group.name, table.let_go(gone))
        if gone and group.window is not None:
            kept.floor = max(kept.floor, gone * group.page_size + group.window - 1)
        return gone

    def slide(self, kept: Sequence) -> None:
        """Let go of what windows have passed."""
        for group in self.groups.values():
            if group.window is not None and kept.plain:
                self.let_go(kept, group)
            elif group.window is not None:
                for table in kept.tables[group.name]:
                    self._slide_spelled(kept, table, group, group.window)

    def _slide_spelled(self, kept: Sequence, table: Table, group: CacheGroup, window: int) -> None:
        """The same by the positions of entries: the table then begins with the first page that is left."""
        positions = kept.positions(table)
        if not len(positions):
            return
        seen = int(positions[-1]) + 1 - group.page_size - window + 1
        gone = int(np.searchsorted(positions, seen)) // group.page_size
        if gone:
            kept.floor = max(kept.floor, int(positions[gone * group.page_size - 1]) + window)
            table.positions = positions[gone * group.page_size :]
            self.release(group.name, table.let_go(gone))
            table.close_up()

    def hold(self, name: str, table: Table, pages: Listing[int]) -> None:
        """More pages at the end of a table, which others hold too."""
        table.extend(pages)
        for page in pages:
            self.pools[name].share(page)

    def move(self, group: CacheGroup, table: Table, source: Int32, target: Int32) -> None:
        """Copy entries from slots to slots that are not after them; OutOfPagesError changes nothing."""
        pool = self.pools[group.name]
        shared = shared_targets(pool, group, table, source, target)
        if not self.make({group.name: len(shared)}):
            raise no_page()
        move_entries(self.storage, pool, (group, table), (source, target), shared)

    def release(self, name: str, pages: Iterable[int]) -> None:
        """Let go of pages that are no longer in a table."""
        for page in pages:
            self.pools[name].release(page)

    def drop_nodes(self, kept: Sequence, count: int) -> None:
        """Use only the first nodes; those after it are no longer what the sequence holds."""
        if len(kept.nodes) > count:
            self.tree.let_go(kept.nodes[count:])
            del kept.nodes[count:]

    def spell_out(self, kept: Sequence) -> None:
        """From here on the sequence is not plain, and what it holds is no beginning of anything."""
        self.drop_nodes(kept, 0)
        kept.spell_out(self.groups)

    def fit(self, kept: Sequence) -> None:
        """Give back what was reserved, and all pages behind the entries."""
        kept.reserved = 0
        for group, table in kept.each(self.groups):
            self.release(group.name, table.cut(pages_for(kept.length(table), group.page_size)))


def no_page() -> OutOfPagesError:
    """What is said where entries that others hold too cannot be written apart from them."""
    return OutOfPagesError("the cache has no page to keep entries apart", remedy="free some first")
