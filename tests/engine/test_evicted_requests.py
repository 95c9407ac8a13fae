"""Requests whose entries are evicted: the same tokens alone, among others, and after they were preempted; and
nothing of what was evicted, or of a draft, is left behind."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from guessed import Clock
from tiny_lookahead import write_tiny_with_lookahead

from fivefold.cache.eviction import POLICIES
from fivefold.core.layout import PAGE_SIZE
from fivefold.core.request import EvictionChoice, Request, SamplingParams, TokenEvent
from fivefold.engine import SERVED, Engine, EngineOptions, LoadedModel, LoadOptions, load
from fivefold.engine.evicting import EvictingDecoder

POLICY_NAMES = tuple(name for name in SERVED if name != "none")
FAST = EngineOptions(stretch=1e9)  # however slow the machine is, prompts are let in as fast as they come
APART = EngineOptions(stretch=1e9, prefix_cache=False)
Load = Callable[[str, int], LoadedModel]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """The tiny model with a module, in small steps, by a policy's layout and the entries of its cache."""
    path = write_tiny_with_lookahead(tmp_path_factory.mktemp("evicted"))
    made: dict[tuple[str, int], LoadedModel] = {}

    def get(policy: str, entries: int) -> LoadedModel:
        layout = policy if POLICIES[policy].ragged else "none"
        if (layout, entries) not in made:
            options = LoadOptions(threads=1, max_rows=64, entries=entries, eviction=layout)
            made[layout, entries] = load(path, options)
        return made[layout, entries]

    return get


def choices(policy: str) -> list[EvictionChoice]:
    """Once or again and again, by a number or a share."""
    if POLICIES[policy].ragged:
        return [EvictionChoice(policy, 20), EvictionChoice(policy, 0.4)]
    return [EvictionChoice(policy, 20, every=8), EvictionChoice(policy, 0.4), EvictionChoice(policy, 24)]


def requests(policy: str, count: int, seed: int) -> list[Request]:
    """Two in three are evicted, and their prompts longer than the budgets; the others write more. Some begin
    alike."""
    dice = random.Random(seed)
    begin = [dice.randrange(2, 258) for _ in range(40)]
    found = []
    for number in range(count):
        eviction = [None, *choices(policy)][number % (len(choices(policy)) + 1)]
        shared = begin[: dice.choice([0, 0, 32, 40])] if eviction else begin[: dice.choice([0, 20])]
        own = dice.randrange(30, 68) - len(shared) // 2 if eviction else dice.randrange(2, 12)
        prompt = (*shared, *(dice.randrange(2, 258) for _ in range(own)))
        sampling = SamplingParams(
            max_tokens=dice.randrange(4, 24) if eviction else dice.randrange(40, 60), seed=number,
            temperature=dice.choice([0.0, 0.9]), logprobs=1, ignore_eos=True,
        )  # fmt: skip
        found.append(Request(f"r{number}", prompt[:70], sampling, eviction=eviction))
    return found


def run_all(engine: Engine, asked: Sequence[Request], together: int = 1000) -> dict[str, list[TokenEvent]]:
    """Events by request; they arrive a few at a time. Integrity holds after each step."""
    found: dict[str, list[TokenEvent]] = defaultdict(list)
    left = list(asked)
    while left or engine.busy:
        for request in left[:together]:
            engine.submit(request)
        del left[:together]
        for event in engine.step():
            assert event.error is None, event.error
            found[event.identity].append(event)
        engine.check_integrity()
    return found


def answers(found: dict[str, list[TokenEvent]]) -> dict[str, Any]:
    """Tokens and their logarithms, to the last bit."""
    return {
        name: (
            [token for event in events for token in event.tokens],
            [entry for event in events for entry in event.logprobs],
        )
        for name, events in found.items()
    }


