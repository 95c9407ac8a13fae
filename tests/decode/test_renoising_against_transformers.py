"""Uniform renoising against the pieces of DiffusionGemma's generation that Transformers 5.24 has.

Which places are taken, the temperature of each step, and the step after which it ends, on random logits.
Tokens that are drawn cannot be compared: their random numbers come from elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from transformers_models import transformers

from fivefold.core.request import SamplingParams
from fivefold.decode import Sampler
from fivefold.decode.diffusion import Block, Guesser, Guesses, denoiser_named

V, SIZE, STEPS = 19, 10, 48
DENOISER = denoiser_named("uniform_renoise")


@pytest.fixture(scope="module")
def theirs() -> Any:
    transformers()
    from transformers.models.diffusion_gemma import generation_diffusion_gemma

    return generation_diffusion_gemma


def guesses(block: Block, logits: np.ndarray, seed: int) -> Guesses:
    places = np.arange(SIZE)
    guesser = Guesser(Sampler(SamplingParams(seed=seed), V), V, None)
    return Guesses(places, logits, guesser, places.astype(np.int32), block.turn, DENOISER.temperature(block))


def canvas(seed: int) -> Block:
    noise = np.random.default_rng(seed).integers(0, V, SIZE).astype(np.int32)
    return Block.of(np.zeros(0, np.int32), noise, masked=False)


def test_the_defaults_and_the_temperatures_are_theirs(theirs: Any) -> None:
    import torch

    said = theirs.DiffusionGemmaGenerationConfig._get_default_generation_params()
    ours: Any = DENOISER
    assert (ours.steps, ours.bound) == (said["max_denoising_steps"], said["sampler_config"].entropy_bound)
    assert (ours.coldest, ours.warmest) == (said["t_min"], said["t_max"])
    assert (ours.stable, ours.confident) == (said["stability_threshold"], said["confidence_threshold"])
    schedule = theirs.LinearTemperatureScheduleLogitsProcessor(said["t_min"], said["t_max"], STEPS)
    for turn in range(STEPS):
        divided = schedule(None, torch.ones(1), cur_step=STEPS - turn)
        assert 1 / float(divided) == pytest.approx(DENOISER.temperature(replace(canvas(0), turn=turn)))


def test_the_places_that_are_taken_are_theirs(theirs: Any) -> None:
    import torch

    sampler = theirs.EntropyBoundSampler(theirs.EntropyBoundSamplerConfig(0.1), SIZE, V, STEPS)
    counts = set()
    for seed in range(100):
        random = np.random.default_rng(seed)
        logits = (random.normal(size=(SIZE, V)) * random.uniform(0.5, 12, (SIZE, 1))).astype(np.float32)
        block = replace(canvas(seed), turn=seed % (STEPS - 1))
        found = guesses(block, logits, seed)
        after = DENOISER.advance(block, found)
        processed = torch.tensor(logits / DENOISER.temperature(block))[None]
        sampler.accept_canvas(torch.zeros(1, SIZE), torch.zeros(1, SIZE), processed, STEPS - block.turn)
        taken = sampler.accepted_token_mask[0].numpy()
        assert np.array_equal(after.tokens, np.where(taken, found.tokens, found.noise())), seed
        counts.add(int(taken.sum()))
    assert len(counts) > 4


def test_it_ends_after_the_same_step(theirs: Any) -> None:
    import torch

    ends = set()
    for seed in range(60):
        random = np.random.default_rng(seed)
        stopping = theirs.StableAndConfidentStoppingCriteria(1, 0.005)
        start, goal = (random.normal(size=(SIZE, V)) for _ in range(2))
        block, theirs_done = canvas(seed), False
        while not block.done:
            assert not theirs_done
            sure = block.turn / random.integers(4, 60)
            logits = (start * (1 - sure) + 40 * sure * goal).astype(np.float32)
            processed = torch.tensor(logits / DENOISER.temperature(block))[None]
            theirs_done = bool(stopping(processed.argmax(dim=-1), processed)[0])
            block = DENOISER.advance(block, guesses(block, logits, seed))
            assert block.done == (theirs_done or block.turn == STEPS)
        assert np.array_equal(block.tokens, logits.argmax(axis=1)), "what is final are the likeliest tokens"
        ends.add(block.turn)
    assert len(ends) > 4
