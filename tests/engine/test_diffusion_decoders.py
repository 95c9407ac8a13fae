"""Diffusion on real executors: the tokens of plain whole-sequence generation, whatever the steps are like.

Models are tiny, of random weights, and of each family that is read. References are those of the writers'
folder, in numpy's float32 without any cache. The reference executor must give the same tokens, and the
native one those of the reference executor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusion_models import END, MASK, PlainModel, make_diffusion_model
from plain_diffusion import (
    above,
    by_blocks,
    by_whole,
    by_window,
    drawn_confidence,
    dream_schedule,
    one_by_one,
)

from fivefold.core.batch import Step
from fivefold.core.decoder import Decision, Decoder
from fivefold.core.errors import FileError, InputError, UnsupportedError
from fivefold.core.request import Request, SamplingParams
from fivefold.decode.diffusion import denoiser_named
from fivefold.engine import LoadedModel, LoadOptions, load
from fivefold.engine.diffusing import decoder_for

COUNT = 16
GREEDY = SamplingParams(temperature=0.0, max_tokens=COUNT, ignore_eos=True)
PROMPT = [int(token) for token in np.random.default_rng(4).integers(0, 256, 21)]
PLAIN: dict[str, Callable[[PlainModel, list[int], int], list[int]]] = {
    "sdar": lambda model, prompt, count: by_blocks(model, prompt, count, above(0.85, drawn_confidence), 4),
    "llada2": lambda model, prompt, count: by_blocks(model, prompt, count, above(0.95, drawn_confidence), 32),
    "fast-dllm": lambda model, prompt, count: by_blocks(model, prompt, count, above(0.9), 16, True, 8),
    "llada": lambda model, prompt, count: by_whole(model, prompt, count, lambda: one_by_one, 32, False),
    "sdar-moe": lambda model, prompt, count: by_blocks(
        model, prompt, count, above(0.85, drawn_confidence), 4
    ),
    "llada-moe": lambda model, prompt, count: by_whole(model, prompt, count, lambda: one_by_one, 32, False),
    "dream": lambda model, prompt, count: by_whole(
        model, prompt, count, lambda: dream_schedule(512), 0, True
    ),
    "wedlm": lambda model, prompt, count: by_window(model, prompt, count, 16),
    "wedlm-biases": lambda model, prompt, count: by_window(model, prompt, count, 16),
}
Opened = Callable[..., tuple[LoadedModel, PlainModel]]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """A family's model on an executor, loaded once, and its plain twin."""
    kept: dict[tuple[Any, ...], tuple[LoadedModel, PlainModel]] = {}

    def give(
        name: str, reference: bool = True, cache_format: str | None = None
    ) -> tuple[LoadedModel, PlainModel]:
        key = (name, reference, cache_format)
        if key not in kept:
            folder = tmp_path_factory.mktemp("diffusion") / name
            plain = make_diffusion_model(name, folder)
            options = LoadOptions(
                reference=reference, activations="float", threads=1, cache_format=cache_format
            )
            kept[key] = load(folder, options), plain
        return kept[key]

    return give


def driven(
    loaded: LoadedModel, make: Callable[[int], Decoder], limits: Sequence[int]
) -> tuple[list[Decision], list[int]]:
    """What an engine does with one decoder, under limits in turn: decisions, and rows of each step."""
    runner, decisions, rows = loaded.runner, list[Decision](), list[int]()
    sequence = runner.open()
    decoder = make(sequence)
    try:
        while not decisions or decisions[-1].done is None:
            limit = max(limits[len(decisions) % len(limits)], decoder.least_rows)
            span = decoder.propose(limit)
            assert span is not None and len(span.tokens) <= limit
            decision = decoder.decide(runner.run(Step((span,)))[:, : loaded.vocabulary.size])
            runner.commit([decision.commit])
            if decision.done is None:
                assert runner.length(sequence, "main") == decoder.committed
            runner.check_integrity()
            decisions.append(decision)
            rows.append(len(span.tokens))
    finally:
        runner.close(sequence)
    return decisions, rows


