"""Entries that change their slots: into a copy of a page, or closer together.

Pages that others hold too are not written: their entries go to pages of the table's own. Whether there is
room for these is for the caller to see to.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.batch import Int32
from fivefold.core.layout import CacheGroup

from .pages import PagePool
from .storage import Storage
from .tables import Table


def own_page(storage: Storage, pool: PagePool, place: tuple[CacheGroup, Table, int], entries: int) -> None:
    """Put a copy of a shared page, with its first `entries`, into its place in the table."""
    group, table, page = place
    old = int(table.pages[page])
    (new,) = pool.take(1)
    slots = np.arange(entries, dtype=np.int32)
    here, there = np.full_like(slots, old), np.full_like(slots, new)
    storage.copy_entries(group.name, here, slots, there, slots)
    pool.release(old)
    table.pages[page] = new


def shared_targets(
    pool: PagePool, group: CacheGroup, table: Table, source: Int32, target: Int32
) -> list[int]:
    """The places in a table of pages that entries would move into and that others hold too."""
    changed = np.unique(target[source != target] // group.page_size)
    return [int(page) for page in changed if pool.holders(int(table.pages[page])) > 1]


def move_entries(
    storage: Storage, pool: PagePool, where: tuple[CacheGroup, Table], slots: tuple[Int32, Int32],
    shared: list[int],
) -> None:  # fmt: skip
    """Copy entries from slots to slots that are not after them, the `shared` pages being replaced."""
    (group, table), (source, target) = where, slots
    moved, size = source != target, group.page_size
    if not moved.any():
        return
    old = table.pages.copy()
    table.pages[shared] = pool.take(len(shared))
    copied = moved | np.isin(target // size, shared)
    source, target = source[copied], target[copied]
    storage.copy_entries(
        group.name,
        old[source // size],
        (source % size).astype(np.int32),
        table.pages[target // size],
        (target % size).astype(np.int32),
    )
    for page in shared:
        pool.release(int(old[page]))
