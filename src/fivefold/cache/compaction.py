"""Entries are evicted: those that stay move together, and the pages behind them come free.

`retain` keeps the same slots of a table in all its layers and heads. `evict` keeps others in each layer and
KV head, in the same first slots: a key carries its rotation, so the order of slots is free, and equally many
entries in each head need no other page tables and no other kernel. A slot then has entries of several
positions and is given the highest of them. Which entries are worth keeping is for `eviction` to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Listing
from dataclasses import dataclass

import numpy as np

from fivefold.core.batch import Int32
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.layout import CacheGroup

from .room import PageRoom, no_page
from .tables import Sequence, Table

Kept = Int32 | Listing[Int32]
"""Slots to keep of a group: (layers, KV heads, B), or for each KV head (layers, B)."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one table keeps: (layers, heads of a page, B) slots, and the places of pages to be replaced."""

    group: CacheGroup
    table: Table
    slots: Int32
    replaced: list[int]


def retain(room: PageRoom, kept: Sequence, where: tuple[str, int], slots: Int32) -> None:
    """Keep only these slots (ascending) of one table, given by its group and place."""
    (name, place), group = where, room.groups[where[0]]
    table = kept.tables[name][place]
    gone = table.gone * group.page_size
    _check(slots, kept.length(table) - gone, f"{name}, table {place}")
    target = np.arange(len(slots), dtype=np.int32)
    room.move(group, table, slots + gone, target + gone)  # raises before anything has changed
    room.spell_out(kept)
    assert table.positions is not None
    table.positions = table.positions[slots]
    room.fit(kept)


def evict(room: PageRoom, kept: Sequence, slots: Mapping[str, Kept], offered: bool = False) -> None:
    """Keep only these slots of the named groups, each layer and KV head its own."""
    assert kept.pending is None, "an eviction between a step and its commit"
    lone = [] if offered else room.tree.lone(kept.nodes)
    plans = [
        _plan(room, group, table, chosen, {page for node in lone for page in node.pages.get(name, ())})
        for name, wanted in slots.items()
        for group, table, chosen in _tables(room, kept, name, wanted)
    ]
    needed = dict.fromkeys(room.pools, 0)
    for plan in plans:
        needed[plan.group.name] += len(plan.replaced)
    if not room.make(needed):
        raise no_page()
    end = max(
        (int(at[-1]) + 1 for _, table in kept.each(room.groups) if len(at := kept.positions(table))),
        default=0,
    )
    (room.tree.let_go if offered else room.tree.drop)(kept.nodes)
    kept.nodes = []
    kept.spell_out(room.groups)
    for plan in plans:
        _compact(room, plan)
    kept.floor = max(kept.floor, end)
    room.fit(kept)


def _tables(room: PageRoom, kept: Sequence, name: str, wanted: Kept) -> list[tuple[CacheGroup, Table, Int32]]:
    """Each table of a group with what it is to keep: (layers, heads of a page, B)."""
    group = room.groups.get(name)
    if group is None:
        raise InputError(f"there is no cache group {name!r}", remedy=f"name one of {', '.join(room.groups)}")
    if group.window is not None or group.chunk is not None:
        raise UnsupportedError(
            "layers that see a window or a chunk hide entries by position and keep them all",
            where=f"cache group {name}", remedy="name only groups whose layers see everything",
        )  # fmt: skip
    each = list(np.moveaxis(wanted, 1, 0)) if isinstance(wanted, np.ndarray) else list(wanted)
    if len(each) != group.kv_heads or any(one.ndim != 2 or len(one) != len(group.layers) for one in each):
        raise InputError(
            f"what {len(group.layers)} layers and {group.kv_heads} KV heads keep has another shape",
            where=f"cache group {name}", remedy="give slots as (layers, KV heads, entries)",
        )  # fmt: skip
    found = []
    for place, table in enumerate(kept.tables[name]):
        heads = each[place * group.heads_per_page : (place + 1) * group.heads_per_page]
        if len({head.shape for head in heads}) > 1:
            raise InputError(
                "KV heads that share a table keep equally many entries", where=f"cache group {name}",
                remedy="give each KV head a table of its own or keep as many of each",
            )  # fmt: skip
        chosen = np.stack(heads, axis=1).astype(np.int32, copy=False)
        _check(chosen, kept.length(table), f"{name}, table {place}")
        found.append((group, table, chosen))
    return found


def _check(slots: Int32, length: int, where: str) -> None:
    """InputError unless the last axis ascends within a table of that length."""
    if slots.size and (slots.min() < 0 or slots.max() >= length or np.any(np.diff(slots) <= 0)):
        raise InputError(f"slots to keep must ascend within the table's {length}", where=where)


def _plan(room: PageRoom, group: CacheGroup, table: Table, slots: Int32, given_up: set[int]) -> _Plan:
    """Pages that would be written and that others hold are replaced; the tree gives some up before."""
    pool = room.pools[group.name]
    moved = np.flatnonzero((slots != np.arange(slots.shape[-1])).any(axis=(0, 1)))
    replaced = [
        int(place)
        for place in np.unique(moved // group.page_size)
        if pool.holders(page := int(table.pages[place])) > 1 + (page in given_up)
    ]
    return _Plan(group, table, slots, replaced)


def _compact(room: PageRoom, plan: _Plan) -> None:
    """Move the entries of each layer and head, into new pages where others hold the old ones."""
    group, table, size = plan.group, plan.table, plan.group.page_size
    old, pool = table.pages.copy(), room.pools[group.name]
    table.pages[plan.replaced] = pool.take(len(plan.replaced))
    target = np.arange(plan.slots.shape[-1], dtype=np.int32)
    replaced = np.isin(target // size, plan.replaced)
    for layer, heads in enumerate(plan.slots):
        for head, source in enumerate(heads):
            moved = np.flatnonzero(replaced | (source != target))
            if len(moved):
                here, there = source[moved], target[moved]
                room.storage.copy_head_entries(
                    group.name,
                    layer,
                    head,
                    old[here // size],
                    here % size,
                    table.pages[there // size],
                    there % size,
                )
    room.release(group.name, (int(old[place]) for place in plan.replaced))
    assert table.positions is not None
    table.positions = table.positions[plan.slots].max(axis=(0, 1))
