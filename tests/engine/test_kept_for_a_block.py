"""Fast-dLLM's prefix cache and dual cache: the tokens of the same approximation in numpy, without pages,
whatever runs beside it and whatever is lost on the way; and no page stays behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from all_at_once import write_all
from diffusion_models import PlainModel, make_diffusion_model
from guessed import Clock
from plain_diffusion import Fill, above, by_whole, by_whole_kept, dream_schedule, one_by_one

from fivefold.core.batch import Commit, Span, Step
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.request import Request, SamplingParams
from fivefold.decode.diffusion import caching_named, denoiser_named
from fivefold.engine import Engine, EngineOptions, LoadedModel, LoadOptions, load
from fivefold.engine.diffusing import decoder_for

Kept = Literal["prefix", "dual"]
COUNT = 70
"""Two whole blocks and a part of one."""
GREEDY = SamplingParams(temperature=0.0, max_tokens=COUNT, ignore_eos=True)
PROMPT = [int(token) for token in np.random.default_rng(4).integers(0, 256, 37)]
FILLS: dict[str, tuple[str, dict[str, float], Callable[[], Fill]]] = {
    "one by one": ("low_confidence", {}, lambda: one_by_one),
    "sure ones": ("confidence_threshold", {"threshold": 0.5}, lambda: above(0.5)),
    "dream": ("dream", {"steps": 20}, lambda: dream_schedule(20)),
}
Opened = Callable[..., tuple[LoadedModel, PlainModel]]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """A family's model, loaded once, and its plain twin."""
    found: dict[Any, tuple[LoadedModel, PlainModel]] = {}

    def give(name: str, reference: bool = True, **options: Any) -> tuple[LoadedModel, PlainModel]:
        key = (name, reference, *options.items())
        if key not in found:
            folder = tmp_path_factory.mktemp("kept") / name
            plain = make_diffusion_model(name, folder)
            all_of = LoadOptions(reference=reference, activations="float", threads=1, **options)
            found[key] = load(folder, all_of), plain
        return found[key]

    return give


@pytest.fixture
def engines() -> Iterator[Callable[..., Engine]]:
    """Makes engines of a loaded model."""
    made: list[Engine] = []

    def give(loaded: LoadedModel, **options: Any) -> Engine:
        made.append(Engine(loaded, EngineOptions(**options), Clock()))
        return made[-1]

    yield give
    for engine in made:
        engine.close()


def written(
    loaded: LoadedModel, request: Request, kept: Kept, fill: str = "sure ones", lost: int = 0
) -> tuple[list[int], list[int]]:
    """Tokens of a request alone, and the rows of each step; every `lost` steps it loses its pages."""
    name, numbers, _ = FILLS[fill]
    runner, tokens, rows = loaded.runner, list[int](), list[int]()
    sequence = runner.open()
    decoder = decoder_for(loaded, sequence, request, denoiser_named(name, numbers), kept)
    while True:
        if lost and len(rows) % lost == lost - 1:
            runner.truncate(sequence, decoder.resume(0))
        span = decoder.propose(512)
        assert span is not None
        decision = decoder.decide(runner.run(Step((span,)))[:, : loaded.vocabulary.size])
        runner.commit([decision.commit])
        runner.check_integrity()
        tokens, rows = [*tokens, *decision.tokens], [*rows, len(span.tokens)]
        assert not decision.tokens or runner.length(sequence, "main") == 0, "a block takes its entries along"
        if decision.done is not None:
            runner.close(sequence)
            return tokens, rows


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("kept", ["prefix", "dual"])
@pytest.mark.parametrize("name", ["llada", "dream"])
def test_tokens_are_those_of_the_plain_approximation(
    name: str, kept: Kept, fill: str, opened: Opened
) -> None:
    loaded, plain = opened(name)
    make = FILLS[fill][2]
    found, rows = written(loaded, Request("one", tuple(PROMPT), GREEDY), kept, fill)
    assert found == by_whole_kept(plain, PROMPT, COUNT, make, (32, name == "dream"), kept == "dual")
    assert found != by_whole(plain, PROMPT, COUNT, make, 32, name == "dream"), "it is no exact mode"
    whole = len(PROMPT) + COUNT
    assert rows.count(whole) == 3 and rows[0] == whole, "one whole pass for each block"
    later = {32, 6} if kept == "dual" else {70, 38, 6}
    assert set(rows) == {whole} | later


@pytest.mark.parametrize("kept", ["prefix", "dual"])
@pytest.mark.parametrize("name", ["llada", "dream"])
def test_a_gap_is_filled_with_what_is_kept_of_both_sides(name: str, kept: Kept, opened: Opened) -> None:
    loaded, plain = opened(name)
    suffix = tuple(range(60, 72))
    request = Request("one", tuple(PROMPT), GREEDY, suffix=suffix)
    expected = by_whole_kept(
        plain, PROMPT, COUNT, FILLS["sure ones"][2], (32, name == "dream"), kept == "dual", suffix
    )
    assert written(loaded, request, kept)[0] == expected


@pytest.mark.parametrize("kept", ["prefix", "dual"])
@pytest.mark.parametrize("name", ["llada", "dream"])
def test_losing_its_pages_at_any_step_changes_nothing(name: str, kept: Kept, opened: Opened) -> None:
    loaded, _ = opened(name)
    request = Request("one", tuple(PROMPT), replace(GREEDY, temperature=0.9, seed=3))
    expected, _ = written(loaded, request, kept)
    assert written(loaded, request, kept, lost=3)[0] == expected


