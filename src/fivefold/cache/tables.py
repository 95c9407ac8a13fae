"""What one sequence has in the cache: a table of pages for each group and KV head, and entries' positions.

Most sequences are plain: slot i holds position i, in every table, so a count says all. After an eviction, or
when positions have gaps, each table keeps the position of every entry (one a slot, ascending) and the
tables may differ in length. Pages are only numbers here; who else holds them is known to the pools.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from fivefold.core.batch import Int32, Span
from fivefold.core.layout import CacheGroup, CacheLayout

from .prefix import Node
from .states import StatePlace


class Table:
    """Page numbers, in an array that grows by doubling, and positions unless the sequence is plain.

    The first `gone` pages were let go, for no row sees them again; they have the number -1.
    """

    __slots__ = ("_numbers", "gone", "positions", "size")

    def __init__(self) -> None:
        self._numbers: Int32 = np.zeros(8, np.int32)
        self.size = 0
        self.gone = 0
        self.positions: Int32 | None = None

    @property
    def pages(self) -> Int32:
        """(pages,) numbers; a view that lasts until the table grows."""
        return self._numbers[: self.size]

    @property
    def held(self) -> Int32:
        """Those of them that are there."""
        return self._numbers[self.gone : self.size]

    def extend(self, pages: Iterable[int]) -> None:
        """More pages at the end."""
        for page in pages:
            if self.size == len(self._numbers):
                self._numbers = np.concatenate([self._numbers, np.zeros_like(self._numbers)])
            self._numbers[self.size] = page
            self.size += 1

    def cut(self, size: int) -> list[int]:
        """Keep `size` pages; the others, which are no longer in the table."""
        if size >= self.size:
            return []
        cut = [int(page) for page in self._numbers[max(size, self.gone) : self.size]]
        self.size, self.gone = size, min(size, self.gone)
        return cut

    def let_go(self, count: int) -> list[int]:
        """The first `count` pages are gone; those that were there until now. An empty one gets them."""
        if self.size < count:
            self.extend([-1] * (count - self.size))
        let = [int(page) for page in self._numbers[self.gone : count] if page >= 0]
        self._numbers[self.gone : count] = -1
        self.gone = max(self.gone, count)
        return let

    def close_up(self) -> None:
        """Forget the pages that are gone: the first slot is that of the first page that is there."""
        held = self.held.copy()
        self._numbers[: len(held)] = held
        self.size, self.gone = len(held), 0


class Sequence:
    """All tables of one sequence.

    count      entries of each table while the sequence is plain.
    reserved   entries that each table keeps pages for, although they have not come yet.
    nodes      the prefix tree's nodes whose pages are the first pages of every table.
    floor      the position from which on it can still be shortened: what rows before it would see is gone.
    state      where its recurrent state is, if the model has one.
    exact      whether slot i has held the entry of position i and nothing else since the beginning, so
               that its pages may be shared by what they say.
    """

    def __init__(self, layout: CacheLayout) -> None:
        self.tables: dict[str, list[Table]] = {
            group.name: [Table() for _ in range(group.tables)] for group in layout.groups
        }
        self.state = StatePlace()
        self.count = 0
        self.plain = True
        self.exact = True
        self.reserved = 0
        self.floor = 0
        self.nodes: list[Node] = []
        self.salt: str | None = None
        self.pending: Span | None = None

    def each(self, groups: Mapping[str, CacheGroup]) -> Iterator[tuple[CacheGroup, Table]]:
        """Every table with its group."""
        for name, tables in self.tables.items():
            for table in tables:
                yield groups[name], table

    def length(self, table: Table) -> int:
        """The slots of a table up to the last entry; those of pages that are gone count."""
        return self.count if table.positions is None else len(table.positions)

    def positions(self, table: Table) -> Int32:
        """The position of each slot of a table."""
        return np.arange(self.count, dtype=np.int32) if table.positions is None else table.positions

    def spell_out(self, groups: Mapping[str, CacheGroup]) -> None:
        """Write positions down: from here on it is not plain, and its slots begin with what is there."""
        if not self.plain:
            return
        for group, table in self.each(groups):
            table.positions = self.positions(table)[table.gone * group.page_size :]
            table.close_up()
        self.plain = self.exact = False


def pages_for(entries: int, size: int) -> int:
    """Pages that hold so many entries."""
    return -(-entries // size)
