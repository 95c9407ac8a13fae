"""Diffusion in the engine: each request writes beside others what it writes alone, and no page is lost.

The engine takes a decoder for each request and asks nothing of it; here these are diffusion decoders, and
for some requests plain ones on the same weights, which are then read token by token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from all_at_once import write_all
from diffusion_models import MASK, make_diffusion_model
from guessed import Clock

from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.layout import PAGE_SIZE
from fivefold.core.request import EvictionChoice, Request, SamplingParams, TokenEvent
from fivefold.engine import Engine, EngineOptions, LoadedModel, LoadOptions, inspect_model, load
from fivefold.engine.diffusing import decoder_for

TINY = Path(__file__).parent / "data" / "tiny.gguf"
PLAIN = "plain"
"""What the identity begins with of requests that are written token by token."""


def opened(name: str, folder: Path, **options: Any) -> LoadedModel:
    make_diffusion_model(name, folder)
    return load(folder, LoadOptions(activations="float", threads=1, **options))


@pytest.fixture
def engines() -> Iterator[Any]:
    """Makes engines, which decode these models by diffusion where a request does not say otherwise."""
    made: list[Engine] = []

    def give(loaded: LoadedModel, **options: Any) -> Engine:
        made.append(Engine(loaded, EngineOptions(**options), Clock()))
        return made[-1]

    yield give
    for engine in made:
        engine.close()


def requests(loaded: LoadedModel, count: int, plain: int = 0) -> list[Request]:
    """Prompts of several lengths, some with a beginning in common, some greedy and some not."""
    random, found = np.random.default_rng(5), list[Request]()
    shared = random.integers(0, 256, 70).tolist()
    for number in range(count):
        own = random.integers(0, 257, random.integers(2, 40)).tolist()
        prompt = [*shared[: 35 * (number % 3)], *own]
        sampling = SamplingParams(
            temperature=0.8 * (number % 2),
            seed=number,
            max_tokens=int(random.integers(5, 30)),
            ignore_eos=True,
        )
        name = f"{PLAIN}-{number}" if number < plain else f"diffused-{number}"
        request = Request(name, tuple(prompt), sampling)
        found.append(replace(request, decoding="autoregressive") if number < plain else request)
    return found


def longer(asked: list[Request]) -> list[Request]:
    """The same with answers that grow out of the pages they begin with."""
    return [replace(one, sampling=replace(one.sampling, max_tokens=70)) for one in asked]


@pytest.mark.parametrize(("name", "plain"), [("sdar", 0), ("sdar", 5), ("wedlm", 5), ("fast-dllm", 3)])
def test_sixteen_at_once_write_what_each_writes_alone(
    name: str, plain: int, engines: Any, tmp_path: Path
) -> None:
    loaded = opened(name, tmp_path, entries=4096)
    asked = requests(loaded, 16, plain)
    alone: dict[str, list[int]] = {}
    for request in asked:
        alone |= write_all(engines(loaded, prefix_cache=False), [request])
    together = write_all(engines(loaded), asked)
    assert together == alone
    assert [len(together[one.identity]) for one in asked] == [one.sampling.max_tokens for one in asked]
    assert write_all(engines(loaded), asked) == alone, "once more, with what the cache has kept"


def test_few_pages_preempt_and_change_nothing(engines: Any, tmp_path: Path) -> None:
    roomy = opened("sdar", tmp_path / "roomy", entries=4096)
    asked = longer(requests(roomy, 8))
    expected = write_all(engines(roomy), asked)
    tight = opened("sdar", tmp_path / "tight", entries=352)
    engine = engines(tight)
    assert write_all(engine, asked) == expected
    assert engine.figures().preemptions > 0


def test_whole_sequence_models_are_served_too(engines: Any, tmp_path: Path) -> None:
    loaded = opened("llada", tmp_path, entries=1024)
    asked = requests(loaded, 4)
    alone: dict[str, list[int]] = {}
    for request in asked:
        alone |= write_all(engines(loaded), [request])
    assert write_all(engines(loaded), asked) == alone


@pytest.mark.parametrize("name", ["sdar", "wedlm", "fast-dllm", "llada"])
def test_cancelling_in_the_middle_of_blocks_loses_no_page(name: str, engines: Any, tmp_path: Path) -> None:
    loaded = opened(name, tmp_path, entries=2048)
    engine, random = engines(loaded, prefix_cache=False), np.random.default_rng(9)
    before = loaded.runner.figures()
    waiting = requests(loaded, 24)
    ended: dict[str, TokenEvent] = {}
    while waiting or engine.busy:
        while waiting and random.random() < 0.5:
            engine.submit(waiting.pop())
        for event in engine.step():
            if event.finish_reason is not None:
                ended[event.identity] = event
        engine.check_integrity()
        under_way = sorted(
            {*(f"diffused-{n}" for n in range(24))} - set(ended) - {r.identity for r in waiting}
        )
        if under_way and random.random() < 0.15:
            engine.cancel(under_way[int(random.integers(len(under_way)))])
    reasons = {event.finish_reason for event in ended.values()}
    assert len(ended) == 24 and reasons == {"cancelled", "length"}
    after = loaded.runner.figures()
    assert (after.free, after.used) == (before.free, 0)


@pytest.mark.soak
@pytest.mark.parametrize("name", ["sdar", "wedlm", "fast-dllm"])
def test_hundreds_come_and_leave_in_a_tight_cache(name: str, engines: Any, tmp_path: Path) -> None:
    """Beside plain ones, with shared beginnings, preempted and cancelled at any time: who stays to the end
    has written what is written alone, and all pages come back."""
    loaded = opened(name, tmp_path, entries=384)
    pool = longer(requests(loaded, 20, plain=6))
    alone = {
        one.identity: write_all(engines(loaded, prefix_cache=False), [one])[one.identity] for one in pool
    }
    engine, random = engines(loaded), np.random.default_rng(13)
    left, under_way, ended = 500, dict[str, tuple[str, list[int]]](), list[str]()
    while left or engine.busy:
        while left and len(under_way) < 30 and random.random() < 0.4:
            left -= 1
            one = pool[int(random.integers(len(pool)))]
            asked = replace(one, identity=f"{one.identity.split('-')[0]}-{left}")
            under_way[asked.identity] = one.identity, []
            engine.submit(asked)
        for event in engine.step():
            assert event.error is None
            source, tokens = under_way[event.identity]
            tokens += event.tokens
            if event.finish_reason is not None:
                assert tokens == alone[source][: len(tokens)]
                assert event.finish_reason == "cancelled" or len(tokens) == len(alone[source])
                ended.append(event.finish_reason)
                del under_way[event.identity]
        engine.check_integrity()
        if under_way and random.random() < 0.1:
            engine.cancel(str(random.choice(list(under_way))))
    figures = loaded.runner.figures()
    assert len(ended) == 500 and set(ended) == {"cancelled", "length"}
    assert figures.used == 0 and engine.figures().preemptions > 0


def test_only_final_tokens_are_counted_and_pages_end_with_blocks(engines: Any, tmp_path: Path) -> None:
    loaded = opened("sdar", tmp_path, entries=1024)
    prompt = tuple(int(token) for token in np.random.default_rng(1).integers(0, 256, 2 * PAGE_SIZE + 2))
    sampling = SamplingParams(temperature=0.0, max_tokens=5, ignore_eos=True)
    engine = engines(loaded)
    first = list(engine.stream(Request("one", prompt, sampling)))
    assert sum(len(event.tokens) for event in first) == 5
    timings = first[-1].timings
    assert timings is not None and (timings.output_tokens, timings.prompt_tokens) == (5, len(prompt))
    assert engine.figures().output_tokens == 5
    again = list(engine.stream(Request("two", prompt, sampling)))
    assert again[-1].timings is not None and again[-1].timings.cached_tokens == 2 * PAGE_SIZE
    part = list(engine.stream(Request("three", (*prompt[:50], 3, 4, 5), sampling)))
    assert part[-1].timings is not None and part[-1].timings.cached_tokens == 48, "whole blocks of a page"
    assert [event.tokens for event in again] == [event.tokens for event in first]


def test_a_stop_string_ends_the_text_within_a_block(engines: Any, tmp_path: Path) -> None:
    loaded = opened("sdar", tmp_path, entries=1024)
    sampling = SamplingParams(temperature=1.0, seed=2, max_tokens=24, ignore_eos=True)
    request = Request("one", tuple(range(40, 61)), sampling)
    whole = "".join(event.text for event in engines(loaded).stream(request))
    stop = next(one for one in whole[5:] if one.isascii() and one not in whole[:5])
    stopping = replace(request, sampling=replace(sampling, stop=(stop,)))
    events = list(engines(loaded).stream(stopping))
    assert "".join(event.text for event in events) == whole[: whole.index(stop)]
    assert (events[-1].finish_reason, events[-1].stop_reason) == ("stop", stop)


def test_text_read_token_by_token_is_no_beginning_for_blocks(engines: Any, tmp_path: Path) -> None:
    """The same tokens have other entries where rows see their whole block, so they are kept apart."""
    loaded = opened("sdar", tmp_path, entries=1024)
    asked = requests(loaded, 3)
    fresh = write_all(engines(loaded, prefix_cache=False), asked[2:])
    engine = engines(loaded)
    write_all(engine, [replace(asked[2], identity=PLAIN, salt="", decoding="autoregressive")])
    assert write_all(engine, asked[2:]) == fresh


def test_the_mask_in_a_text_is_text(engines: Any, tmp_path: Path) -> None:
    loaded = opened("sdar", tmp_path, entries=1024)
    prompt = loaded.vocabulary.encode("fill <|mask|> in", special=True)
    assert MASK in prompt
    sampling = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True)
    events = list(engines(loaded).stream(Request("one", tuple(prompt), sampling)))
    assert sum(len(event.tokens) for event in events) == 8


def test_drafts_stand_beside_final_tokens(engines: Any, tmp_path: Path) -> None:
    """Only who asks is told; what is told grows into what becomes final, and no token changes by it."""
    loaded = opened("sdar", tmp_path, entries=1024)
    sampling = SamplingParams(temperature=0.0, max_tokens=11, ignore_eos=True)
    request = Request("one", tuple(range(40, 61)), sampling)
    plain = list(engines(loaded).stream(request))
    events = list(engines(loaded).stream(replace(request, drafts=True)))
    assert all(event.draft is None for event in plain)
    assert [event.tokens for event in events if event.tokens] == [event.tokens for event in plain]
    final = [token for event in events for token in event.tokens]
    drafts = [event.draft for event in events if event.draft is not None]
    assert any(None in draft.tokens for draft in drafts)
    for draft in drafts:
        behind = final[draft.position :][: len(draft.tokens)]
        assert all(token in (None, last) for token, last in zip(draft.tokens, behind, strict=True))
    with pytest.raises(UnsupportedError, match="no drafts"):
        engines(loaded).submit(replace(request, drafts=True, decoding="autoregressive"))


def test_a_denoiser_is_chosen_where_it_can_be(engines: Any, tmp_path: Path) -> None:
    loaded = opened("sdar", tmp_path, entries=1024)
    sampling = SamplingParams(temperature=0.0, max_tokens=16, ignore_eos=True)
    request = Request("one", tuple(range(40, 60)), sampling)

    def steps(line: str | None, default: str = "") -> int:
        engine = engines(loaded, prefix_cache=False, denoiser=default)
        write_all(engine, [replace(request, denoiser=line)])
        return int(engine.figures().steps)

    at_once = "confidence_threshold:least=4"
    assert steps(at_once) == steps(None, at_once) < steps("low_confidence")
    assert steps("low_confidence", at_once) == steps("low_confidence")
    for options in ({"denoiser": "best"}, {"denoiser": "factor:factor=x"}):
        with pytest.raises(InputError):
            load(tmp_path, LoadOptions(**options))
    with pytest.raises(UnsupportedError, match="a denoiser is given"):
        load(TINY, LoadOptions(denoiser="factor"))
    told = inspect_model(tmp_path)["diffusion"]
    assert (told["rows_see"], told["block"], told["mask_token"]) == ("block", 4, MASK)
    assert (told["denoiser"], told["numbers"]["threshold"]) == ("confidence_threshold", 0.85)
    assert inspect_model(TINY)["diffusion"] is None


def test_evicting_is_refused(engines: Any, tmp_path: Path) -> None:
    loaded = opened("sdar", tmp_path)
    evicting = EvictionChoice("window", 40)
    with pytest.raises(UnsupportedError, match="are not evicted"):
        engines(loaded, eviction=evicting)
    with pytest.raises(UnsupportedError, match="are not evicted"):
        engines(loaded).submit(Request("one", (1,), eviction=evicting))


def test_a_choice_of_decoding_must_fit_the_model(engines: Any, tmp_path: Path) -> None:
    plain = load(TINY, LoadOptions(activations="float"))
    with pytest.raises(UnsupportedError, match="is not a diffusion model"):
        decoder_for(plain, 0, Request("one", (1,)))
    with pytest.raises(UnsupportedError, match="is not a diffusion model"):
        engines(plain).submit(Request("one", (1,), decoding="diffusion"))
    whole = opened("llada", tmp_path)
    with pytest.raises(UnsupportedError, match="cannot be written token by token"):
        engines(whole).submit(Request("one", (1,), decoding="speculative"))
    with pytest.raises(UnsupportedError, match="cannot be written token by token"):
        load(tmp_path, LoadOptions(decoding="autoregressive"))
