"""DiffusionGemma in the engine: canvases beside requests that the same model writes token by token.

What each writes alone it writes beside others and after a preemption; pages come back; both ways of reading
a text have the same entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from all_at_once import write_all
from canvas_models import CALM, CANVAS, make_canvas_model
from diffusion_models import VOCABULARY
from guessed import Clock

from fivefold.core.batch import Step
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.request import Request, SamplingParams, TokenEvent
from fivefold.engine import Engine, EngineOptions, LoadedModel, LoadOptions, inspect_model, load
from fivefold.engine.need import need_of
from fivefold.files import open_checkpoint
from fivefold.quantize.loading import loaded_format

LINE = "uniform_renoise:steps=4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("canvas")
    make_canvas_model(made, CALM)
    return made


def opened(folder: Path, **options: Any) -> LoadedModel:
    return load(folder, LoadOptions(activations="float", threads=1, **options))


@pytest.fixture
def engines() -> Iterator[Any]:
    made: list[Engine] = []

    def give(loaded: LoadedModel, **options: Any) -> Engine:
        made.append(Engine(loaded, EngineOptions(denoiser=LINE, **options), Clock()))
        return made[-1]

    yield give
    for engine in made:
        engine.close()


def requests(count: int, tokens: int = 20) -> list[Request]:
    """Prompts with beginnings in common; every third is written token by token."""
    random, found = np.random.default_rng(5), list[Request]()
    shared = random.integers(0, VOCABULARY, 70).tolist()
    for number in range(count):
        own = random.integers(0, VOCABULARY, random.integers(2, 40)).tolist()
        sampling = SamplingParams(temperature=0.7, seed=number, max_tokens=tokens + number, ignore_eos=True)
        request = Request(f"one-{number}", (*shared[: 35 * (number % 3)], *own), sampling)
        found.append(replace(request, decoding="autoregressive") if number % 3 == 1 else request)
    return found


def test_many_at_once_write_what_each_writes_alone(folder: Path, engines: Any) -> None:
    loaded = opened(folder, entries=2048)
    asked = requests(7)
    alone: dict[str, list[int]] = {}
    for request in asked:
        alone |= write_all(engines(loaded, prefix_cache=False), [request])
    together = write_all(engines(loaded), asked)
    assert together == alone
    assert [len(together[one.identity]) for one in asked] == [one.sampling.max_tokens for one in asked]
    assert write_all(engines(loaded), asked) == alone, "once more, with what the cache has kept"


def test_few_pages_preempt_and_change_nothing(folder: Path, engines: Any) -> None:
    asked = requests(5, tokens=50)
    expected = write_all(engines(opened(folder, entries=2048)), asked)
    engine = engines(opened(folder, entries=256, context=192, max_rows=64))
    assert write_all(engine, asked) == expected
    assert engine.figures().preemptions > 0


def test_a_text_read_token_by_token_is_a_beginning_for_canvases(folder: Path, engines: Any) -> None:
    """And the other way round: the entries are the same."""
    loaded = opened(folder, entries=1024)
    sampling = SamplingParams(temperature=0.7, seed=1, max_tokens=2 * CANVAS + 8, ignore_eos=True)
    canvases = Request("one", tuple(range(70)), sampling)
    plain = replace(canvases, decoding="autoregressive")
    for first, second in ((canvases, plain), (plain, canvases)):
        fresh = write_all(engines(loaded, prefix_cache=False), [second])["one"]
        engine = engines(loaded)
        write_all(engine, [first])
        events = list(engine.stream(second))
        assert [token for event in events for token in event.tokens] == fresh
        assert events[-1].timings is not None and events[-1].timings.cached_tokens >= 64


def test_cancelling_in_the_middle_of_canvases_loses_no_page(folder: Path, engines: Any) -> None:
    loaded = opened(folder, entries=1024)
    engine, random = engines(loaded, prefix_cache=False), np.random.default_rng(9)
    before = loaded.runner.figures()
    waiting, ended = requests(9), dict[str, TokenEvent]()
    running: set[str] = set()
    while waiting or engine.busy:
        while waiting and random.random() < 0.5:
            running.add(waiting[-1].identity)
            engine.submit(waiting.pop())
        for event in engine.step():
            if event.finish_reason is not None:
                ended[event.identity] = event
        engine.check_integrity()
        under_way = sorted(running - set(ended))
        if under_way and random.random() < 0.25:
            engine.cancel(str(random.choice(under_way)))
    assert {event.finish_reason for event in ended.values()} == {"cancelled", "length"}
    after = loaded.runner.figures()
    assert (after.free, after.used) == (before.free, 0)


def test_drafts_show_the_likeliest_and_change_nothing(folder: Path, engines: Any) -> None:
    loaded = opened(folder, entries=1024)
    sampling = SamplingParams(seed=3, max_tokens=CANVAS + 5, ignore_eos=True)
    request = Request("one", tuple(range(40, 61)), sampling)
    plain = [event.tokens for event in engines(loaded).stream(request) if event.tokens]
    events = list(engines(loaded).stream(replace(request, drafts=True)))
    assert [event.tokens for event in events if event.tokens] == plain
    final = [token for event in events for token in event.tokens]
    drafts = [event.draft for event in events if event.draft is not None]
    assert {draft.position for draft in drafts} == {0, CANVAS}
    assert any(len(draft.tokens) == 5 for draft in drafts), "no longer than the answer can be"
    assert all(None not in draft.tokens for draft in drafts)
    assert any(draft.tokens != tuple(final[draft.position :][: len(draft.tokens)]) for draft in drafts)


def test_an_edit_begins_the_canvas_with_the_text(
    folder: Path, engines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, seen = opened(folder, entries=1024), list[list[int]]()
    run = loaded.runner.run

    def noted(step: Step, **options: Any) -> Any:
        seen.extend(span.tokens.tolist() for span in step.spans)
        return run(step, **options)

    monkeypatch.setattr(loaded.runner, "run", noted)
    sampling = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
    texts = [tuple(range(60, 72)), tuple(range(90, 78, -1))]
    written = []
    for text in (texts[0], *texts):
        seen.clear()
        written.append(write_all(engines(loaded), [Request("one", (1, 2, 3), sampling, edited=text)])["one"])
        shown = ",".join(map(str, text))
        assert any(shown in ",".join(map(str, rows)) for rows in seen), "no step began with the text"
    assert written[0] == written[1] != written[2], "greedy is the same each time; another text is not"


def test_what_there_is_no_room_for_is_refused(folder: Path, engines: Any) -> None:
    loaded = opened(folder, entries=512, context=100)
    sampling = SamplingParams(seed=1, ignore_eos=True)
    with pytest.raises(InputError, match="the prompt has 85 tokens, a canvas 16, the context 100"):
        engines(loaded).submit(Request("one", (1,) * 85, sampling))
    assert len(write_all(engines(loaded), [Request("one", (1,) * 60, sampling)])["one"]) == 2 * CANVAS
    with pytest.raises(UnsupportedError, match="fills masks, and the model has no mask token"):
        engines(loaded).submit(Request("one", (1,), sampling, denoiser="low_confidence"))
    with pytest.raises(UnsupportedError, match="do not see text behind their block"):
        engines(loaded).submit(Request("one", (1,), sampling, suffix=(2,)))
    few = engines(opened(folder, entries=512, max_rows=CANVAS - 1))
    with pytest.raises(InputError, match="runs 16 rows of this request at once, and steps have 15"):
        few.submit(Request("one", (1,), sampling))


def test_it_is_inspected_and_loaded_in_another_format(engines: Any, tmp_path: Path) -> None:
    """The table of embeddings is in memory twice, turned as float32, and is counted so."""
    make_canvas_model(tmp_path, hidden_size=64, intermediate_size=96, moe_intermediate_size=32)
    options = LoadOptions(activations="float", threads=1, entries=256, conversion=loaded_format("q8_0", ""))
    loaded = load(tmp_path, options)
    asked = requests(1)
    assert len(write_all(engines(loaded), asked)[asked[0].identity]) == asked[0].sampling.max_tokens
    told = inspect_model(tmp_path, options)
    assert told["family"] == "diffusion_gemma"
    assert (told["diffusion"]["rows_see"], told["diffusion"]["block"]) == ("canvas", CANVAS)
    assert "vision_tower" in told["left"]
    read = [name for name in loaded.model.main.tensors if "vision" not in name]
    stored = sum(options.conversion.of(open_checkpoint(tmp_path)).tensors[name].stored_bytes for name in read)
    assert need_of(tmp_path, options).weights == stored + 4 * VOCABULARY * 64