def written(decisions: Sequence[Decision]) -> list[int]:
    return [token for decision in decisions for token in decision.tokens]


def answer(
    loaded: LoadedModel, prompt: list[int] = PROMPT, sampling: SamplingParams = GREEDY,
    limits: Sequence[int] = (512,), **numbers: Any,
) -> list[int]:  # fmt: skip
    request = Request("one", tuple(prompt), sampling)
    rules = loaded.model.diffusion
    assert rules is not None
    denoiser = denoiser_named(rules.denoiser, {**rules.numbers, **numbers})
    made = driven(loaded, lambda sequence: decoder_for(loaded, sequence, request, denoiser), limits)
    return written(made[0])


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("length", [3, 16, 21])
def test_tokens_are_those_of_plain_generation(name: str, length: int, opened: Opened) -> None:
    loaded, plain = opened(name)
    prompt = PROMPT[:length]
    expected = PLAIN[name](plain, prompt, COUNT)
    assert answer(loaded, prompt) == expected
    assert len(set(expected)) > 1, "the model should say something"


@pytest.mark.parametrize("name", PLAIN)
def test_the_native_executor_writes_the_same(name: str, opened: Opened) -> None:
    """Where the reference executor keeps entries in f16 as well: that alone can turn what is nearly equal."""
    native, _ = opened(name, reference=False)
    rounded, _ = opened(name, cache_format="f16")
    for length in (3, 16, 21):
        assert answer(native, PROMPT[:length]) == answer(rounded, PROMPT[:length])


@pytest.mark.parametrize("name", ["sdar", "fast-dllm", "wedlm"])
@pytest.mark.parametrize("limits", [(1,), (17, 40), (8, 5, 36)])
def test_the_size_of_steps_changes_nothing(name: str, limits: tuple[int, ...], opened: Opened) -> None:
    loaded, _ = opened(name)
    assert answer(loaded, limits=limits) == answer(loaded)


def test_a_clean_pass_and_the_next_canvas_run_together_where_there_is_room(opened: Opened) -> None:
    loaded, _ = opened("sdar")
    request = Request("one", tuple(PROMPT[:8]), replace(GREEDY, max_tokens=8))
    one_a_pass = denoiser_named("low_confidence")
    wide, rows = driven(loaded, lambda number: decoder_for(loaded, number, request, one_a_pass), [64])
    assert rows == [8 + 4, 4, 4, 4, 4 + 4, 4, 4, 4]
    assert [len(one.commit.rows) for one in wide] == [8, 0, 0, 0, 4, 0, 0, 0]
    assert [len(one.tokens) for one in wide] == [0, 0, 0, 4, 0, 0, 0, 4]
    narrow, rows = driven(loaded, lambda number: decoder_for(loaded, number, request, one_a_pass), [4])
    assert rows == [4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4] and written(narrow) == written(wide)


@pytest.mark.parametrize("name", ["sdar", "fast-dllm", "llada", "dream", "wedlm"])
def test_a_prompt_may_contain_the_mask_token(name: str, opened: Opened) -> None:
    """What is open is a flag: the id of the mask in a text is a token like others."""
    loaded, plain = opened(name)
    prompt = [*PROMPT[:9], MASK, *PROMPT[9:17], MASK]
    tokens = answer(loaded, prompt)
    assert tokens == PLAIN[name](plain, prompt, COUNT)
    assert tokens != answer(loaded, [token for token in prompt if token != MASK])


