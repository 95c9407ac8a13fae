"""Cache entries in every format: the reference's bits on all instruction sets, and copies with scales."""

from __future__ import annotations

import numpy as np
import pytest

from fivefold import _native
from fivefold.core.layout import CacheGroup, CacheLayout
from fivefold.executor import NativeCache
from fivefold.formats import ENTRY_FORMATS

FORMS = list(ENTRY_FORMATS)
NONE = np.zeros((0, 1), np.int32)


def numbers(rows: int, width: int) -> np.ndarray:
    """Rows of magnitudes from subnormal to huge, alike within a row or not, and rows of zeros and of ties."""
    rng = np.random.default_rng(width)
    x = rng.normal(0, 1, (rows, width))
    with np.errstate(over="ignore", under="ignore"):
        x[: rows // 2] *= 10.0 ** rng.integers(-44, 38, (rows // 2, 1))
        x[rows // 2 :] *= 10.0 ** rng.integers(-9, 3, (rows - rows // 2, width))
        found = x.astype(np.float32)
    found[0], found[1] = 0, -0.0
    found[2] = np.resize([448, 127, 63.5, 0.5, 1.5, 2.5, -0.5, 12, 13, 464 * 2.0**-9], width)
    found[3] = np.resize([1, 2.0**-10, 3 * 2.0**-11, -(2.0**-9), 2.0**-16, -0.0], width)
    found[4] = np.resize([np.float32(1e-45), 1e-40, -3e-39], width)
    found[5] = np.resize([np.float32(3.4e38), -1e38, 1], width)
    return found


def read_all(cache: _native.CacheStorage, page: int, slots: range, head: int = 0) -> list[np.ndarray]:
    """Keys and values of some slots in layer 0."""
    entries = [cache.read_entry(0, page, head, slot) for slot in slots]
    return [np.stack([entry[part] for entry in entries]) for part in (0, 1)]


def same_bits(found: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_array_equal(found.view(np.int32), want.view(np.int32))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("key", "value"), [(64, 64), (20, 13), (5, 40)])
def test_stored_as_the_reference_stores(lab, isa, form, key, value) -> None:
    rows = 64
    engine = lab(isa, 2, max_rows=64)
    cache = _native.CacheStorage(1, 3, 2, 32, key, value, False, form)
    group = engine.executor.add_group(cache, 1)
    inputs = [engine.input(2 * width) for width in (key, value)]
    engine.node("attention_store", inputs, [], integers=[0], group=group)
    x = [np.concatenate([numbers(rows, width), numbers(rows, width)[::-1]], axis=1) for width in (key, value)]
    slots = np.arange(rows, dtype=np.int32)[:, None]
    engine.run(*x, groups=[(np.array([[[2, 1]]], np.int32), slots * 0, slots * 0, slots, None, None)])
    for head in range(2):
        for part, width in enumerate((key, value)):
            found = np.concatenate([read_all(cache, page, range(32), head)[part] for page in (2, 1)])
            want = ENTRY_FORMATS[form].read_back(x[part][:, head * width : (head + 1) * width])
            same_bits(found, want)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("key", "value"), [(72, 64), (21, 13), (16, 16)])
def test_latents_are_stored_as_the_reference_stores(lab, isa, form, key, value) -> None:
    """The numbers behind the value have a scale of their own, however large they are."""
    engine = lab(isa, 2, max_rows=64)
    cache = _native.CacheStorage(1, 2, 1, 32, key, value, True, form)
    group = engine.executor.add_group(cache, 1)
    engine.node("attention_store", [engine.input(key)], [], integers=[0], group=group)
    parts = [numbers(64, value), numbers(64, key - value)[::-1] if key > value else np.zeros((64, 0))]
    slots = np.arange(64, dtype=np.int32)[:, None]
    pages = np.array([[[1, 0]]], np.int32)
    x = np.concatenate(parts, axis=1).astype(np.float32)
    engine.run(x, groups=[(pages, slots * 0, slots * 0, slots, None, None)])
    keys, values = (
        np.concatenate([read_all(cache, page, range(32))[part] for page in (1, 0)]) for part in (0, 1)
    )
    same_bits(keys[:, :value], ENTRY_FORMATS[form].read_back(x[:, :value]))
    same_bits(values, keys[:, :value])
    if key > value:
        same_bits(keys[:, value:], ENTRY_FORMATS[form].read_back(x[:, value:]))


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_what_is_not_finite_reads_as_nan_and_spoils_no_other(lab, isa, form) -> None:
    engine = lab(isa, 1)
    cache = _native.CacheStorage(1, 1, 1, 32, 20, 20, False, form)
    group = engine.executor.add_group(cache, 1)
    k = engine.input(20)
    engine.node("attention_store", [k, k], [], integers=[0], group=group)
    x = np.ones((4, 20), np.float32)
    x[0, 3], x[1, 19], x[2, 0] = np.nan, np.inf, -np.inf
    slots = np.arange(4, dtype=np.int32)[:, None]
    engine.run(x, groups=[(np.zeros((1, 1, 1), np.int32), slots * 0, slots * 0, slots, None, None)])
    for found in read_all(cache, 0, range(4)):
        assert np.isnan(found[:3]).all()
        np.testing.assert_allclose(found[3], 1, rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("latent", [False, True])
def test_copies_take_their_scales_along(form, latent) -> None:
    cache = _native.CacheStorage(2, 3, 2, 32, 20, 12, latent, form)
    rng = np.random.default_rng(0)
    places = [(layer, head, slot) for layer in range(2) for head in range(2) for slot in (3, 30)]
    for place, (layer, head, slot) in enumerate(places):
        k, v = (rng.normal(0, 10.0 ** (place - 3), width).astype(np.float32) for width in (20, 12))
        cache.write_entry(layer, 0, head, slot, k, v)
    before = [cache.read_entry(layer, 0, head, slot) for layer, head, slot in places]
    pages, slots, target = np.zeros(2, np.int32), np.array([3, 30], np.int32), np.array([31, 0], np.int32)
    cache.copy_entries(pages, slots, pages + 2, target)
    for (layer, head, slot), want in zip(places, before, strict=True):
        found = cache.read_entry(layer, 2, head, 31 if slot == 3 else 0)
        for part in (0, 1):
            assert want[part].any()
            np.testing.assert_array_equal(found[part], want[part])
        for old, same in zip(cache.read_entry(layer, 0, head, slot), want, strict=True):
            np.testing.assert_array_equal(old, same)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("latent", [False, True])
def test_the_layout_counts_the_bytes_that_are_taken(form, latent) -> None:
    group = CacheGroup("main", (0, 1, 2), kv_heads=4, key_width=20, value_width=12, value_in_key=latent)
    row = ENTRY_FORMATS[form]
    cache = NativeCache(CacheLayout((group,)), {"main": 5}, form)
    assert cache.bytes == 5 * 32 * group.entry_bytes(row.number_bytes, row.scale_bytes)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="no cache format named 'int4'; there are f16, bf16, int8, fp8"):
        _native.CacheStorage(1, 1, 1, 32, 8, 8, False, "int4")
