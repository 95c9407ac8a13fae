"""Edits of a span: the tokens of plain numpy that rewrites the same text over whole sequences, alone and
beside others; what is not rewritten stays as it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from diffusion_models import PlainModel, make_diffusion_model
from plain_diffusion import Fill, above, dream_schedule, one_by_one
from plain_edits import Sight, Span, put_right, rewritten

from fivefold.core.errors import FivefoldError
from fivefold.core.request import Request, SamplingParams
from fivefold.engine import Engine, EngineOptions, LoadedModel, LoadOptions, load

GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)
RANDOM = np.random.default_rng(8)
PROMPT, STANDING, BEHIND = (RANDOM.integers(0, 256, count).tolist() for count in (21, 43, 9))
SIGHTS = {
    "llada": Sight(32, True), "dream": Sight(4096, True, True), "sdar": Sight(4, False),
    "llada2": Sight(32, False),
}  # fmt: skip
FILLS: dict[str, Callable[[], Fill]] = {
    "low_confidence": lambda: one_by_one,
    "confidence_threshold:threshold=0.5": lambda: above(0.5),
    "dream:steps=20": lambda: dream_schedule(20),
}
Opened = Callable[..., tuple[Engine, PlainModel]]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """An engine of a family, and its plain twin."""
    found: dict[Any, tuple[LoadedModel, PlainModel]] = {}
    made: list[Engine] = []

    def give(name: str, reference: bool = True, **options: Any) -> tuple[Engine, PlainModel]:
        if (name, reference) not in found:
            folder = tmp_path_factory.mktemp("edits") / name
            plain = make_diffusion_model(name, folder)
            told = LoadOptions(reference=reference, activations="float", threads=1, entries=2048)
            found[name, reference] = load(folder, told), plain
        made.append(Engine(found[name, reference][0], EngineOptions(**options)))
        return made[-1], found[name, reference][1]

    yield give
    for engine in made:
        engine.close()


def asked(name: str, standing: list[int] = STANDING, more: int = 0, **fields: Any) -> tuple[Request, Span]:
    """An edit of a span, with a text behind it where rows see that."""
    suffix = tuple(BEHIND) if SIGHTS[name].everything else ()
    sampling = replace(GREEDY, max_tokens=len(standing) + more if more else None)
    request = Request("one", tuple(PROMPT), sampling, suffix=suffix, edited=tuple(standing), **fields)
    return request, Span(PROMPT, standing, len(standing) + more, suffix)


def written(engine: Engine, request: Request) -> list[int]:
    return [token for event in engine.stream(request) for token in event.tokens]


@pytest.mark.parametrize("line", FILLS)
@pytest.mark.parametrize(
    ("name", "more"), [("llada", 0), ("llada", 7), ("dream", 0), ("sdar", 0), ("llada2", 0)]
)
def test_a_share_is_rewritten_as_in_plain_numpy(name: str, more: int, line: str, opened: Opened) -> None:
    engine, plain = opened(name)
    request, span = asked(name, more=more, denoiser=line, rewritten=0.3)
    found = written(engine, request)
    assert found == rewritten(plain, span, SIGHTS[name], 0.3, FILLS[line])
    same = [one == other for one, other in zip(found, STANDING, strict=False)]
    assert len(STANDING) * 0.5 < sum(same) < len(STANDING), "some of it stays, some does not"


@pytest.mark.parametrize(
    ("name", "more"), [("llada2", 0), ("llada", 0), ("llada", 7), ("dream", 0), ("sdar", 0)]
)
def test_tokens_that_stand_are_put_right(name: str, more: int, opened: Opened) -> None:
    """LLaDA2.1's token-to-token editing, on a text that somebody else wrote."""
    engine, plain = opened(name)
    request, span = asked(name, more=more, denoiser="editing:threshold=0.5,editing_threshold=0.3")
    found = written(engine, request)
    assert found == put_right(plain, span, SIGHTS[name], 0.5, 0.3)
    assert found[: len(STANDING)] != STANDING
    strict, _ = asked(name, denoiser="editing:editing_threshold=1")
    assert written(engine, strict) == STANDING, "nothing is surer than that"


