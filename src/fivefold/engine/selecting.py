"""From what was observed to entries that stay: a policy's choice, carried out on a runner's cache groups.

Only groups whose layers see everything are evicted from: a window lets go of its entries by itself. All their
layers share a budget, so they are put before the policy together. Entries of a side drafter are not the
model's: they stay whole, for nothing observes what they are worth, and they are few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fivefold.cache.eviction import Evidence, Policy, Selection
from fivefold.core.batch import Float32, Int32
from fivefold.core.drafter import DRAFTER
from fivefold.core.errors import UnsupportedError
from fivefold.core.layout import CacheGroup, CacheLayout
from fivefold.core.runner import Runner


class Evicted:
    """The groups of a runner that are evicted from. UnsupportedError if there are none, or they differ."""

    def __init__(self, runner: Runner, layout: CacheLayout) -> None:
        self.runner = runner
        self.groups = evicted_groups(layout)
        self.layers = sum(len(one.layers) for one in self.groups)
        self.kv_heads = self.groups[0].kv_heads

    def importance(self, sequence: int) -> Float32:
        """(L, H, S) of all groups' layers, of the sequence's last span."""
        found = self.runner.importance(sequence)
        return np.concatenate([found[group.name] for group in self.groups])

    def evict(self, sequence: int, policy: Policy, seen: Float32 | None, kept: int) -> int:
        """Keep what the policy chooses, about `kept` entries of each layer and KV head.

        How many entries each of them has given up.
        """
        slots = self.runner.length(sequence, self.groups[0].name)
        if slots <= kept:
            return 0
        chosen = policy.select(Evidence(self.layers, self.kv_heads, slots, seen), kept)
        self.keep(sequence, chosen)
        return slots - kept

    def keep(self, sequence: int, chosen: Selection) -> None:
        """Keep these slots."""
        self.runner.evict(sequence, self._by_group(chosen), offered=True)

    def _by_group(self, chosen: Selection) -> Mapping[str, Int32 | list[Int32]]:
        """The choice by cache group: (layers, KV heads, B), or for each KV head (layers, B)."""
        kept: dict[str, Int32 | list[Int32]] = {}
        first = 0
        for group in self.groups:
            layers = range(first, first + len(group.layers))
            first = layers.stop
            if isinstance(chosen, np.ndarray):
                kept[group.name] = chosen[layers.start : layers.stop]
            else:
                heads = range(self.kv_heads)
                kept[group.name] = [np.stack([chosen[layer][head] for layer in layers]) for head in heads]
        return kept


def evicted_groups(layout: CacheLayout) -> tuple[CacheGroup, ...]:
    """The groups that are evicted from. UnsupportedError if there are none, or they differ."""
    groups = tuple(
        one for one in layout.groups if one.window is None and one.chunk is None and one.name != DRAFTER
    )
    if layout.states or not groups or len({one.kv_heads for one in groups}) > 1:
        raise UnsupportedError(
            "entries of this model cannot be evicted: " + _why(layout, groups),
            where="eviction", remedy='write eviction = "none"',
        )  # fmt: skip
    return groups


def apart(groups: Iterable[CacheGroup]) -> bool:
    """Whether layers and heads have page tables of their own and can keep different numbers."""
    return all(len(one.layers) == 1 and one.tables == one.kv_heads for one in groups)


def _why(layout: CacheLayout, groups: tuple[CacheGroup, ...]) -> str:
    if layout.states:
        return "it has recurrent states, which hold what was evicted"
    return "its layers keep different heads" if groups else "all its layers see a window alone"
