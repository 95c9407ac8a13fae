"""Completing records, one at a time or many at once, and what a text costs under a model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from types import TracebackType

import numpy as np

from fivefold.bench.quality import log_softmax
from fivefold.core.batch import Commit, Span, Step
from fivefold.core.request import Decoding, SamplingParams
from fivefold.engine import Engine, EngineOptions, Generation, LoadedModel

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """A model and how it writes; `denoiser` where it is a diffusion model, `guesses` the sources that are
    asked where guesses are checked, None for all."""

    loaded: LoadedModel
    decoding: Decoding
    denoiser: str = ""
    guesses: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A completed record: its tokens with the one that ended it, its text, whether it ended by itself,
    seconds from the request to its end, and steps, that of the prompt among them. The last two are 0 where
    others were written beside it."""

    tokens: Tokens
    text: str
    ended: bool
    seconds: float = 0.0
    passes: int = 0


class Writer:
    """An engine that writes in one way, the likeliest token each time, up to `most` of them, so many requests
    at once. Close it, or use `with`."""

    def __init__(self, way: Way, most: int, at_once: int = 1) -> None:
        options = EngineOptions(
            at_once, max(at_once, 1), prefix_cache=False, decoding=way.decoding, denoiser=way.denoiser,
            guesses=way.guesses,
        )  # fmt: skip
        self._engine = Engine(way.loaded, options)
        self._sampling = SamplingParams(max_tokens=most, temperature=0.0)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.close()

    def one(self, prompt: Tokens) -> Answer:
        """The answer to one prompt, and what it took."""
        before, began = self._engine.figures().steps, time.perf_counter()
        (found,) = self._engine.generate([prompt], self._sampling)
        seconds = time.perf_counter() - began
        return _answer(found, seconds, self._engine.figures().steps - before)

    def all(self, prompts: Sequence[Tokens]) -> tuple[list[Answer], float]:
        """The answers to many, as many at once as there is room for, and seconds in all."""
        began = time.perf_counter()
        found = self._engine.generate(prompts, self._sampling)
        seconds = time.perf_counter() - began
        return [_answer(one) for one in found], seconds


def _answer(found: Generation, seconds: float = 0.0, passes: int = 0) -> Answer:
    return Answer(found.tokens, found.text, found.finish_reason == "stop", seconds, passes)


def bits(loaded: LoadedModel, prompt: Tokens, more: Tokens) -> float:
    """Bits of the tokens `more` behind a prompt, under a model that tells the next token."""
    runner, tokens = loaded.runner, np.array([*prompt, *more], np.int32)
    if not more:
        return 0.0
    sequence = runner.open()
    try:
        rows = np.arange(len(prompt) - 1, len(tokens) - 1, dtype=np.int32)
        logits = runner.run(Step((Span.causal(sequence, tokens, 0, rows),)))
        found = log_softmax(logits)[np.arange(len(more)), list(more)]
        runner.commit([Commit(sequence, np.zeros(0, np.int32))])
    finally:
        runner.close(sequence)
    return float(-found.sum()) / log(2)
