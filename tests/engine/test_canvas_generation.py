"""DiffusionGemma writes what Transformers' own `generate` writes, token for token, where both draw alike.

Both are given one source of random numbers (`writers/canvas_models.py` says how): for Transformers those that
our sampler has for the same seed, position and step. The reference executor runs with float32 entries.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canvas_models import CANVAS, CanvasModel, Noise, make_canvas_model
from diffusion_models import VOCABULARY

from fivefold.core.batch import SHARES, Float32, Step
from fivefold.core.request import Request, SamplingParams
from fivefold.decode import Sampler
from fivefold.decode.diffusion import CanvasDecoder, Guesser, denoiser_named
from fivefold.decode.sampling import uniform
from fivefold.engine import LoadedModel, LoadOptions, load
from fivefold.engine.diffusing import decoder_for

STEPS = 9


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes models by how sure they are, loaded in several ways."""
    folders: dict[float, tuple[Path, CanvasModel]] = {}
    kept: dict[tuple[Any, ...], LoadedModel] = {}

    def give(sharp: float, **options: Any) -> tuple[LoadedModel, CanvasModel]:
        if sharp not in folders:
            folder = tmp_path_factory.mktemp("canvas")
            folders[sharp] = folder, make_canvas_model(folder, sharp=sharp, signal=0.02)
        key = (sharp, *options.items())
        if key not in kept:
            kept[key] = load(folders[sharp][0], LoadOptions(activations="float", threads=1, **options))
        return kept[key], folders[sharp][1]

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
    denoiser = denoiser_named("uniform_renoise", {"steps": STEPS, **numbers})
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


def asked(length: int, seed: int, canvases: int = 3) -> Request:
    sampling = SamplingParams(seed=seed, max_tokens=canvases * CANVAS, ignore_eos=True)
    return Request("one", tuple(prompt_of(length)), sampling)


@pytest.mark.parametrize("sharp", [1.0, 4.0])
@pytest.mark.parametrize(
    ("seed", "length", "confident"), [(1, 5, 0.005), (2, 41, 0.005), (3, 41, 3.5), (4, 32, 1.0), (5, 1, 1.5)]
)
def test_tokens_and_steps_are_those_of_generate(
    sharp: float, seed: int, length: int, confident: float, made: Any
) -> None:
    """Over three canvases, with prompts shorter and longer than windows, and stopping early in some."""
    loaded, theirs = made(sharp, reference=True)
    expected, steps = theirs.generate(
        prompt_of(length), 3 * CANVAS, noise_of(seed), max_denoising_steps=STEPS,
        confidence_threshold=confident, eos_token_id=None,
    )  # fmt: skip
    request = asked(length, seed)
    assert written(loaded, request, confident=confident) == (expected, steps)
    early = {(1.0, 3): True, (4.0, 3): True, (4.0, 4): True, (4.0, 5): True}
    assert (steps < 3 * STEPS) == early.get((sharp, seed), False)


def test_the_tokens_depend_on_the_last_guess(made: Any) -> None:
    loaded, _ = made(1.0, reference=True)
    rules = loaded.model.diffusion
    without = replace(loaded, model=replace(loaded.model, diffusion=replace(rules, conditioned=False)))
    assert written(loaded, asked(5, 1)) != written(without, asked(5, 1))
