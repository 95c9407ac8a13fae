"""Our own speed: decoding, reading a prompt, many requests at once, and decoding far into a text.

A single sequence is measured on the runner, where a token costs one step and nothing else, as the tools of
peers count it; many requests go through the engine, as users' requests do.
"""

from __future__ import annotations

import time

import numpy as np

from fivefold.core.batch import Commit, Span, Step
from fivefold.core.errors import FivefoldError, InputError
from fivefold.core.request import Request, SamplingParams
from fivefold.core.runner import Runner
from fivefold.engine import Engine, EngineOptions, LoadedModel

from .work import Timeline, Work


def decode_rate(runner: Runner, count: int) -> float:
    """Tokens a second of `count` greedy steps after one token, as llama-bench's tg counts them."""
    sequence = runner.open()
    try:
        return count / decode_seconds(runner, sequence, 0, count)
    finally:
        runner.close(sequence)


def prefill_rate(runner: Runner, count: int) -> float:
    """Tokens a second of a prompt of `count` tokens, logits for its last row."""
    sequence = runner.open()
    try:
        began = time.perf_counter()
        read_tokens(runner, sequence, 0, count)
        return count / (time.perf_counter() - began)
    finally:
        runner.close(sequence)


class Depths:
    """Decoding with so many entries in the cache, on one sequence that is read on from depth to depth.

    Measured depths that rise within a round cost one reading of the deepest prompt a round.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._sequence = runner.open()
        self._held = 0

    def rate(self, depth: int, count: int) -> float:
        """Tokens a second of `count` greedy steps after `depth` entries."""
        if depth < self._held:
            self.rest()
        read_tokens(self._runner, self._sequence, self._held, depth)
        self._held = depth
        try:
            return count / decode_seconds(self._runner, self._sequence, depth, count)
        finally:
            self._back(depth)

    def _back(self, depth: int) -> None:
        """Forget what was written; a model with recurrent states must read again what came before."""
        try:
            self._runner.truncate(self._sequence, depth)
        except InputError:
            self.rest()

    def rest(self) -> None:
        """Give the entries back until the next depth."""
        self._runner.truncate(self._sequence, 0)
        self._held = 0

    def close(self) -> None:
        """Give the sequence's pages back."""
        self._runner.close(self._sequence)


def batch_timeline(loaded: LoadedModel, work: Work, seed: int) -> Timeline:
    """Give all prompts of `work` to an engine at once and note when their tokens come; greedy, to the end."""
    engine = Engine(loaded, EngineOptions(work.requests, work.requests, False, decoding="autoregressive"))
    sampling = SamplingParams(max_tokens=work.tokens, temperature=0.0, ignore_eos=True)
    prompts = work.prompts(loaded.model.shape.vocabulary, seed)
    requests = [Request(str(name), tuple(prompt), sampling) for name, prompt in enumerate(prompts)]
    written = [0] * work.requests
    seconds: list[float] = []
    history: list[tuple[int, ...]] = []
    try:
        began = time.perf_counter()
        for request in requests:
            engine.submit(request)
        while engine.busy:
            events = engine.step()
            now = time.perf_counter() - began
            for event in events:
                if event.error is not None:
                    raise event.error
                written[int(event.identity)] += len(event.tokens)
            if events:
                seconds.append(now)
                history.append(tuple(written))
    finally:
        engine.close()
    if engine.figures().preemptions:
        raise FivefoldError("the cache was too small for the batch", remedy="give fewer requests or tokens")
    return Timeline(seconds, history)


def decode_seconds(runner: Runner, sequence: int, position: int, count: int) -> float:
    """Seconds of `count` greedy steps from `position` on."""
    token, began = 1, time.perf_counter()
    for place in range(position, position + count):
        span = Span.causal(sequence, np.array([token], np.int32), place)
        token = int(runner.run(Step((span,)))[0].argmax())
        runner.commit((Commit(sequence, np.zeros(1, np.int32)),))
    return time.perf_counter() - began


def read_tokens(runner: Runner, sequence: int, first: int, end: int) -> None:
    """Read prompt tokens from position `first` up to `end`, with logits for the last one."""
    tokens = np.arange(first + 1, end + 1, dtype=np.int32) % 1000 + 1
    for start in range(first, end, runner.max_rows):
        part = tokens[start - first : start - first + runner.max_rows]
        last = start + len(part) == end
        wanted = np.array([len(part) - 1] if last else [], np.int32)
        runner.run(Step((Span.causal(sequence, part, start, wanted),)))
        runner.commit((Commit(sequence, np.arange(len(part), dtype=np.int32)),))
