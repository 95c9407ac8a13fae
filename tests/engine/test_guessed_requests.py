"""Many requests whose tokens are guessed: each gets what it gets alone and without guesses."""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from guessed import Clock, truth_teller

from fivefold.core.decoder import Decoder, Likely
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.request import EvictionChoice, Request, SamplingParams, TokenEvent
from fivefold.decode import AutoregressiveDecoder, SpeculativeDecoder
from fivefold.decode.guesses import SOURCES
from fivefold.engine import DECODINGS, Engine, EngineOptions, LoadedModel, LoadOptions, decoding_named, load
from fivefold.engine import decodings as decodings_module

TINY = Path(__file__).parent / "data" / "tiny.gguf"
PLAIN = EngineOptions(prefix_cache=False, decoding="autoregressive")
Answers = dict[str, Any]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(TINY, LoadOptions(entries=2000))


def mixed(count: int, seed: int, most: int = 60) -> list[Request]:
    """Requests of many kinds; some begin alike, and some repeat themselves."""
    dice = random.Random(seed)
    begin = [dice.randrange(2, 258) for _ in range(40)]
    requests = []
    for number in range(count):
        own = [dice.randrange(2, 258) for _ in range(dice.randrange(1, 16))]
        prompt = (*begin[: dice.choice([0, 0, 10, 32])], *own)
        sampling = SamplingParams(
            max_tokens=dice.randrange(1, min(most, 95 - len(prompt))),
            temperature=dice.choice([0.0, 0.0, 0.5, 1.1]),
            top_p=dice.choice([1.0, 0.9]),
            repetition_penalty=dice.choice([1.0, 1.2]),
            frequency_penalty=dice.choice([0.0, 0.3]),
            min_tokens=dice.choice([0, 1]),
            seed=number,
            logprobs=dice.choice([None, 2]),
            ignore_eos=dice.random() < 0.7,
            stop=dice.choice([(), (), ("a", "e", "th")]),
        )
        requests.append(Request(f"r{number}", prompt, sampling, salt=dice.choice(["", "", "other"])))
    return requests


def run_all(engine: Engine, requests: Sequence[Request], disturb: float = 0.0) -> Answers:
    """All that each is told: tokens, text, log probabilities, its end. Integrity holds after each step."""
    dice = random.Random(1)
    found: dict[str, list[TokenEvent]] = defaultdict(list)
    for request in requests:
        engine.submit(request)
    while engine.busy:
        for event in engine.step():
            assert event.error is None, event.error
            found[event.identity].append(event)
        running = [task for task in engine._admission.running if task.preemptions < 3]
        if running and dice.random() < disturb:
            engine._admission.preempt(dice.choice(running))
            engine._admission._full = False
        engine.check_integrity()
    assert engine.figures().cache.used == 0
    for events in found.values():
        timings = events[-1].timings
        assert timings is not None
        assert timings.output_tokens == sum(len(event.tokens) for event in events)
        assert timings.rounds == sum(bool(event.tokens) for event in events)
        assert 0 <= timings.accepted_tokens <= timings.guessed_tokens
    return {
        name: (
            [token for event in events for token in event.tokens],
            "".join(event.text for event in events),
            [entry for event in events for entry in event.logprobs],
            events[-1].finish_reason,
            events[-1].stop_reason,
        )
        for name, events in found.items()
    }


def plainly(loaded: LoadedModel, requests: Sequence[Request]) -> Answers:
    engine = Engine(loaded, PLAIN)
    found: Answers = {}
    for request in requests:
        found |= run_all(engine, [request])
    assert engine.figures().guessed_tokens == 0
    return found


Guessed = Callable[[Sequence[Request], Answers, float], None]


