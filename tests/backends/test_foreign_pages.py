"""Entries in torch tensors that move by layer and head."""

from __future__ import annotations

import numpy as np

from fivefold.core.layout import CacheGroup, CacheLayout


def test_one_layers_and_heads_entries_move_alone() -> None:
    from fivefold.backends.transformers.pages import TorchPages

    layout = CacheLayout((CacheGroup("kv", (4, 9), 2, 3, 3, page_size=4),))
    pages = TorchPages(layout, {"kv": 3}, "f32")
    for layer in (4, 9):
        for place, stored in enumerate((pages.keys[layer], pages.values[layer])):
            stored[:, 0, 0].copy_(
                stored.new_tensor([1000 * layer + 100 * place + slot for slot in range(12)])
            )
            stored[:, 1, 0].copy_(-stored[:, 0, 0])
    before = {layer: (pages.keys[layer].clone(), pages.values[layer].clone()) for layer in (4, 9)}
    moved = ([0, 2, 2], [3, 1, 3], [1, 1, 2], [0, 3, 0])
    pages.copy_head_entries("kv", 1, 1, *(np.array(numbers, np.int32) for numbers in moved))
    for old, new in zip(before[9], (pages.keys[9], pages.values[9]), strict=True):
        assert new[[4, 7, 8], 1].equal(old[[3, 9, 11], 1])
        assert new[:, 0].equal(old[:, 0]), "the other head"
        others = [slot for slot in range(12) if slot not in (4, 7, 8)]
        assert new[others, 1].equal(old[others, 1])
    assert all(old.equal(new) for old, new in zip(before[4], (pages.keys[4], pages.values[4]), strict=True))
