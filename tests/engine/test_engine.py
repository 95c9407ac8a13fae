"""One request: a kept prefix changes nothing, errors leave the engine usable, ends come where they should."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.core.errors import FivefoldError, InputError
from fivefold.core.layout import PAGE_SIZE
from fivefold.core.request import Request, SamplingParams, TokenEvent
from fivefold.engine import Engine, EngineOptions, LoadedModel, LoadOptions, load, score, windows
from fivefold.executor import processor

TINY = Path(__file__).parent / "data" / "tiny.gguf"
PROMPT = tuple(int(token) for token in np.random.default_rng(2).integers(2, 258, 40))
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(TINY, LoadOptions(activations="float"))


@pytest.fixture(scope="module")
def reference() -> LoadedModel:
    return load(TINY, LoadOptions(reference=True))


@pytest.fixture
def engine(loaded: LoadedModel) -> Iterator[Engine]:
    engine = Engine(loaded)
    yield engine
    engine.close()


def fresh(
    loaded: LoadedModel, prompt: tuple[int, ...], sampling: SamplingParams = GREEDY
) -> list[TokenEvent]:
    """The answer of an engine that finds nothing in the cache."""
    engine = Engine(loaded, EngineOptions(prefix_cache=False, decoding="autoregressive"))
    events = answer(engine, prompt, sampling)
    assert cached(events) == 0
    return events


def cached(events: list[TokenEvent]) -> int:
    """Tokens of the prompt that were found in the cache."""
    timings = events[-1].timings
    assert timings is not None
    return timings.cached_tokens


def told(events: list[TokenEvent]) -> list[TokenEvent]:
    """The same events without the times they took."""
    return [replace(event, timings=None) for event in events]


def answer(engine: Engine, prompt: tuple[int, ...], sampling: SamplingParams = GREEDY) -> list[TokenEvent]:
    return list(engine.stream(Request("test", prompt, sampling)))


def tokens(events: list[TokenEvent]) -> list[int]:
    return [token for event in events for token in event.tokens]


def test_a_kept_prefix_gives_the_tokens_of_a_fresh_engine(engine: Engine, loaded: LoadedModel) -> None:
    first = tokens(answer(engine, PROMPT))
    longer = (*PROMPT, *first[:5], 30, 31)
    again = answer(engine, longer)
    assert cached(again) == PAGE_SIZE, "whole pages are kept"
    assert tokens(fresh(loaded, longer)) == tokens(again)
    assert tokens(fresh(loaded, (*PROMPT, *first))) == tokens(answer(engine, (*PROMPT, *first)))


def test_the_same_prompt_and_a_shorter_one_are_read_from_the_cache(
    engine: Engine, loaded: LoadedModel
) -> None:
    first = answer(engine, PROMPT)
    again = answer(engine, PROMPT)
    assert tokens(again) == tokens(first)
    assert cached(again) == PAGE_SIZE
    page = answer(engine, PROMPT[:PAGE_SIZE])
    assert cached(page) == PAGE_SIZE - 1, "one row must run, to give logits"
    assert tokens(page) == tokens(fresh(loaded, PROMPT[:PAGE_SIZE]))
    part = answer(engine, PROMPT[:20])
    assert cached(part) == 19, "a part of a page is used too"
    assert tokens(part) == tokens(fresh(loaded, PROMPT[:20]))


@pytest.mark.parametrize("rows", [1, 7, 16])
def test_the_size_of_steps_changes_nothing(rows: int) -> None:
    small = load(TINY, LoadOptions(max_rows=rows))
    assert tokens(fresh(small, PROMPT)) == tokens(fresh(load(TINY), PROMPT))


def test_it_stops_after_max_tokens_and_at_the_context(engine: Engine, loaded: LoadedModel) -> None:
    events = fresh(loaded, PROMPT)
    assert len(tokens(events)) == 12
    assert [event.finish_reason for event in events] == [None] * 11 + ["length"]
    endless = SamplingParams(temperature=0.0, ignore_eos=True)
    events = answer(engine, PROMPT, endless)
    assert len(tokens(events)) == loaded.context - len(PROMPT)
    assert events[-1].finish_reason == "length"
    assert tokens(answer(engine, PROMPT, endless)) == tokens(events), "a full cache can be used again"


@pytest.mark.parametrize(
    "prompt", [(), (2,) * 96, (2,) * 500, (265,), (-1,)], ids=["empty", "full", "long", "above", "below"]
)
def test_a_bad_prompt_is_refused_and_leaves_the_engine_usable(
    engine: Engine, prompt: tuple[int, ...]
) -> None:
    before = tokens(answer(engine, PROMPT))
    with pytest.raises(InputError):
        answer(engine, prompt)
    assert tokens(answer(engine, PROMPT)) == before


@pytest.mark.parametrize("broken", ["run", "commit"])
@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_step_that_fails_leaves_the_engine_usable(
    engine: Engine, loaded: LoadedModel, broken: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tokens(fresh(loaded, PROMPT))
    whole, calls = getattr(loaded.runner, broken), iter(range(100))

    def failing(*given: Any, **options: Any) -> Any:
        if next(calls) == after:
            raise FivefoldError("broken off")
        return whole(*given, **options)

    monkeypatch.setattr(loaded.runner, broken, failing)
    with pytest.raises(FivefoldError, match="broken off"):
        answer(engine, PROMPT)
    monkeypatch.undo()
    assert tokens(answer(engine, PROMPT)) == expected
    assert tokens(answer(engine, (*PROMPT[:9], 50))) == tokens(fresh(loaded, (*PROMPT[:9], 50)))


def test_an_answer_that_is_left_is_no_harm(engine: Engine, loaded: LoadedModel) -> None:
    events = engine.stream(Request("left", PROMPT, GREEDY))
    begun = [next(events), next(events)]
    other = (*PROMPT[:10], 77)
    assert tokens(answer(engine, other)) == tokens(fresh(loaded, other))
    assert tokens(begun + list(events)) == tokens(fresh(loaded, PROMPT)), "both go on side by side"
    left = engine.stream(Request("left", PROMPT, GREEDY))
    next(left)
    left.close()
    assert not engine.busy
    assert tokens(answer(engine, PROMPT)) == tokens(fresh(loaded, PROMPT))


SAMPLINGS = {
    "greedy": {"temperature": 0.0},
    "plain": {},
    "top_k": {"top_k": 5, "temperature": 1.5},
    "top_p": {"top_p": 0.7},
    "min_p": {"min_p": 0.1, "temperature": 2.0},
    "penalties": {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.5},
    "bias": {"temperature": 0.0, "logit_bias": {100: 4.0, 101: -100.0}},
}


@pytest.mark.parametrize("name", SAMPLINGS)
def test_sampling_is_that_of_the_reference_runner_and_repeats_with_its_seed(
    name: str, loaded: LoadedModel, reference: LoadedModel
) -> None:
    sampling = SamplingParams(max_tokens=12, ignore_eos=True, seed=4, logprobs=3, **SAMPLINGS[name])
    ours, again, theirs = (fresh(model, PROMPT, sampling) for model in (loaded, loaded, reference))
    assert told(ours) == told(again)
    assert tokens(ours) == tokens(theirs)
    for event, other in zip(ours, theirs, strict=True):
        (mine,), (its,) = event.logprobs, other.logprobs
        assert mine.logprob == pytest.approx(its.logprob, abs=5e-3)
        assert [value for _, value in mine.top] == pytest.approx([value for _, value in its.top], abs=5e-3)
        assert len(mine.top) == 3


def test_seeds_differ(loaded: LoadedModel) -> None:
    texts = {
        tuple(tokens(fresh(loaded, PROMPT, SamplingParams(max_tokens=12, seed=seed)))) for seed in range(6)
    }
    assert len(texts) == 6


def test_a_bias_can_force_and_forbid(loaded: LoadedModel) -> None:
    free = tokens(fresh(loaded, PROMPT))
    forced = SamplingParams(temperature=0.0, max_tokens=4, logit_bias={99: 100.0})
    assert tokens(fresh(loaded, PROMPT, forced)) == [99] * 4
    without = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, logit_bias={free[0]: -100.0})
    assert free[0] not in tokens(fresh(loaded, PROMPT, without))


def test_a_stop_string_cuts_the_text_and_ends_the_request(loaded: LoadedModel) -> None:
    events = fresh(loaded, PROMPT)
    text = "".join(event.text for event in events)
    stop = text[4:6]
    sampling = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, stop=(stop,))
    ended = fresh(loaded, PROMPT, sampling)
    assert "".join(event.text for event in ended) == text[: text.index(stop)]
    assert (ended[-1].finish_reason, ended[-1].stop_reason) == ("stop", stop)
    assert len(tokens(ended)) < 12


def test_an_end_token_ends_the_request_and_has_no_text(loaded: LoadedModel) -> None:
    end = loaded.vocabulary.end_tokens[0]
    sampling = SamplingParams(temperature=0.0, max_tokens=12, logit_bias={end: 100.0})
    (event,) = fresh(loaded, PROMPT, sampling)
    assert (event.tokens, event.text, event.finish_reason, event.stop_reason) == ((end,), "", "stop", None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (LoadOptions(context=97), "give 1 to 96"),
        (LoadOptions(threads=1025), "give 1 to 1024"),
        (LoadOptions(isa="none"), "--isa"),
    ],
    ids=["context", "threads", "isa"],
)
def test_bad_options_are_refused(options: LoadOptions, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(TINY, options)


def test_instruction_sets_and_threads_give_the_same_logits(loaded: LoadedModel) -> None:
    expected = score(loaded.runner, PROMPT)
    for isa in processor().instruction_sets:
        for threads in (1, 2):
            other = load(TINY, LoadOptions(isa=isa, threads=threads, activations="float"))
            assert np.array_equal(score(other.runner, PROMPT), expected)


def test_windows_cover_a_text_once() -> None:
    assert list(windows(range(7), 3)) == [(0, 1, 2), (3, 4, 5)]
    assert list(windows(range(8), 3)) == [(0, 1, 2), (3, 4, 5), (6, 7)]
    assert list(windows([1], 3)) == []


def test_one_text_in_place_of_a_list_is_refused(engine: Engine) -> None:
    """It is a sequence too: of its letters."""
    with pytest.raises(InputError, match="not a list of prompts"):
        engine.generate("hello", GREEDY)
