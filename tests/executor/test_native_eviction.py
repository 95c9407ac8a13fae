"""Eviction in the native cache: each layer's and head's entries move, with their scales, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from fivefold import _native
from fivefold.cache import PagedCache
from fivefold.core.batch import Commit, Span, Step
from fivefold.core.layout import CacheGroup, CacheLayout
from fivefold.executor.native import NativeCache

LAYERS, HEADS, ROWS, KEPT = 2, 2, 80, 37


@pytest.mark.parametrize("latent", [False, True])
@pytest.mark.parametrize("form", ["f16", "bf16", "int8", "fp8"])
@pytest.mark.parametrize("tables", [1, HEADS])
def test_each_layer_and_head_has_the_entries_it_keeps(form: str, tables: int, latent: bool) -> None:
    """In place and into copies, while a fork keeps all of its own."""
    group = CacheGroup("kv", (0, 1), HEADS, 20, 12, value_in_key=latent, tables=tables)
    layout = CacheLayout((group,))
    storage = NativeCache(layout, {"kv": 6 * tables}, form)
    cache, rng = PagedCache(layout, {"kv": 6 * tables}, storage), np.random.default_rng(1)
    first = cache.open()
    cache.prepare(Step((Span.causal(first, np.zeros(ROWS, np.int32), 0),)))
    cache.commit([Commit(first, np.arange(ROWS, dtype=np.int32))])
    for layer, head, slot in np.ndindex(LAYERS, HEADS, ROWS):
        key, value = (
            rng.normal(0, 10.0 ** rng.integers(-2, 2), width).astype(np.float32) for width in (20, 12)
        )
        place = entry(cache, first, group, head, slot)
        storage.storages["kv"].write_entry(layer, *place, key, value)
    whole = read(cache, storage.storages["kv"], first, group, ROWS)
    kept = np.stack([np.sort(rng.choice(ROWS, KEPT, replace=False)) for _ in range(LAYERS * HEADS)])
    slots = kept.reshape(LAYERS, HEADS, KEPT).astype(np.int32)
    other = cache.fork(first)
    cache.evict(first, {"kv": slots})
    again = cache.fork(other)
    cache.close(other)
    for number, chosen in ((first, slots), (again, np.broadcast_to(np.arange(ROWS), (LAYERS, HEADS, ROWS)))):
        found = read(cache, storage.storages["kv"], number, group, chosen.shape[-1])
        for layer, head in np.ndindex(LAYERS, HEADS):
            np.testing.assert_array_equal(found[layer, head], whole[layer, head, chosen[layer, head]])
    cache.evict(again, {"kv": slots})  # its own pages now: in place
    found = read(cache, storage.storages["kv"], again, group, KEPT)
    np.testing.assert_array_equal(found, read(cache, storage.storages["kv"], first, group, KEPT))
    cache.check_integrity()


def entry(cache: PagedCache, number: int, group: CacheGroup, head: int, slot: int) -> tuple[int, int, int]:
    """Page, head in the page, and slot in the page of an entry."""
    table, inner = divmod(head, group.heads_per_page)
    page, place = divmod(slot, group.page_size)
    return int(cache._sequences[number].tables["kv"][table].pages[page]), inner, place


def read(
    cache: PagedCache, storage: _native.CacheStorage, number: int, group: CacheGroup, count: int
) -> np.ndarray:
    """(layers, KV heads, count, key and value) of a sequence's entries."""
    found = np.empty((LAYERS, HEADS, count, 32), np.float32)
    for layer, head, slot in np.ndindex(LAYERS, HEADS, count):
        found[layer, head, slot] = np.concatenate(
            storage.read_entry(layer, *entry(cache, number, group, head, slot))
        )
    return found
