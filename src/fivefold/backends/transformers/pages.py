"""Keys and values of all layers in torch tensors, addressed by slots.

A slot is page times page size plus the place in the page. Behind the last page lies one more slot that nobody
writes: it is zero, and stands for what a row does not see where rows of several sequences are padded to one
length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fivefold.core.batch import Int32
from fivefold.core.layout import CacheGroup, CacheLayout

Tensor = Any
"""torch.Tensor, which the type checker does not know: it is not installed where the base package is checked."""

NUMBERS: Mapping[str, Any] = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
"""Formats of entries and weights that this backend has."""


class TorchPages:
    """The storage behind a PagedCache: for each layer its keys and its values, (slots + 1, KV heads, width)."""

    def __init__(self, layout: CacheLayout, pages: Mapping[str, int], form: str) -> None:
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self._groups: dict[str, CacheGroup] = {group.name: group for group in layout.groups}
        self._slots = {group.name: pages[group.name] * group.page_size for group in layout.groups}
        for group in layout.groups:
            rows = self._slots[group.name] + 1
            for layer in group.layers:
                self.keys[layer] = torch.zeros(rows, group.kv_heads, group.key_width, dtype=NUMBERS[form])
                self.values[layer] = torch.zeros(rows, group.kv_heads, group.value_width, dtype=NUMBERS[form])

    def empty_slot(self, group: str) -> int:
        """The slot that is always zero."""
        return self._slots[group]

    @property
    def bytes(self) -> int:
        """Bytes reserved for entries."""
        return sum(each.nbytes for each in (*self.keys.values(), *self.values.values()))

    def copy_entries(
        self, name: str, page_from: Int32, slot_from: Int32, page_to: Int32, slot_to: Int32
    ) -> None:
        """Copy entry by entry, in order; slots are places in their pages.

        Entries only move to places that are not after them, so reading all before writing is the same.
        """
        size = self._groups[name].page_size
        source = torch.from_numpy((page_from * size + slot_from).astype("int64"))
        target = torch.from_numpy((page_to * size + slot_to).astype("int64"))
        for layer in self._groups[name].layers:
            for stored in (self.keys[layer], self.values[layer]):
                stored[target] = stored[source]
