"""DiffusionGemma writes what Transformers' own `generate` writes, token for token, where both draw alike.

Both are given one source of random numbers (`writers/canvas_models.py` says how): for Transformers those that
our sampler has for the same seed, position and step. The reference executor runs with float32 entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canvas_models import CALM, CANVAS, ROUGH, SHARP, CanvasModel, Nature, Noise, make_canvas_model
from diffusion_models import VOCABULARY

from fivefold.core.batch import Float32, Step
from fivefold.core.request import Request, SamplingParams
from fivefold.decode import Sampler
from fivefold.decode.diffusion import CanvasDecoder, Guesser, denoiser_named
from fivefold.decode.sampling import uniform
from fivefold.engine import LoadedModel, LoadOptions, load
from fivefold.engine.diffusing import decoder_for


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes models by their nature, loaded in several ways."""
    folders: dict[Nature, tuple[Path, CanvasModel]] = {}
    kept: dict[tuple[Any, ...], LoadedModel] = {}

    def give(nature: Nature, **options: Any) -> tuple[LoadedModel, CanvasModel]:
        if nature not in folders:
            folder = tmp_path_factory.mktemp("canvas")
            folders[nature] = folder, make_canvas_model(folder, nature)
        key = (nature, *options.items())
        if key not in kept:
            kept[key] = load(folders[nature][0], LoadOptions(activations="float", threads=1, **options))
        return kept[key], folders[nature][1]

    return give


def noise_of(seed: int) -> Noise:
    """The numbers that our sampler has for a seed."""
    guesser = Guesser(Sampler(SamplingParams(seed=seed), VOCABULARY), VOCABULARY, None)
    return Noise(
        guesser.noise,
        lambda numbers, turn: np.array([uniform(seed, (turn << 64) + int(number)) for number in numbers]),
    )


def prompt_of(length: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(length).integers(0, VOCABULARY, length)]


def written(
    loaded: LoadedModel, request: Request, limit: int = 512, lose: int = 0, **numbers: float
) -> tuple[list[int], int]:
    """The tokens of a request and how often its canvases ran, with `limit` rows a step. After step number
    `lose` the sequence loses its pages."""
    runner = loaded.runner
    denoiser = denoiser_named("uniform_renoise", numbers)
    decoder = decoder_for(loaded, runner.open(), request, denoiser)
    assert isinstance(decoder, CanvasDecoder)
    tokens: list[int] = []
    passes = step = 0
    while True:
        span = decoder.propose(limit)
        assert span is not None
        logits: Float32 = runner.run(Step((span,)))
        decision = decoder.decide(logits)
        runner.commit([decision.commit])
        tokens += decision.tokens
        passes, step = passes + bool(len(logits)), step + 1
        if decision.done is not None:
            runner.close(span.sequence)
            return tokens, passes
        if step == lose:
            runner.truncate(span.sequence, 0)
            assert decoder.resume(0) == 0


def asked(length: int, seed: int, canvases: int = 2) -> Request:
    sampling = SamplingParams(seed=seed, max_tokens=canvases * CANVAS, ignore_eos=True)
    return Request("one", tuple(prompt_of(length)), sampling)


CASES: dict[str, tuple[Nature, int, int, dict[str, float], bool]] = {
    "rough": (ROUGH, 1, 5, {"steps": 9}, False),
    "rough-behind-a-window": (ROUGH, 2, 41, {"steps": 9}, False),
    "sharp": (SHARP, 5, 1, {"steps": 9}, False),
    "sharp-behind-pages": (SHARP, 4, 70, {"steps": 12, "bound": 0.5}, False),
    "calm": (CALM, 5, 41, {}, True),
    "calm-and-short": (CALM, 6, 5, {"steps": 24}, True),
    "calm-twice": (CALM, 7, 32, {"steps": 24, "stable": 2, "confident": 0.1}, True),
    "at-once": (SHARP, 8, 41, {"steps": 9, "stable": 0, "confident": 0.8}, True),
    "cold": (CALM, 9, 20, {"steps": 20, "warmest": 0.3, "coldest": 0.2}, True),
}
"""The model, the seed, tokens of the prompt, numbers that are not the default, and whether it stops early."""