@pytest.fixture
def guessed(monkeypatch: pytest.MonkeyPatch) -> Guessed:
    """Has the truth told, with the probability that each token of it is right."""

    def tell(requests: Sequence[Request], answers: Answers, share: float) -> None:
        texts = {one.identity: [*one.prompt, *answers[one.identity][0]] for one in requests}
        monkeypatch.setitem(decodings_module._DECODERS, "speculative", truth_teller(texts, share))

    return tell


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
def test_right_and_wrong_guesses_change_nothing(loaded: LoadedModel, guessed: Guessed, share: float) -> None:
    requests = mixed(24, seed=2)
    expected = plainly(loaded, requests)
    guessed(requests, expected, share)
    for disturb in (0.0, 0.3):
        engine = Engine(loaded, EngineOptions(), Clock())
        assert run_all(engine, requests, disturb) == expected
        figures = engine.figures()
        assert figures.guessed_tokens > (50 if share > 0.5 else 3)
        assert (figures.accepted_tokens == 0) == (share == 0.0)
        assert (figures.accepted_tokens == figures.guessed_tokens) == (share == 1.0)
        assert list(figures.guessed_by_place) == sorted(figures.guessed_by_place, reverse=True)
        assert (figures.preemptions > 5) == (disturb > 0)


def test_so_it_is_with_the_sources_that_there_are(loaded: LoadedModel) -> None:
    """Some repeat themselves: what they have written before is made likelier."""
    requests = [
        replace(one, sampling=replace(one.sampling, frequency_penalty=-1.0, stop=()))
        for one in mixed(32, seed=7)
    ]
    engine = Engine(loaded, EngineOptions(), Clock())
    assert run_all(engine, requests) == plainly(loaded, requests)
    assert engine.figures().accepted_tokens > 20
    assert len(engine.row_seconds()) > 3


def test_guesses_are_given_up_before_anybody_loses_pages(guessed: Guessed) -> None:
    """A cache in which the text fits and no row more: without guesses nobody would be preempted."""
    small = load(TINY, LoadOptions(context=96, entries=192))
    sampling = SamplingParams(max_tokens=60, temperature=0.0, ignore_eos=True)
    requests = [Request(f"r{n}", tuple(range(n + 2, n + 32)), sampling) for n in range(2)]
    expected = plainly(small, requests)
    guessed(requests, expected, 1.0)
    engine = Engine(small, EngineOptions(prefix_cache=False), Clock())
    assert run_all(engine, requests) == expected
    figures = engine.figures()
    assert figures.preemptions == 0 and figures.accepted_tokens > 20


def test_preemption_changes_nothing(loaded: LoadedModel, guessed: Guessed) -> None:
    scarce = load(TINY, LoadOptions(entries=256))
    requests = mixed(24, seed=9, most=90)
    expected = plainly(loaded, requests)
    guessed(requests, expected, 0.8)
    engine = Engine(scarce, EngineOptions(stretch=1e9), Clock())
    assert run_all(engine, requests) == expected
    assert engine.figures().preemptions > 0


@pytest.mark.parametrize("policy", ["snapkv", "window", "h2o", "laq", "tova"])
@pytest.mark.parametrize("every", [0, 1, 10])
def test_guesses_beside_eviction(loaded: LoadedModel, guessed: Guessed, policy: str, every: int) -> None:
    sampling = SamplingParams(max_tokens=35, temperature=0.0, ignore_eos=True, logprobs=1)
    requests = [
        Request(f"r{n}", tuple(range(n + 2, n + 52)), replace(sampling, temperature=n % 2 * 0.8, seed=n),
                eviction=EvictionChoice(policy, 20, every))
        for n in range(4)
    ]  # fmt: skip
    expected = plainly(loaded, requests)
    guessed(requests, expected, 0.8)
    for disturb in (0.0, 0.2):
        engine = Engine(loaded, EngineOptions(), Clock())
        assert run_all(engine, requests, disturb) == expected
        watched = every == 1 or (every == 10 and policy not in ("window", "tova"))
        assert (engine.figures().accepted_tokens > 20) != watched, "where all rows observe nobody guesses"
        assert engine.figures().evictions >= 4


def test_a_stop_string_cuts_what_came_with_the_same_step(loaded: LoadedModel, guessed: Guessed) -> None:
    sampling = SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True, logprobs=0)
    free = Request("r", tuple(range(2, 30)), sampling)
    text = plainly(loaded, [free])["r"]
    for place in range(3, len(text[1]) - 2, 3):
        request = replace(free, sampling=replace(sampling, stop=(text[1][place : place + 2],)))
        expected = plainly(loaded, [request])
        guessed([request], {"r": text}, 1.0)
        assert run_all(Engine(loaded, EngineOptions(), Clock()), [request]) == expected
        assert expected["r"][3] == "stop"


