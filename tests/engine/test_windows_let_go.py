"""A model with windows in a cache that cannot hold all its entries: the same tokens, and less memory."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from guessed import Clock, truth_teller

from fivefold.core import layout as layout_module
from fivefold.core.request import Request, SamplingParams
from fivefold.engine import Engine, EngineOptions, LoadOptions, decodings, load, need_of

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "engine" / "data" / "tiny.gguf"
OPTIONS = LoadOptions(threads=1, context=1024, max_rows=64)
SAMPLING = SamplingParams(max_tokens=40, temperature=1.0, seed=3, ignore_eos=True, logprobs=2)
Said = tuple[tuple[int, ...], tuple[Any, ...]]


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of Gemma 3's form: windows of 64."""
    spec = importlib.util.spec_from_file_location("swapping", ROOT / "scripts" / "demonstrate_swapping.py")
    assert spec is not None and spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    sys.modules["swapping"] = script
    spec.loader.exec_module(script)
    path = tmp_path_factory.mktemp("near") / "near.gguf"
    script.write_tiny(path, "gemma3", TINY)
    return path


def prompts() -> list[list[int]]:
    """Some that begin alike, at lengths around pages and windows, and one of another kind."""
    dice = random.Random(3)
    head = [dice.randrange(5, 250) for _ in range(420)]
    cuts = (420, 300, 97, 300, 64, 419)
    return [[*head[:cut], *(dice.randrange(5, 250) for _ in range(dice.randint(1, 70)))] for cut in cuts]


def said(engine: Engine, prompt: list[int]) -> Said:
    """An answer's tokens, and their logarithms to the last bit."""
    (one,) = engine.generate([prompt], SAMPLING)
    return tuple(one.tokens), tuple(one.logprobs)


@pytest.fixture(scope="module")
def expected(near: Path) -> list[Said]:
    """What each says alone, in a cache that holds everything and shares nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout_module, "WINDOW_SHARE", 1)
        engine = Engine(load(near, OPTIONS), EngineOptions(prefix_cache=False))
    return [said(engine, prompt) for prompt in prompts()]


def test_tokens_are_those_of_a_cache_that_holds_everything(near: Path, expected: list[Said]) -> None:
    """One after the other with shared beginnings, and all at once."""
    loaded = load(near, OPTIONS)
    window = loaded.model.layout.group("window")
    pages = loaded.model.layout.pages(1024 + 64, 64)
    assert window.window == 64
    assert pages["window"] * 3 < pages["main"]
    engine = Engine(loaded)
    for _ in range(2):
        assert [said(engine, prompt) for prompt in prompts()] == expected
        engine.check_integrity()
    assert engine.figures().cached_tokens > 300
    together = engine.generate(prompts(), SAMPLING)
    assert [(tuple(one.tokens), tuple(one.logprobs)) for one in together] == expected
    engine.check_integrity()
    assert engine.figures().cache.used == 0


def test_guesses_change_nothing(near: Path, expected: list[Said], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [Request(f"r{place}", tuple(prompt), SAMPLING) for place, prompt in enumerate(prompts())]
    texts = {one.identity: [*one.prompt, *said[0]] for one, said in zip(asked, expected, strict=True)}
    monkeypatch.setitem(decodings._DECODERS, "speculative", truth_teller(texts, 0.8))
    engine = Engine(load(near, OPTIONS), clock=Clock())
    for request, (tokens, logprobs) in zip(asked, expected, strict=True):
        events = list(engine.stream(request))
        assert tuple(token for event in events for token in event.tokens) == tokens
        assert tuple(one for event in events for one in event.logprobs) == logprobs
        engine.check_integrity()
    assert 50 < engine.figures().accepted_tokens < engine.figures().guessed_tokens


def test_a_text_may_be_longer_than_what_its_windows_keep(near: Path) -> None:
    loaded = load(near, OPTIONS)
    figures = loaded.runner.figures()
    assert figures.longest == 1024 + 64
    assert figures.capacity < 400
    (told,) = Engine(loaded).generate([[7] * 900], SAMPLING)
    assert len(told.tokens) == 40


def test_the_need_is_what_the_cache_takes(near: Path) -> None:
    need, loaded = need_of(near, OPTIONS), load(near, OPTIONS)
    assert need.least_bytes - need.weights == loaded.runner.cache_bytes  # type: ignore[attr-defined]
    whole = need.least * loaded.model.layout.entry_bytes(2.0, 0.0)
    assert need.least_bytes - need.weights < whole / 2
    for memory in (need.least_bytes, need.least_bytes + 1_000_000, 1 << 24):
        entries = need.entries(memory)
        assert need.bytes(entries) <= memory
        assert entries == need.most or need.bytes(entries + 1) > memory