@pytest.mark.parametrize("case", CASES)
def test_tokens_and_steps_are_those_of_generate(case: str, made: Any) -> None:
    """Over two canvases; prompts are shorter and longer than windows, and end anywhere in a page."""
    nature, seed, length, numbers, early = CASES[case]
    loaded, theirs = made(nature, reference=True)
    expected, steps = theirs.generate(
        prompt_of(length), 2 * CANVAS, noise_of(seed), eos_token_id=None, **called(numbers)
    )
    assert written(loaded, asked(length, seed), **numbers) == (expected, steps)
    assert (steps < 2 * int(numbers.get("steps", 48))) == early
    assert len(set(expected)) > CANVAS


def called(numbers: Mapping[str, float]) -> dict[str, Any]:
    """Our denoiser's numbers by the names of their generation config."""
    from transformers.models.diffusion_gemma.generation_diffusion_gemma import EntropyBoundSamplerConfig

    names = {
        "steps": "max_denoising_steps", "stable": "stability_threshold", "confident": "confidence_threshold",
        "warmest": "t_max", "coldest": "t_min",
    }  # fmt: skip
    found: dict[str, Any] = {names[name]: value for name, value in numbers.items() if name in names}
    if "bound" in numbers:
        found["sampler_config"] = EntropyBoundSamplerConfig(numbers["bound"])
    return found


def test_an_end_token_ends_it_in_the_same_canvas(made: Any) -> None:
    loaded, theirs = made(CALM, reference=True)
    whole, _ = theirs.generate(prompt_of(9), 3 * CANVAS, noise_of(1), eos_token_id=None)
    end = next(token for token in whole[CANVAS + 3 :] if token not in whole[: CANVAS + 3])
    expected, steps = theirs.generate(prompt_of(9), 3 * CANVAS, noise_of(1), eos_token_id=end)
    assert CANVAS < whole.index(end) < len(expected) < len(whole)
    request = asked(9, 1, canvases=3)
    sampling = replace(request.sampling, stop_token_ids=(end,))
    tokens, passes = written(loaded, replace(request, sampling=sampling))
    assert (tokens, passes) == (expected[: expected.index(end) + 1], steps)


def test_the_tokens_depend_on_the_last_guess(made: Any) -> None:
    loaded, _ = made(ROUGH, reference=True)
    rules = loaded.model.diffusion
    without = replace(loaded, model=replace(loaded.model, diffusion=replace(rules, conditioned=False)))
    assert written(loaded, asked(5, 1), steps=9) != written(without, asked(5, 1), steps=9)


@pytest.mark.parametrize(("nature", "steps"), [(ROUGH, 4), (CALM, 9)], ids=["rough", "calm"])
def test_the_native_executor_writes_what_the_reference_writes(nature: Nature, steps: int, made: Any) -> None:
    """Of which the entries are rounded alike."""
    native, reference = made(nature)[0], made(nature, reference=True, cache_format="f16")[0]
    for seed in range(2):
        request = asked(7 + 38 * seed, seed)
        assert written(native, request, steps=steps) == written(reference, request, steps=steps)


def test_neither_the_size_of_steps_nor_lost_pages_change_the_tokens(made: Any) -> None:
    loaded, _ = made(Nature())
    for seed, length in ((1, 41), (2, 70)):
        request = asked(length, seed)
        expected = written(loaded, request, steps=5)
        for limit, lose in ((CANVAS, 0), (CANVAS + 3, 7), (40, 12)):
            tokens, passes = written(loaded, request, limit, lose, steps=5)
            assert (tokens, passes) == expected, (limit, lose)
    loaded.runner.check_integrity()