@pytest.mark.parametrize("kept", ["prefix", "dual"])
@pytest.mark.parametrize("name", ["llada", "dream"])
def test_the_native_executor_writes_the_same(name: str, kept: Kept, opened: Opened) -> None:
    native, _ = opened(name, reference=False)
    rounded, _ = opened(name, cache_format="f16")
    request = Request("one", tuple(PROMPT), GREEDY)
    assert written(native, request, kept) == written(rounded, request, kept)


def test_an_end_token_and_answers_of_any_length(opened: Opened) -> None:
    """Also a last block of one place, which Dream's first pass has filled already."""
    for name in ("llada", "dream"):
        loaded, plain = opened(name)
        for count in (1, 31, 33, 34):
            request = Request("one", tuple(PROMPT), replace(GREEDY, max_tokens=count, logprobs=0))
            expected = by_whole_kept(
                plain, PROMPT, count, FILLS["one by one"][2], (32, name == "dream"), dual=True
            )
            assert written(loaded, request, "dual", "one by one")[0] == expected
        stop = expected[20]
        stopping = replace(request, sampling=replace(GREEDY, stop_token_ids=(stop,)))
        found, _ = written(loaded, stopping, "dual", "one by one")
        assert found[-1] == stop and found.count(stop) == 1


def requests(count: int) -> list[Request]:
    """Of all three kinds, some greedy and some not."""
    random = np.random.default_rng(6)
    return [
        Request(
            f"asked-{number}", tuple(random.integers(0, 256, random.integers(3, 40)).tolist()),
            SamplingParams(
                temperature=0.8 * (number % 2), seed=number, max_tokens=int(random.integers(5, 70)),
                ignore_eos=True,
            ), caching=(None, "prefix", "dual")[number % 3],
        )
        for number in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["llada", "dream"])
@pytest.mark.parametrize("entries", [2048, 256])
def test_many_at_once_write_what_each_writes_alone(
    name: str, entries: int, opened: Opened, engines: Any
) -> None:
    """Also where the cache has room for few of them, and they lose their pages."""
    loaded, _ = opened(name, reference=False, entries=entries)
    options = {"denoiser": "confidence_threshold:threshold=0.5", "caching": "dual"}
    asked, alone = requests(9), dict[str, list[int]]()
    for request in asked:
        alone |= write_all(engines(loaded, **options), [request])
    engine = engines(loaded, **options)
    assert write_all(engine, asked) == alone
    assert (engine.figures().preemptions > 0) == (entries == 256)
    assert loaded.runner.figures().used == 0


def test_beside_requests_that_are_written_token_by_token(opened: Opened, engines: Any) -> None:
    """Two models cannot share a step, but one model's decoders can, whatever they keep: here a block's rows
    stand in the same steps as causal ones of another sequence."""
    loaded, _ = opened("llada", reference=False)
    request = Request("one", tuple(PROMPT), GREEDY)
    expected = written(loaded, request, "dual")[0]
    runner, found, count = loaded.runner, list[int](), 0
    sequence, other = runner.open(), runner.open()
    name, numbers, _ = FILLS["sure ones"]
    decoder = decoder_for(loaded, sequence, request, denoiser_named(name, numbers), "dual")
    while True:
        span = decoder.propose(512)
        assert span is not None
        beside = Span.causal(other, np.array([count % 256], np.int32), count)
        logits = runner.run(Step((beside, span) if count % 2 else (span, beside)))
        ours = logits[1:] if count % 2 else logits[:-1]
        decision = decoder.decide(ours[:, : loaded.vocabulary.size])
        runner.commit([decision.commit, Commit(other, np.zeros(1, np.int32))])
        found, count = [*found, *decision.tokens], count + 1
        if decision.done is not None:
            break
    for one in (sequence, other):
        runner.close(one)
    assert found == expected


@pytest.mark.parametrize("caching", ["prefix", "dual"])
def test_cancelling_in_the_middle_of_blocks_loses_no_page(
    caching: Kept, opened: Opened, engines: Any
) -> None:
    loaded, _ = opened("llada", reference=False, entries=2048)
    engine, random = engines(loaded, caching=caching), np.random.default_rng(9)
    for turn in range(3):
        for request in requests(6):
            engine.submit(replace(request, identity=f"{turn}-{request.identity}", caching=None))
        for _ in range(int(random.integers(2, 9))):
            engine.step()
        for number in random.permutation(6)[:4]:
            engine.cancel(f"{turn}-asked-{number}")
            engine.step()
            engine.check_integrity()
    while engine.busy:
        engine.step()
    assert loaded.runner.figures().used == 0


def test_it_is_refused_where_entries_stay_anyway(opened: Opened, engines: Any, tmp_path: Path) -> None:
    sdar, _ = opened("sdar", reference=False)
    with pytest.raises(UnsupportedError, match="rows see all of the text"):
        engines(sdar).submit(Request("one", (1,), GREEDY, caching="dual"))
    with pytest.raises(UnsupportedError, match="rows see all of the text"):
        engines(sdar, caching="prefix")
    make_diffusion_model("sdar", tmp_path)
    with pytest.raises(UnsupportedError, match="rows see all of the text"):
        load(tmp_path, LoadOptions(caching="dual"))
    with pytest.raises(InputError, match="choose of none, prefix, dual"):
        caching_named("all")