def alone(loaded: LoadedModel, asked: Sequence[Request]) -> dict[str, Any]:
    engine = Engine(loaded, APART)
    return answers({request.identity: list(engine.stream(request)) for request in asked})


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_many_get_what_each_gets_alone(models: Load, policy: str) -> None:
    loaded = models(policy, 2000)
    asked = requests(policy, 9, seed=1)
    expected = alone(loaded, asked)
    for options, together in ((FAST, 1000), (APART, 1)):
        engine = Engine(loaded, options)
        assert answers(run_all(engine, asked, together)) == expected
        assert engine.figures().cache.used == 0
        assert engine.figures().evictions >= 6
    engine = Engine(loaded, FAST)
    plain = [replace(request, eviction=None) for request in asked]
    told = answers(run_all(engine, plain))
    changed = [name for name in expected if told[name] != expected[name]]
    untouched = [request.identity for request in asked if request.eviction is None]
    assert not set(changed) & set(untouched)
    assert len(changed) >= 4, "what is evicted was not missed"


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_who_is_preempted_writes_the_same_text(models: Load, policy: str) -> None:
    """Again and again one of those that run loses its pages, whatever it is about to do."""
    loaded = models(policy, 2000)
    asked = requests(policy, 9, seed=2)
    dice = random.Random(5)
    engine = Engine(loaded, FAST)
    found: dict[str, list[TokenEvent]] = defaultdict(list)
    for request in asked:
        engine.submit(request)
    while engine.busy:
        for event in engine.step():
            assert event.error is None, event.error
            found[event.identity].append(event)
        running = [task for task in engine._admission.running if task.preemptions < 3]
        if running and dice.random() < 0.4:
            engine._admission.preempt(dice.choice(running))
            engine._admission._full = False
        engine.check_integrity()
    assert engine.figures().preemptions > 6
    assert answers(found) == alone(loaded, asked)
    assert engine.figures().cache.used == 0


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("length", [2 * PAGE_SIZE, 2 * PAGE_SIZE - 3])
@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_all_of_a_preempted_prompt_can_be_in_the_cache(
    models: Load, policy: str, length: int, twin: bool
) -> None:
    """Its own pages are whole where the prompt ends with one; a twin's text goes on behind it."""
    loaded = models(policy, 2000)
    sampling = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
    salt = f"{policy} {length} {twin}"
    prompt = tuple(range(5, 5 + length))
    asked = Request("a", prompt, sampling, salt, eviction=EvictionChoice(policy, 20))
    expected = alone(loaded, [asked])
    engine = Engine(loaded, FAST)
    if twin:
        run_all(engine, [Request("twin", prompt, replace(sampling, max_tokens=40), salt)])
    engine.submit(asked)
    found: dict[str, list[TokenEvent]] = defaultdict(list)
    while engine.busy:
        for event in engine.step():
            assert event.error is None, event.error
            found["a"].append(event)
        (task, *_) = (*engine._admission.running, None)
        if task is not None and len(found["a"]) in (2, 5) and task.preemptions < 2 and not task.reading:
            engine._admission.preempt(task)
            engine._admission._full = False
        engine.check_integrity()
    assert engine.figures().preemptions > 0
    assert answers(found) == expected


@pytest.mark.parametrize("policy", ["laq", "kvzip"])
def test_a_cache_that_is_too_small_for_probes_changes_nothing(models: Load, policy: str) -> None:
    asked = requests(policy, 12, seed=4)
    engine = Engine(models(policy, 160), FAST, Clock())
    assert answers(run_all(engine, asked)) == alone(models(policy, 2000), asked)
    assert engine.figures().preemptions > 0, "the cache was meant to be too small"
    assert engine.figures().cache.used == 0


def begun(
    engine: Engine, asked: Request, until: Callable[[EvictingDecoder], bool]
) -> tuple[EvictingDecoder, list[TokenEvent]]:
    """Steps until the decoder of a request has come to that, and what they brought."""
    engine.submit(asked)
    events: list[TokenEvent] = []
    for _ in range(60):
        events += engine.step()
        engine.check_integrity()
        decoder = engine._tasks[asked.identity].decoder
        assert isinstance(decoder, EvictingDecoder)
        if until(decoder):
            return decoder, events
    raise AssertionError("it did not come to that")