@pytest.mark.parametrize("name", ["llada", "dream"])
def test_all_of_a_span_rewritten_is_a_gap_that_is_filled(name: str, opened: Opened) -> None:
    """Where the span is one block: of further ones the text still stands while the first is filled."""
    engine, _ = opened(name)
    request, _ = asked(name, STANDING[:30], denoiser="low_confidence", rewritten=1.0)
    gap = replace(request, edited=(), rewritten=0.0, sampling=replace(GREEDY, max_tokens=30))
    assert written(engine, request) == written(engine, gap)


@pytest.mark.parametrize("name", ["llada", "sdar"])
def test_log_probabilities_and_draws(name: str, opened: Opened) -> None:
    """What stays has its probability too; a seed gives the same answer again, and the denoiser of noise
    begins with the text."""
    engine, _ = opened(name)
    sampling = replace(GREEDY, temperature=0.9, seed=3, logprobs=2)
    for fields in ({"denoiser": "low_confidence", "rewritten": 0.5}, {"denoiser": "editing"}):
        request = replace(asked(name, **fields)[0], sampling=sampling)
        events = list(engine.stream(request))
        noted = [one.token for event in events for one in event.logprobs]
        assert noted == [token for event in events for token in event.tokens] == written(engine, request)
        assert events[-1].timings is not None
        suffix = len(request.suffix)
        assert events[-1].timings.prompt_tokens == len(PROMPT) + len(STANDING) + suffix
    noise, _ = asked(name, denoiser="uniform_renoise:steps=2")
    assert written(engine, noise) != written(engine, replace(noise, edited=tuple(reversed(STANDING))))


@pytest.mark.parametrize("name", ["llada", "llada2", "sdar"])
def test_beside_others_it_writes_what_it_writes_alone(name: str, opened: Opened) -> None:
    """The others are edits too, and plain answers; where a cache is on, edits are still exact."""
    options = {"caching": "dual"} if name == "llada" else {}
    engine, _ = opened(name, reference=False, **options)
    requests = [
        replace(
            asked(name, RANDOM.integers(0, 256, 10 + 5 * number).tolist(), rewritten=0.4 * (number % 2),
                  denoiser=("editing:editing_threshold=0.3", "low_confidence")[number % 2])[0],
            identity=str(number),
        ) for number in range(6)
    ]  # fmt: skip
    plain = replace(GREEDY, max_tokens=20)
    requests += [Request(f"plain-{number}", tuple(PROMPT[number:]), plain) for number in range(4)]
    alone = {one.identity: written(engine, one) for one in requests}
    for one in requests:
        engine.submit(one)
    found: dict[str, list[int]] = {one.identity: [] for one in requests}
    while engine.busy:
        for event in engine.step():
            found[event.identity] += event.tokens
        engine.check_integrity()
    assert found == alone


def test_what_cannot_be_edited_is_refused_by_name(opened: Opened) -> None:
    for name, fields, where, said in (
        ("wedlm", {"rewritten": 0.5}, "edited", "does not see the text"),
        ("fast-dllm", {"rewritten": 0.5}, "edited", "does not see the text"),
        ("sdar", {"rewritten": 0.5, "decoding": "autoregressive"}, "edited", "cannot rewrite"),
        ("sdar", {"rewritten": 0.5, "edited": (), "decoding": "speculative"}, "rewritten", "cannot rewrite"),
        ("llada", {"rewritten": 0.5, "caching": "dual"}, "caching", "whole passes only"),
        ("llada", {}, "rewritten", "leaves tokens as they stand"),
        ("llada", {"rewritten": 1.5}, "rewritten", "give a share from 0 to 1"),
        ("llada", {"rewritten": 0.5, "denoiser": "uniform_renoise"}, "rewritten", "chooses by itself"),
        ("llada", {"rewritten": 0.5, "edited": ()}, "rewritten", "no text to rewrite"),
        ("llada", {"rewritten": 0.5, "edited": (999,)}, "edited", "not in the vocabulary"),
        ("llada", {"rewritten": 0.5, "edited": (5,) * 240}, "edited", "there is room for 235"),
        (
            "llada", {"rewritten": 0.5, "sampling": replace(GREEDY, max_tokens=4)}, "max_tokens",
            "the answer may have 4",
        ),
    ):  # fmt: skip
        engine, _ = opened(name)
        request: dict[str, Any] = {"sampling": GREEDY, "edited": tuple(STANDING), **fields}
        with pytest.raises(FivefoldError, match=said) as caught:
            engine.submit(Request("one", tuple(PROMPT), **request))
        assert caught.value.where == where
