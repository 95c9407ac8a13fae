"""Many requests at once: each gets the tokens that it gets alone, whatever runs beside it."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guessed import Clock

from fivefold.core.errors import FivefoldError, InputError, OverloadedError
from fivefold.core.request import Request, SamplingParams, TokenEvent
from fivefold.engine import Engine, EngineOptions, LoadedModel, LoadOptions, load
from fivefold.files import open_checkpoint, write_gguf

TINY = Path(__file__).parent / "data" / "tiny.gguf"
ALONE = EngineOptions(prefix_cache=False)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(TINY, LoadOptions(entries=2000))


@pytest.fixture(scope="module")
def scarce() -> LoadedModel:
    """A cache that holds less than three requests of the longest kind."""
    return load(TINY, LoadOptions(entries=256))


def mixed(count: int, seed: int, most: int = 30, alike: int = 64, limit: int = 96) -> list[Request]:
    """Requests of many kinds with less than `most` tokens of output.

    Some begin with the same tokens, up to `alike` of them, and some have another salt.
    """
    choose = random.Random(seed)
    begin = [choose.randrange(2, 258) for _ in range(70)]
    requests = []
    for number in range(count):
        shared = begin[: min(choose.choice([0, 0, 10, 32, 40, 64]), alike)]
        own = [choose.randrange(2, 258) for _ in range(choose.randrange(1, 20))]
        prompt = (*shared, *own)[: limit - 8]
        sampling = SamplingParams(
            max_tokens=choose.randrange(1, min(most, limit - len(prompt))),
            temperature=choose.choice([0.0, 0.0, 0.8, 1.3]),
            top_p=choose.choice([1.0, 0.9]),
            repetition_penalty=choose.choice([1.0, 1.2]),
            seed=number,
            logprobs=choose.choice([None, 2]),
            ignore_eos=choose.random() < 0.7,
        )
        requests.append(Request(f"r{number}", prompt, sampling, salt=choose.choice(["", "", "other"])))
    return requests


def run_all(engine: Engine, requests: list[Request], together: int = 1000) -> dict[str, list[TokenEvent]]:
    """Events by request; they arrive a few at a time. Integrity holds after each step."""
    found: dict[str, list[TokenEvent]] = defaultdict(list)
    left = list(requests)
    while left or engine.busy:
        for request in left[:together]:
            engine.submit(request)
        del left[:together]
        for event in engine.step():
            found[event.identity].append(event)
        engine.check_integrity()
    return found


def answers(found: dict[str, list[TokenEvent]]) -> dict[str, object]:
    """All that the contract fixes: tokens, text, log probabilities, why each ended."""
    return {
        name: (
            [token for event in events for token in event.tokens],
            "".join(event.text for event in events),
            [entry for event in events for entry in event.logprobs],
            events[-1].finish_reason,
        )
        for name, events in found.items()
    }


def alone(loaded: LoadedModel, requests: list[Request]) -> dict[str, object]:
    engine = Engine(loaded, ALONE)
    return answers({request.identity: list(engine.stream(request)) for request in requests})


@pytest.mark.parametrize("prefix_cache", [True, False], ids=["shared", "apart"])
@pytest.mark.parametrize("together", [1, 5, 32])
def test_many_get_what_each_gets_alone(loaded: LoadedModel, prefix_cache: bool, together: int) -> None:
    requests = mixed(32, seed=together)
    engine = Engine(loaded, EngineOptions(prefix_cache=prefix_cache))
    assert answers(run_all(engine, requests, together)) == alone(loaded, requests)
    assert engine.figures().cache.used == 0


@pytest.mark.parametrize("prefix_cache", [True, False], ids=["shared", "apart"])
def test_preemption_changes_nothing(scarce: LoadedModel, loaded: LoadedModel, prefix_cache: bool) -> None:
    requests = mixed(64, seed=6, most=90, alike=32)
    # Prompts are let in as fast as they come, and every step takes as long as any other.
    engine = Engine(scarce, EngineOptions(prefix_cache=prefix_cache, stretch=1e9), Clock())
    found = run_all(engine, requests)
    assert engine.figures().preemptions > 0, "the cache was meant to be too small"
    assert answers(found) == alone(loaded, requests)
    preempted = [events[-1].timings.preemptions for events in found.values() if events[-1].timings]
    assert sum(preempted) == engine.figures().preemptions
    assert engine.figures().cache.used == 0


def test_requests_that_begin_alike_share_pages(loaded: LoadedModel) -> None:
    prompt = tuple(int(token) for token in np.random.default_rng(5).integers(2, 258, 64))
    engine = Engine(loaded)
    requests = [
        Request(f"twin{n}", (*prompt, 10 + n), SamplingParams(max_tokens=4, temperature=0.0), salt="twins")
        for n in range(6)
    ]
    found = run_all(engine, requests)
    cached = [events[-1].timings.cached_tokens for events in found.values() if events[-1].timings]
    assert sorted(cached) == [0, 64, 64, 64, 64, 64], "the first one reads, the others wait and find it"
    figures = engine.figures()
    assert (figures.prompt_tokens, figures.cached_tokens) == (6 * 65, 5 * 64)


def test_another_salt_finds_nothing(loaded: LoadedModel) -> None:
    prompt = tuple(range(20, 84))
    sampling = SamplingParams(max_tokens=2, temperature=0.0)
    engine = Engine(loaded)
    for salt, expected in (("a", 0), ("b", 0), ("a", 63), ("b", 63)):
        *_, last = engine.stream(Request("salted", prompt, sampling, salt=salt))
        assert last.timings is not None
        assert last.timings.cached_tokens == expected


def test_cancelling_frees_pages_at_once(loaded: LoadedModel) -> None:
    engine = Engine(loaded, ALONE)
    free = engine.figures().cache.free
    endless = SamplingParams(temperature=0.0, ignore_eos=True)
    for number in range(4):
        engine.submit(Request(f"c{number}", tuple(range(2, 42)), endless))
    engine.step()
    assert engine.figures().cache.free < free
    for number in range(4):
        engine.cancel(f"c{number}")
        engine.cancel(f"c{number}")
    engine.cancel("nobody")
    events = engine.step()
    assert [event.finish_reason for event in events] == ["cancelled"] * 4
    assert engine.figures().cache.free == free
    assert not engine.busy


def test_the_queue_is_bounded(loaded: LoadedModel) -> None:
    engine = Engine(loaded, EngineOptions(max_sequences=1, max_queue=2))
    request = [Request(f"q{number}", (5, 6, 7), SamplingParams(max_tokens=3)) for number in range(4)]
    engine.submit(request[0])
    engine.step()
    engine.submit(request[1])
    engine.submit(request[2])
    with pytest.raises(OverloadedError) as overloaded:
        engine.submit(request[3])
    assert overloaded.value.retry_after >= 1.0
    with pytest.raises(InputError, match="under way"):
        engine.submit(request[1])
    assert (engine.figures().running, engine.figures().waiting) == (1, 2)
    while engine.busy:
        engine.step()
    engine.submit(request[3])
    engine.close()
    assert not engine.busy
    engine.check_integrity()


def test_one_bad_request_fails_alone(loaded: LoadedModel) -> None:
    """Logits that cannot be used end one request; the others go on as if it were not there."""
    requests = mixed(6, seed=3)
    forbidden = SamplingParams(max_tokens=4, min_tokens=4, stop_token_ids=tuple(range(265)))
    engine = Engine(loaded)
    with pytest.raises(FivefoldError):
        list(engine.stream(Request("bad", (5, 6), forbidden)))
    engine.submit(Request("bad", (5, 6), forbidden))
    found = run_all(engine, requests)
    bad = found.pop("bad")
    assert bad[-1].finish_reason == "error"
    assert bad[-1].error is not None
    assert answers(found) == alone(loaded, requests)


def test_generate_takes_texts_and_more_prompts_than_wait(loaded: LoadedModel) -> None:
    engine = Engine(loaded, EngineOptions(max_sequences=3, max_queue=2))
    sampling = SamplingParams(temperature=0.0, max_tokens=5, ignore_eos=True)
    prompts = [[5, 6, number] for number in range(2, 12)]
    found = engine.generate(prompts, sampling)
    assert [list(one.prompt) for one in found] == prompts
    again = [engine.generate([prompt], sampling)[0].tokens for prompt in prompts]
    assert [one.tokens for one in found] == again
    assert all(one.finish_reason == "length" and len(one.tokens) == 5 for one in found)
    (text,) = engine.generate(["ab"], [sampling])
    assert text.prompt == tuple(loaded.vocabulary.encode("ab"))
    with pytest.raises(InputError, match="sampling"):
        engine.generate(prompts, [sampling])
    with pytest.raises(InputError):
        engine.generate([[5], [9999]], sampling)
    assert not engine.busy


def test_a_request_that_fits_runs_though_its_shared_page_cannot_be_copied() -> None:
    """Two pages in all, both kept for others; a third text begins as one of them and needs two pages."""
    full = load(TINY, LoadOptions(context=64, entries=64))
    sampling = SamplingParams(temperature=0.0, ignore_eos=True, max_tokens=2)
    engine = Engine(full)
    for first, count in ((2, 40), (100, 31)):
        list(engine.stream(Request("fills", tuple(range(first, first + count)), sampling)))
    assert engine.figures().cache.kept == 64
    begins_alike = (*range(2, 22), *range(200, 230))
    *_, last = engine.stream(Request("alike", begins_alike, sampling))
    assert last.finish_reason == "length"
    engine.check_integrity()


def test_a_text_that_can_never_fit_is_refused(scarce: LoadedModel) -> None:
    small = load(TINY, LoadOptions(entries=64))
    engine = Engine(small)
    with pytest.raises(InputError, match="context"):
        list(engine.stream(Request("long", tuple(range(2, 72)), SamplingParams(max_tokens=2))))
    *_, last = engine.stream(Request("fits", tuple(range(2, 62)), SamplingParams(ignore_eos=True)))
    assert last.finish_reason == "length"


def test_rows_that_fill_the_head_up_are_never_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model may have more rows in its head than the tokenizer has tokens."""
    checkpoint = open_checkpoint(TINY)
    fewer = dict(checkpoint.metadata)
    for key in ("tokens", "token_type", "merges"):
        fewer[f"tokenizer.ggml.{key}"] = fewer[f"tokenizer.ggml.{key}"][:-1]
    path = tmp_path / "padded.gguf"
    write_gguf(path, fewer, checkpoint.tensors.values())
    padded = load(path)
    run = padded.runner.run

    def tempting(*given: Any, **options: Any) -> Any:
        logits = run(*given, **options).copy()
        logits[:, -1] = 1000.0
        return logits

    expected = Engine(padded, ALONE).generate([[5, 6, 7]], SamplingParams(temperature=0.0, max_tokens=5))
    monkeypatch.setattr(padded.runner, "run", tempting)
    found = Engine(padded, ALONE).generate([[5, 6, 7]], SamplingParams(temperature=0.0, max_tokens=5))
    assert found[0].tokens == expected[0].tokens
