"""Thirty-two mixed requests on the real model: each gets, bit for bit, what it gets alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from guessed import Clock

from fivefold.core.request import SamplingParams
from fivefold.engine import Engine, EngineOptions, Generation, LoadedModel, LoadOptions, load

TEXTS = [
    "Rivers", "def main():", "The quick brown fox", "1, 2, 3,", "Dear Sir or Madam,", "In 1869 the railway",
    "Wasser kocht bei", "water boils at one hundred degrees and then",
]  # fmt: skip
SHARED = "You are asked a question. Answer in few words, and say so if you do not know the answer. " * 3


@pytest.fixture(scope="module")
def roomy(default_model: Path) -> LoadedModel:
    return load(default_model, LoadOptions(entries=8192))


@pytest.fixture(scope="module")
def scarce(default_model: Path) -> LoadedModel:
    """Room for a few of the requests at a time."""
    return load(default_model, LoadOptions(context=256, entries=256))


def requests(loaded: LoadedModel) -> tuple[list[list[int]], list[SamplingParams]]:
    choose = random.Random(11)
    prompts, samplings = [], []
    for number in range(32):
        begin = SHARED if number % 3 == 0 else ""
        prompts.append(loaded.vocabulary.encode(begin + choose.choice(TEXTS) + " " * (number % 2)))
        samplings.append(
            SamplingParams(
                max_tokens=choose.randrange(20, 90), temperature=choose.choice([0.0, 0.0, 0.9]), top_p=0.95,
                seed=number, logprobs=1, ignore_eos=True,
            )
        )  # fmt: skip
    return prompts, samplings


def told(found: list[Generation]) -> list[tuple[object, ...]]:
    """All but the times."""
    return [(one.tokens, one.text, one.logprobs, one.finish_reason) for one in found]


@pytest.fixture(scope="module")
def alone(roomy: LoadedModel) -> list[tuple[object, ...]]:
    prompts, samplings = requests(roomy)
    engine = Engine(roomy, EngineOptions(prefix_cache=False))
    return told([engine.generate([p], s)[0] for p, s in zip(prompts, samplings, strict=True)])


@pytest.mark.parametrize("prefix_cache", [True, False], ids=["shared", "apart"])
def test_together(roomy: LoadedModel, alone: list[tuple[object, ...]], prefix_cache: bool) -> None:
    engine = Engine(roomy, EngineOptions(prefix_cache=prefix_cache))
    assert told(engine.generate(*requests(roomy))) == alone
    figures = engine.figures()
    assert (figures.cached_tokens > 0) == prefix_cache
    assert figures.cache.used == 0


@pytest.mark.parametrize("prefix_cache", [True, False], ids=["shared", "apart"])
def test_under_pressure(scarce: LoadedModel, alone: list[tuple[object, ...]], prefix_cache: bool) -> None:
    engine = Engine(scarce, EngineOptions(prefix_cache=prefix_cache), Clock())
    assert told(engine.generate(*requests(scarce))) == alone
    assert engine.figures().preemptions > 0
    engine.check_integrity()