@pytest.mark.parametrize("name", PLAIN)
def test_losing_its_pages_at_any_step_changes_nothing(name: str, opened: Opened) -> None:
    loaded, _ = opened(name)
    expected, runner = answer(loaded, sampling=replace(GREEDY, temperature=0.9, seed=3)), loaded.runner
    sequence = runner.open()
    request = Request("one", tuple(PROMPT), replace(GREEDY, temperature=0.9, seed=3))
    decoder, found, step = decoder_for(loaded, sequence, request), list[int](), 0
    random = np.random.default_rng(7)
    while True:
        if step % 3 == 2:
            runner.truncate(sequence, decoder.resume(int(random.integers(0, decoder.committed + 1))))
        span = decoder.propose(96)
        assert span is not None
        decision = decoder.decide(runner.run(Step((span,)))[:, : loaded.vocabulary.size])
        runner.commit([decision.commit])
        found, step = [*found, *decision.tokens], step + 1
        if decision.done is not None:
            break
    runner.close(sequence)
    assert found == expected


@pytest.mark.parametrize("name", ["sdar", "llada", "wedlm", "fast-dllm"])
def test_an_answer_ends_at_its_end_token_and_tokens_behind_it_are_nobodys(name: str, opened: Opened) -> None:
    loaded, _ = opened(name)
    whole = answer(loaded)
    stop = whole[9]
    sampling = replace(GREEDY, stop_token_ids=(stop,))
    request = Request("one", tuple(PROMPT), sampling)
    decisions, _ = driven(loaded, lambda number: decoder_for(loaded, number, request), [512])
    assert written(decisions) == whole[: whole.index(stop) + 1]
    assert (decisions[-1].done, decisions[-1].stop_token) == ("stop", stop)
    assert written(decisions)[:-1].count(stop) == 0
    short = driven(loaded, lambda number: decoder_for(
        loaded, number, replace(request, sampling=replace(GREEDY, max_tokens=7, logprobs=2))
    ), [512])[0]  # fmt: skip
    assert len(written(short)) == 7 and short[-1].done == "length"
    noted = [one for decision in short for one in decision.logprobs]
    assert [one.token for one in noted] == written(short)
    assert all(one.logprob <= 0 and len(one.top) == 2 for one in noted)


@pytest.mark.parametrize("name", ["fast-dllm", "llada2", "dream", "llada"])
def test_a_request_that_ends_within_a_block_does_not_wait_for_the_rest_of_it(
    name: str, opened: Opened
) -> None:
    loaded, _ = opened(name, reference=False)
    biased = replace(GREEDY, ignore_eos=False, min_tokens=3, logit_bias={END: 100.0})
    request = Request("one", tuple(PROMPT), biased)
    from_the_left = denoiser_named("entropy_distance", {"threshold": -1.0, "penalty": 1000.0})
    decisions, _ = driven(loaded, lambda number: decoder_for(loaded, number, request, from_the_left), [512])
    filling = [one for one in decisions if one.tokens or not len(one.commit.rows)]
    assert written(decisions)[-1] == END and len(written(decisions)) == 4
    assert len(filling) <= 4, "one pass for each token, the first perhaps beside the prompt"


def test_the_block_in_flight_can_be_shown(opened: Opened) -> None:
    loaded, _ = opened("sdar")
    request = Request("one", tuple(PROMPT), GREEDY)
    decoder: Any = decoder_for(loaded, loaded.runner.open(), request, denoiser_named("low_confidence"))
    assert decoder.provisional is None
    drafts = []
    for _ in range(4):
        span = decoder.propose(512)
        decision = decoder.decide(loaded.runner.run(Step((span,)))[:, : loaded.vocabulary.size])
        loaded.runner.commit([decision.commit])
        drafts.append(decoder.provisional)
    assert [draft and (draft.start, sum(draft.masked)) for draft in drafts] == [
        (20, 2), (20, 1), None, (24, 3),
    ]  # fmt: skip
    assert drafts[0].tokens[0] == PROMPT[20] and decision.tokens == ()
    loaded.runner.close(span.sequence)


def test_sampling_depends_on_the_seed_alone(opened: Opened) -> None:
    loaded, _ = opened("sdar")
    seeded = replace(GREEDY, temperature=1.0, seed=11)
    assert answer(loaded, sampling=seeded, limits=(4,)) == answer(loaded, sampling=seeded)
    assert answer(loaded, sampling=seeded) != answer(loaded, sampling=replace(seeded, seed=12))