@pytest.mark.parametrize("ending", ["cancelled", "preempted", "closed"])
@pytest.mark.parametrize("policy", ["laq", "kvzip"])
def test_a_draft_that_is_given_up_leaves_nothing(models: Load, policy: str, ending: str) -> None:
    loaded = models(policy, 2000)
    engine = Engine(loaded, APART)
    sampling = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
    asked = Request("drafts", tuple(range(5, 75)), sampling, eviction=EvictionChoice(policy, 20))
    expected = alone(loaded, [asked])
    sequences = len(loaded.runner.cache._sequences)  # type: ignore[attr-defined]
    free = engine.figures().cache.free
    decoder, events = begun(engine, asked, lambda one: one._probing is not None)
    more = len(loaded.runner.cache._sequences) - sequences  # type: ignore[attr-defined]
    assert more == (2 if policy == "laq" else 1), "the request's own, and the draft's"
    if ending == "preempted":
        engine._admission.preempt(engine._tasks["drafts"])
        engine._admission._full = False
        assert decoder._probing is None
        assert engine.figures().cache.free == free
        assert answers({"drafts": [*events, *run_all(engine, [])["drafts"]]}) == expected
    elif ending == "cancelled":
        engine.cancel("drafts")
        (event,) = engine.step()
        assert event.finish_reason == "cancelled"
        assert event.timings is not None and event.timings.kept_tokens is None
    else:
        engine.close()
    engine.check_integrity()
    assert engine.figures().cache.free == free
    assert len(loaded.runner.cache._sequences) == sequences  # type: ignore[attr-defined]


def test_pages_come_free_and_what_was_kept_is_told(models: Load) -> None:
    loaded = models("snapkv", 2000)
    engine = Engine(loaded, APART)
    sampling = SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True)
    asked = Request("long", tuple(range(5, 85)), sampling, eviction=EvictionChoice("snapkv", 20))
    begun(engine, asked, lambda one: one.kept is not None)
    figures = engine.figures()
    assert figures.cache.used == PAGE_SIZE, "of three pages one is left"
    assert (figures.evictions, figures.evicted_entries) == (1, 60)
    *_, last = run_all(engine, [])["long"]
    assert last.timings is not None
    assert last.timings.kept_tokens == 20
    assert last.timings.output_tokens == 8


def test_it_is_done_again_behind_every_so_many_tokens(models: Load) -> None:
    engine = Engine(models("snapkv", 2000), APART)
    sampling = SamplingParams(max_tokens=26, temperature=0.0, ignore_eos=True)
    prompt = tuple(range(5, 65))
    for every, times in ((0, 1), (8, 4), (24, 2), (25, 1), (1, 25)):
        before = engine.figures()
        asked = Request("again", prompt, sampling, eviction=EvictionChoice("snapkv", 20, every))
        list(engine.stream(asked))
        after = engine.figures()
        assert after.evictions - before.evictions == times, every
        assert after.evicted_entries - before.evicted_entries == 40 + (times - 1) * every, every


def test_short_prompts_keep_everything(models: Load) -> None:
    """By the engine's default; a request that asks for it is evicted whatever its length."""
    loaded = models("window", 2000)
    engine = Engine(loaded, EngineOptions(eviction=EvictionChoice("window", 20, least=60)))
    sampling = SamplingParams(max_tokens=4, temperature=0.0, ignore_eos=True)

    def kept(length: int, choice: EvictionChoice | None = None) -> int | None:
        *_, last = engine.stream(Request("x", tuple(range(5, 5 + length)), sampling, eviction=choice))
        assert last.timings is not None
        return last.timings.kept_tokens

    assert (kept(59), kept(60), kept(80)) == (None, 20, 20)
    assert (kept(40, EvictionChoice("window", 16)), kept(16, EvictionChoice("window", 16))) == (16, None)
    assert kept(80, EvictionChoice()) is None
    assert kept(50, EvictionChoice("window", 0.5)) == 25


def test_a_long_answer_to_a_short_prompt_is_evicted_from_as_well(models: Load) -> None:
    """At the first of the points behind which there is more than the budget."""
    engine = Engine(models("snapkv", 2000), APART)
    sampling = SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True)
    for length, every, times in ((12, 8, 3), (20, 16, 2), (60, 16, 3), (12, 0, 0)):
        before = engine.figures().evictions
        choice = EvictionChoice("snapkv", 20, every)
        list(engine.stream(Request("short", tuple(range(5, 5 + length)), sampling, eviction=choice)))
        assert engine.figures().evictions - before == times, (length, every)