class Drafter:
    """A runner with a drafter that knows the truth of some requests; the rest is the runner's own."""

    def __init__(self, runner: Any, texts: Sequence[Sequence[int]], clock: Clock, seconds: float) -> None:
        self._runner, self._texts = runner, texts
        self._clock, self._seconds = clock, seconds
        self.asked: list[list[tuple[int, int, int]]] = []
        self.max_rows = runner.max_rows
        self.drafting = None if seconds < 0 else self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def draft(self, asked: Sequence[tuple[int, int, int]]) -> list[list[Likely]]:
        self.asked.append(list(asked))
        self._clock.now += self._seconds - 1.0
        found = []
        for sequence, anchor, count in asked:
            length = self._runner.cache.length(sequence, "main")
            text = next(text for text in self._texts if text[length] == anchor and count > 0)
            found.append([(token, 0.9) for token in text[length + 1 :][:count]])
        return found


@pytest.mark.parametrize("seconds", [0.01, 1000.0, -1.0], ids=["fast", "slow", "none"])
def test_a_drafter_is_asked_after_each_step_if_it_pays(
    loaded: LoadedModel, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = SamplingParams(max_tokens=50, temperature=0.9, seed=3, ignore_eos=True)
    requests = [Request(f"r{n}", (7, 8, 9 + n), replace(sampling, seed=n)) for n in range(2)]
    expected = plainly(loaded, requests)
    for request in requests:

        def make(
            sequence: int, one: Request, size: int, end: Sequence[int], room: int, **more: object
        ) -> Decoder:
            plain = AutoregressiveDecoder.for_request(sequence, one, size, end, room)
            return SpeculativeDecoder(plain, {"offered": SOURCES["offered"]()})

        monkeypatch.setitem(decodings_module._DECODERS, "speculative", make)
        clock = Clock()
        text = [*request.prompt, *expected[request.identity][0]]
        drafter = Drafter(loaded.runner, [text], clock, seconds)
        engine = Engine(dataclasses.replace(loaded, runner=drafter), EngineOptions(), clock)  # type: ignore[arg-type]
        assert run_all(engine, [request]) == {request.identity: expected[request.identity]}
        figures = engine.figures()
        assert figures.accepted_tokens == figures.guessed_tokens
        if seconds < 0:
            assert not drafter.asked
        elif seconds > 1:
            assert len(drafter.asked) < 4, "it was tried, and did not pay"
        else:
            assert figures.steps < 20 and len(drafter.asked) >= figures.steps - 3
            assert all(count <= 8 for asked in drafter.asked for _, _, count in asked)


def test_decodings_by_name(loaded: LoadedModel) -> None:
    sampling = SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True, frequency_penalty=-1.0)
    asked = Request("x", tuple(range(2, 30)), sampling)
    told = {}
    for name in ("auto", "autoregressive", "speculative"):
        for default in ("auto", "autoregressive"):
            engine = Engine(loaded, EngineOptions(decoding=decoding_named(default)), Clock())
            told[name] = run_all(engine, [replace(asked, decoding=decoding_named(name))])
            assert (engine.figures().guessed_tokens > 0) == (name != "autoregressive")
    assert told["auto"] == told["autoregressive"] == told["speculative"]


def test_what_no_model_here_can_do_is_refused(loaded: LoadedModel) -> None:
    engine = Engine(loaded)
    for refuse in (
        lambda: Engine(loaded, EngineOptions(decoding="diffusion")),
        lambda: engine.submit(Request("x", (5, 6), decoding="diffusion")),
    ):
        with pytest.raises(UnsupportedError) as caught:
            refuse()
        assert "is not a diffusion model" in caught.value.line() and caught.value.where == "decoding"
    with pytest.raises(InputError, match="there is no decoding 'fast'"):
        decoding_named("fast")
    assert set(DECODINGS) == {"auto", "autoregressive", "speculative", "diffusion"}
    assert not engine.busy
    engine.check_integrity()