@pytest.mark.parametrize("denoiser", ["editing", "uniform_renoise", "entropy_bound", "factor"])
def test_other_denoisers_run_on_the_same_model(denoiser: str, opened: Opened) -> None:
    loaded, _ = opened("sdar")
    request = Request("one", tuple(PROMPT), replace(GREEDY, seed=1))
    chosen = denoiser_named(denoiser, {"steps": 6} if denoiser == "uniform_renoise" else {})
    found = [
        written(driven(loaded, lambda number: decoder_for(loaded, number, request, chosen), limits)[0])
        for limits in ([512], [4, 9])
    ]
    assert found[0] == found[1] and len(found[0]) == COUNT


@pytest.mark.parametrize(
    ("name", "numbers"), [("low_confidence", {}), ("low_confidence", {"steps": 3}), ("dream", {})]
)
def test_a_schedule_of_a_block_holds_for_a_window(name: str, numbers: dict[str, int], opened: Opened) -> None:
    """Its masks are those of the window as it stands, which has none when it is made."""
    loaded, _ = opened("wedlm")
    request, chosen = Request("one", tuple(PROMPT), GREEDY), denoiser_named(name, numbers)
    made, _ = driven(loaded, lambda number: decoder_for(loaded, number, request, chosen), [512])
    assert len(written(made)) == COUNT


def test_what_cannot_be_served_is_refused(opened: Opened, tmp_path: Path) -> None:
    loaded, _ = opened("llada")
    for request, said in (
        (Request("a", (), GREEDY), "prompt is empty"),
        (Request("a", (5000,), GREEDY), "token 5000 is not in the vocabulary"),
        (Request("a", (1,) * 256, GREEDY), "the context 256"),
    ):
        with pytest.raises(InputError, match=said):
            decoder_for(loaded, 0, request)
    make_diffusion_model("llada", tmp_path / "few")
    few = load(tmp_path / "few", LoadOptions(activations="float", max_rows=30))
    with pytest.raises(InputError, match="runs 37 rows of this request at once, and steps have 30"):
        decoder_for(few, 0, Request("a", tuple(PROMPT), GREEDY))
    with pytest.raises(UnsupportedError, match="changes tokens that are filled"):
        decoder_for(opened("wedlm")[0], 0, Request("a", (1,), GREEDY), denoiser_named("editing"))
    make_diffusion_model("sdar", tmp_path / "wide", block_size=64)
    with pytest.raises(UnsupportedError, match="blocks of 64 positions do not divide pages of 32"):
        decoder_for(load(tmp_path / "wide", LoadOptions(reference=True)), 0, Request("a", (1,), GREEDY))
    make_diffusion_model("dream", tmp_path / "mask", mask_token_id=258)
    with pytest.raises(FileError, match="mask token 258 is not among 258"):
        load(tmp_path / "mask", LoadOptions(reference=True))
    make_diffusion_model("wedlm", tmp_path / "neither", attention_bias=True)
    with pytest.raises(UnsupportedError, match="is neither"):
        load(tmp_path / "neither", LoadOptions(reference=True))
    for key, value in (("block_type", "sequential"), ("alibi", True), ("scale_logits", True)):
        make_diffusion_model("llada", tmp_path / key, **{key: value})
        with pytest.raises(UnsupportedError, match=key):
            load(tmp_path / key, LoadOptions(reference=True))


def test_the_end_token_of_the_model_ends_an_answer(opened: Opened) -> None:
    loaded, _ = opened("sdar")
    assert loaded.vocabulary.end_tokens == (END,)
    biased = SamplingParams(temperature=0.0, max_tokens=COUNT, logit_bias={END: 100.0}, min_tokens=6)
    request = Request("one", tuple(PROMPT), biased)
    decisions, _ = driven(loaded, lambda number: decoder_for(loaded, number, request), [512])
    assert decisions[-1].done == "stop" and END not in written(decisions)[:-1]
    assert len(written(decisions)) == 7, "no end token among the first six"
