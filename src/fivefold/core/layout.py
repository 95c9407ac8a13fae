"""What a model remembers between steps, as a description: cache groups and recurrent states.

A family declares a `CacheLayout`; `cache` plans pages by it, the executors allocate by it, `plan`
counts its bytes. A cache group is a set of layers that share page tables. A page belongs to one
table; a sequence has either one table for the group (all KV heads keep the same entries) or one a
KV head (each head keeps its own entries, so lengths differ after eviction). Slot numbers count
entries within a table and are not logical positions: after eviction the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

PAGE_SIZE = 32
"""Entries a page. Also the tile of attention: softmax is merged page by page, in order."""


WINDOW_SHARE = 4
"""Groups with a window have this part of the others' entries. Sequences of four windows use both alike;
shorter ones fill the groups with a window first, longer ones those without."""

STEP_ROWS = 512
"""Rows of a step at most, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class CacheGroup:
    """Layers that share page tables, and the width of one entry of one KV head.

    A latent cache (MLA) has one KV head whose value is the first `value_width` columns of its
    key; then `value_in_key` is true and no value is stored. With a `window` a row at position p sees
    positions above p - window only: so many, its own among them. Pages that no row of a sequence will see
    again are let go. With a `chunk` positions fall into parts of so many, and a row sees those of its own
    part; their pages stay. A group has one of the two at most.
    """

    name: str
    layers: tuple[int, ...]
    kv_heads: int
    key_width: int
    value_width: int
    value_in_key: bool = False
    tables: int = 1
    page_size: int = PAGE_SIZE
    window: int | None = None
    chunk: int | None = None

    @property
    def heads_per_page(self) -> int:
        """KV heads whose entries lie together in one page."""
        return self.kv_heads // self.tables

    def passed(self, position: int) -> int:
        """The first pages of a table that no row from `position` on sees."""
        if self.window is None:
            return 0
        return max(position - self.window + 1, 0) // self.page_size

    def held_entries(self, entries: int, rows: int) -> int:
        """Entries of one table at most, of a sequence of so many that is run in steps of `rows`.

        With a window those of the last rows, of a step, of a page to go back, and of a page that is not full.
        """
        if self.window is None:
            return entries
        return min(entries, self.window + rows + 2 * self.page_size)

    def kept_entries(self, entries: int, rows: int) -> int:
        """Entries of each table that a cache has where groups without a window have `entries`.

        With a window what one sequence needs, or the share for short ones if that is more, in whole pages.
        """
        if self.window is None:
            return entries
        wanted = max(self.held_entries(entries, rows), entries // WINDOW_SHARE)
        return min(entries, -(-wanted // self.page_size) * self.page_size)

    @property
    def stored_width(self) -> int:
        """Numbers stored for one entry of one KV head in one layer."""
        return self.key_width + (0 if self.value_in_key else self.value_width)

    def entry_bytes(self, number_bytes: float, scale_bytes: float) -> float:
        """Bytes one position takes in all layers and KV heads: of its numbers, and of a scale for a key and
        one for a value, or for the two parts of a key that has its value in it."""
        return len(self.layers) * self.kv_heads * (self.stored_width * number_bytes + 2 * scale_bytes)


@dataclass(frozen=True, slots=True)
class StateGroup:
    """A recurrent state: one array of `shape` for each sequence and layer (delta net, convolution).

    States lie in slots, a sequence's in the same slot of each group.
    """

    name: str
    layers: tuple[int, ...]
    shape: tuple[int, ...]

    def sequence_bytes(self, number_bytes: float = 4.0) -> float:
        """Bytes one sequence takes in all layers of the group."""
        return len(self.layers) * prod(self.shape) * number_bytes


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """All that a model keeps for a sequence."""

    groups: tuple[CacheGroup, ...]
    states: tuple[StateGroup, ...] = ()

    def group(self, name: str) -> CacheGroup:
        """The group of that name; KeyError if the layout has none."""
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(f"no cache group named {name!r}")

    def state(self, name: str) -> StateGroup:
        """The state group of that name; KeyError if the layout has none."""
        for group in self.states:
            if group.name == name:
                return group
        raise KeyError(f"no state group named {name!r}")

    def entry_bytes(self, number_bytes: float, scale_bytes: float) -> float:
        """Bytes one position takes in all groups."""
        return sum(group.entry_bytes(number_bytes, scale_bytes) for group in self.groups)

    def kept_bytes(self, entries: int, rows: int, number_bytes: float, scale_bytes: float) -> float:
        """Bytes of a cache of so many entries, for steps of `rows`; groups with a window have fewer."""
        return sum(
            group.kept_entries(entries, rows) * group.entry_bytes(number_bytes, scale_bytes)
            for group in self.groups
        )

    def pages(self, entries: int, rows: int) -> dict[str, int]:
        """Pages of each group in such a cache."""
        return {
            group.name: group.tables * -(-group.kept_entries(entries, rows) // group.page_size)
            for group in self.groups
        }

    def state_bytes(self, number_bytes: float = 4.0) -> float:
        """Bytes that the states of one sequence take in all groups."""
        return sum(group.sequence_bytes(number_bytes) for group in self.states)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cache groups, in order."""
        return tuple(group.name for group in self.groups)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The numbers of a model that other rooms need: sizes, not behaviour."""

    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocabulary: int
    context: int
