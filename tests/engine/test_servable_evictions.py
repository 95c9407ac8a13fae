"""Which evictions a model can be served with: known before it is loaded, with its memory; else refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_lookahead import write_tiny_with_lookahead

from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.layout import CacheGroup, CacheLayout, StateGroup
from fivefold.core.request import EvictionChoice, Request
from fivefold.engine import SERVED, Engine, EngineOptions, LoadOptions, checked, load, need_of
from fivefold.engine.servable import allowed, laid_out, require_entries, served_policy
from fivefold.files import open_checkpoint
from fivefold.models import load_model

TINY = Path(__file__).parent / "data" / "tiny.gguf"
MAIN = CacheGroup("main", (0, 1), 2, 8, 8)


@pytest.mark.parametrize("refuse", [need_of, load])
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("best", "eviction: there is no eviction policy 'best'; choose of none, adakv, h2o"),
        ("oracle", "eviction: eviction 'oracle' is for measurements alone; choose of"),
        ("expected_attention", "is for measurements alone; choose of"),
        ("lookahead", f"no lookahead module for this model; train one: fivefold train lookahead {TINY}"),
    ],
)  # fmt: skip
def test_a_model_is_not_loaded_for_what_it_cannot_do(refuse: type, name: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        refuse(TINY, LoadOptions(eviction=name))
    assert line in caught.value.line()


@pytest.mark.parametrize(
    ("layout", "why"),
    [
        (CacheLayout((MAIN,), (StateGroup("delta", (0,), (4, 4)),)), "it has recurrent states"),
        (CacheLayout((replace(MAIN, window=64),)), "all its layers see a window alone"),
        (CacheLayout((replace(MAIN, chunk=64),)), "all its layers see a window alone"),
        (CacheLayout((MAIN, replace(MAIN, name="more", kv_heads=1))), "its layers keep different heads"),
    ],
)
def test_models_that_cannot_be_evicted_from(layout: CacheLayout, why: str) -> None:
    with pytest.raises(UnsupportedError, match=f"entries of this model cannot be evicted: {why}"):
        require_entries(layout, native=True)
    model = replace(load_model(open_checkpoint(TINY)), layout=layout)
    assert allowed(model, True, None) == ("none",)
    assert laid_out(model, None) is model
    for name in ("snapkv", "adakv"):
        with pytest.raises(UnsupportedError, match=why):
            laid_out(model, served_policy(name))


def test_windows_beside_layers_that_see_everything_are_no_hindrance() -> None:
    require_entries(CacheLayout((replace(MAIN, window=64), replace(MAIN, name="all"))), native=True)


@pytest.mark.parametrize("name", ["none", "snapkv", "lookahead", "adakv", "pyramidkv"])
def test_the_memory_that_is_counted_is_the_caches(tmp_path: Path, name: str) -> None:
    path = write_tiny_with_lookahead(tmp_path)
    options = LoadOptions(threads=1, max_rows=64, eviction=name)
    need, loaded = need_of(path, options), load(path, options)
    assert need.least_bytes - need.weights == loaded.runner.cache_bytes  # type: ignore[attr-defined]
    entries = need.entries(need.least_bytes + 50_000)
    assert need.bytes(entries) <= need.least_bytes + 50_000 < need.bytes(entries + 1)
    whole = need_of(path, replace(options, eviction="none"))
    assert need.least_bytes == whole.least_bytes
    tables = {group.tables for group in loaded.model.layout.groups}
    assert tables == ({2} if name in ("adakv", "pyramidkv") else {1})
    assert loaded.lookahead is not None


@pytest.mark.parametrize(
    ("choice", "where"),
    [
        (EvictionChoice("snapkv"), "budget"), (EvictionChoice("snapkv", 1.0), "budget"),
        (EvictionChoice("snapkv", -3), "budget"), (EvictionChoice("snapkv", True), "budget"),
        (EvictionChoice("none", 64), "budget"), (EvictionChoice("none", 0, 8), "eviction_every"),
        (EvictionChoice("snapkv", 64, -1), "eviction_every"),
        (EvictionChoice("adakv", 64, 8), "eviction_every"),
        (EvictionChoice("best", 64), "eviction"), (EvictionChoice("oracle", 64), "eviction"),
    ],
)  # fmt: skip
def test_what_no_model_can_do(choice: EvictionChoice, where: str) -> None:
    with pytest.raises(InputError) as caught:
        checked(choice)
    assert caught.value.where == where and caught.value.remedy
    for refuse in (
        lambda: Engine(load(TINY), EngineOptions(eviction=choice)),
        lambda: Engine(load(TINY)).submit(Request("x", tuple(range(5, 60)), eviction=choice)),
    ):
        with pytest.raises(InputError):
            refuse()


def test_a_step_must_have_room_for_the_rows_that_observe() -> None:
    """Else the request would wait for ever."""
    engine = Engine(load(TINY, LoadOptions(max_rows=16)))
    with pytest.raises(InputError, match="eviction 'snapkv' needs 32 rows in one step, and steps have 16"):
        engine.submit(Request("x", tuple(range(5, 60)), eviction=EvictionChoice("snapkv", 16)))
    assert not engine.busy
    list(engine.stream(Request("x", tuple(range(5, 60)), eviction=EvictionChoice("tova", 16))))


def test_the_served_ones_are_the_policies_that_need_nothing_but_attention() -> None:
    assert SERVED == (
        "none", "adakv", "h2o", "kvzip", "laq", "lookahead", "pyramidkv", "random", "snapkv", "tova",
        "window",
    )  # fmt: skip
