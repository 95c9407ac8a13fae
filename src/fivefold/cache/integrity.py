"""Whether all that the cache knows fits together: pages, tables, entries, and the prefix tree. For tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from fivefold.core.layout import CacheGroup

from .pages import PagePool
from .prefix import PrefixTree
from .tables import Sequence, Table, pages_for


class Known(NamedTuple):
    """A cache group and its pages."""

    pool: PagePool
    group: CacheGroup


def check_cache(
    sequences: Iterable[Sequence],
    known: Mapping[str, Known],
    tree: PrefixTree,
    promised: Callable[[Sequence, CacheGroup, Table, int], int],
) -> None:
    """AssertionError unless it does; `promised`: the slots that a table is to have of what is reserved."""
    groups = {name: one.group for name, one in known.items()}
    held: dict[str, list[int]] = {name: [] for name in known}
    users: dict[int, int] = {}
    for kept in sequences:
        for group, table in kept.each(groups):
            held[group.name].extend(table.held.tolist())
            running = 0 if kept.pending is None else len(kept.pending.tokens)
            most = max(kept.length(table) + running, promised(kept, group, table, kept.reserved))
            _check_table(kept, group, table, pages_for(most, group.page_size))
        for node in kept.nodes:
            users[id(node)] = users.get(id(node), 0) + 1
        for name, tables in kept.tables.items():
            for place, table in enumerate(tables):
                said = [node.pages[name][place] for node in kept.nodes[table.gone :]]
                found = table.pages[table.gone : len(kept.nodes)].tolist()
                assert found == said, "a sequence and its nodes do not fit"
    in_tree = tree.held_pages()
    for name, one in known.items():
        one.pool.check_integrity(held[name], [page for group, page in in_tree if group == name])
    tree.check_integrity(users)


def _check_table(kept: Sequence, group: CacheGroup, table: Table, most: int) -> None:
    """A table's pages, at most so many, fit its entries, and none is gone that a row may see."""
    needed = pages_for(kept.length(table), group.page_size)
    assert needed <= table.size <= most, "pages and entries do not fit"
    assert table.gone <= group.passed(kept.count), "what a row sees is gone"
    assert kept.plain or not table.gone, "pages are gone before the first slot"
    assert bool((table.held >= 0).all()) and bool((table.pages[: table.gone] < 0).all())
    assert (table.positions is None) == kept.plain
    assert table.positions is None or bool((table.positions[1:] > table.positions[:-1]).all())
