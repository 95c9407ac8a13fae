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


@dataclass(frozen=True, slots=True)
class CacheGroup:
    """Layers that share page tables, and the width of one entry of one KV head.

    A latent cache (MLA) has one KV head whose value is the first `value_width` columns of its
    key; then `value_in_key` is true and no value is stored. With a `window` a row at position p sees
    positions above p - window only: so many, its own among them. Pages that no row will see again stay
    until the sequence gives them up: others may begin with them.
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

    @property
    def heads_per_page(self) -> int:
        """KV heads whose entries lie together in one page."""
        return self.kv_heads // self.tables

    @property
    def stored_width(self) -> int:
        """Numbers stored for one entry of one KV head in one layer."""
        return self.key_width + (0 if self.value_in_key else self.value_width)

    def entry_bytes(self, number_bytes: float, scale_bytes: float) -> float:
        """Bytes one position takes in all layers and KV heads: of its numbers, and of a scale for each key
        and value that is stored."""
        scales = scale_bytes * (1 if self.value_in_key else 2)
        return len(self.layers) * self.kv_heads * (self.stored_width * number_bytes + scales)


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
