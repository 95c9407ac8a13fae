"""Keys and values of all layers in torch tensors, addressed by slots.

A slot is page times page size plus the place in the page. What a sequence has is gathered into memory that
is used again for the next one, so that it stays in the processor's caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fivefold.core.batch import Int32
from fivefold.core.layout import CacheGroup, CacheLayout

from .pieces import Piece

Tensor = Any
"""torch.Tensor, which the type checker does not know: it checks the base package without torch."""

NUMBERS: Mapping[str, Any] = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
"""Formats of entries and weights that this backend has."""


class TorchPages:
    """The storage behind a PagedCache: for each layer its keys and its values, (slots, KV heads, width)."""

    def __init__(self, layout: CacheLayout, pages: Mapping[str, int], form: str) -> None:
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self._groups: dict[str, CacheGroup] = {group.name: group for group in layout.groups}
        self._gathered: dict[tuple[int, int, int], Tensor] = {}
        for group in layout.groups:
            rows = pages[group.name] * group.page_size
            for layer in group.layers:
                self.keys[layer] = torch.zeros(rows, group.kv_heads, group.key_width, dtype=NUMBERS[form])
                self.values[layer] = torch.zeros(rows, group.kv_heads, group.value_width, dtype=NUMBERS[form])

    @property
    def bytes(self) -> int:
        """Bytes reserved for entries."""
        return sum(each.nbytes for each in (*self.keys.values(), *self.values.values()))

    def gathered(self, stored: Tensor, piece: Piece, place: int) -> Tensor:
        """A piece's entries of a layer (1, KV heads, S, width), until the next with that `place`."""
        if isinstance(piece.slots, slice):
            return stored[piece.slots].transpose(0, 1)[None]
        heads, width = stored.shape[1:]
        space = self._gathered.get((place, heads, width))
        if space is None or len(space) < piece.seen:
            space = self._gathered[place, heads, width] = stored.new_empty(2 * piece.seen, heads, width)
        return torch.index_select(stored, 0, piece.slots, out=space[: piece.seen]).transpose(0, 1)[None]

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

    def copy_head_entries(
        self, name: str, layer: int, head: int,
        page_from: Int32, slot_from: Int32, page_to: Int32, slot_to: Int32,
    ) -> None:  # fmt: skip
        """The same for one layer, counted within the group, and one KV head."""
        size = self._groups[name].page_size
        source = torch.from_numpy((page_from * size + slot_from).astype("int64"))
        target = torch.from_numpy((page_to * size + slot_to).astype("int64"))
        at = self._groups[name].layers[layer]
        for stored in (self.keys[at], self.values[at]):
            stored[target, head] = stored[source, head]

    def copy_state(self, source: int, target: int) -> None:
        """There are no recurrent states here: models that have some are refused before they are loaded."""
        raise AssertionError("a model of this backend has no recurrent states")
