"""The measurement: the same prompts plainly and with guesses, in turn, and many requests at once.

Each prompt is answered both ways one after the other, the order changing from prompt to prompt, so that a
machine that drifts drifts for both. Time counts from an answer's first token to its last. Answers end where
the model ends them. With peers some of the general prompts are run again in rounds that the peers share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fivefold.bench.compare import BANDWIDTH_SECONDS, Comparison, work_cost
from fivefold.bench.peers import Peer
from fivefold.bench.report import subject_figures
from fivefold.bench.rounds import alternate
from fivefold.bench.work import Work
from fivefold.core.batch import LOGITS, Commit, Span, Step
from fivefold.core.errors import InputError
from fivefold.core.request import Decoding, Request, SamplingParams, Timings
from fivefold.engine import Engine, EngineFigures, EngineOptions, LoadedModel
from fivefold.executor import read_bandwidth

from .chi_square import chi_square_figures
from .report import GUESSED, PLAIN, batch_figures, domain_figures, peer_figures, rows_figures

WAYS: tuple[Decoding, ...] = (PLAIN, GUESSED)
TEMPERATURE = 0.8
DEPTH = 256
"""Entries in the cache where steps are timed by their rows."""
Prompts = Sequence[tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Parallel:
    """What is measured: tokens of an answer at most, requests at once, rounds of these and of the peers,
    rows up to which steps are timed, prompts that are also sampled and run beside peers; and draws, each way,
    of what stands behind a prompt, for `tested` prompts."""

    tokens: int = 128
    requests: int = 32
    rounds: int = 3
    rows: int = 16
    few: int = 8
    draws: int = 400
    tested: int = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its tokens, seconds from the first to the last, and what the engine tells of it."""

    tokens: tuple[int, ...]
    timings: Timings
    figures: EngineFigures


def measure_parallel(
    loaded: LoadedModel, prompts: Mapping[str, Prompts], asked: Parallel, peers: Sequence[Peer] = ()
) -> dict[str, Any]:
    """All figures under the keys of docs/bench.md."""
    longest = max(len(prompt) for each in prompts.values() for prompt in each) + asked.tokens
    if longest > loaded.context:
        raise InputError(f"{longest} tokens are more than the context of {loaded.context}", where="--tokens",
                         remedy="give fewer")  # fmt: skip
    size = int(work_cost(loaded, Work("decode", 1, 1, 1)).weight_bytes)
    memory = partial(read_bandwidth, loaded.settings.threads, size, BANDWIDTH_SECONDS)
    bandwidths = [memory()]
    rows = rows_figures(_rows(loaded, asked))
    domains = {}
    for name, each in prompts.items():
        domains[name] = domain_figures([_both(loaded, asked.tokens, n, each[n]) for n in range(len(each))])
        bandwidths.append(memory())
    general = next(iter(prompts.values()))
    sampled = [
        _both(loaded, asked.tokens, n, each, TEMPERATURE) for n, each in enumerate(general[: asked.few])
    ]
    made: dict[str, Any] = {"rows": rows, "domains": domains, "sampled": domain_figures(sampled)}
    if asked.draws:
        made["chi_square"] = chi_square_figures(loaded, general[: asked.tested], asked.draws, TEMPERATURE)
    if peers:
        made["peers"] = peer_figures(_beside_peers(loaded, general[: asked.few], asked, peers))
    made["batch"] = batch_figures(asked.requests, _batch(loaded, general, asked))
    bandwidths.append(memory())
    versions = {peer.name: peer.version for peer in peers if peer.version}
    told = subject_figures(loaded, Comparison((), tuple(bandwidths), versions, {}))
    return {"work": "parallel", **told, "tokens": asked.tokens, **made}


def _answer(
    loaded: LoadedModel, decoding: Decoding, prompt: tuple[int, ...], sampling: SamplingParams
) -> Answer:
    engine = Engine(loaded, EngineOptions(1, 1, prefix_cache=False, decoding=decoding))
    try:
        events = list(engine.stream(Request("one", prompt, sampling)))
        figures = engine.figures()
    finally:
        engine.close()
    timings = events[-1].timings
    assert timings is not None
    return Answer(tuple(token for event in events for token in event.tokens), timings, figures)


def _both(
    loaded: LoadedModel, tokens: int, number: int, prompt: tuple[int, ...], temperature: float = 0.0
) -> dict[str, Answer]:
    """The answers of both ways to one prompt, the plain one first at even numbers."""
    sampling = SamplingParams(max_tokens=tokens, temperature=temperature, seed=number)
    order = WAYS if number % 2 == 0 else WAYS[::-1]
    return {way: _answer(loaded, way, prompt, sampling) for way in order}


def _rows(loaded: LoadedModel, asked: Parallel) -> dict[int, list[float]]:
    """Seconds of steps of 1, 2, ... rows of one sequence, all with logits, none kept."""
    runner, vocabulary = loaded.runner, loaded.vocabulary.size
    draw = np.random.default_rng(0)
    sequence = runner.open()
    found: dict[int, list[float]] = {rows: [] for rows in range(1, asked.rows + 1)}
    try:
        begun = draw.integers(0, vocabulary, DEPTH).astype(np.int32)
        runner.run(Step((Span.causal(sequence, begun, 0),)))
        runner.commit([Commit(sequence, np.arange(DEPTH, dtype=np.int32))])
        for _ in range(5 * asked.rounds):
            for rows, seconds in found.items():
                tokens = draw.integers(0, vocabulary, rows).astype(np.int32)
                span = Span.causal(sequence, tokens, DEPTH, np.arange(rows, dtype=np.int32))
                assert len(span.row_sets[LOGITS]) == rows
                began = time.perf_counter()
                runner.run(Step((replace(span, draft=True),)), copy=False)
                seconds.append(time.perf_counter() - began)
                runner.commit([Commit(sequence, np.zeros(0, np.int32))])
    finally:
        runner.close(sequence)
    return found


def _beside_peers(
    loaded: LoadedModel, prompts: Prompts, asked: Parallel, peers: Sequence[Peer]
) -> dict[str, list[float]]:
    """Tokens a second of one sequence: both ways over some prompts, and the peers' plain decoding."""
    sampling = SamplingParams(max_tokens=asked.tokens, temperature=0.0)
    work = Work("decode", 1, 1, asked.tokens)

    def ours(way: Decoding, turn: int) -> float:
        return _rate([_answer(loaded, way, prompt, sampling) for prompt in prompts])

    def theirs(peer: Peer, setting: str, turn: int) -> float:
        return peer.measure(work, setting, turn).rate

    sides: dict[str, Callable[[int], float]] = {way: partial(ours, way) for way in WAYS}
    for peer in peers:
        for setting in peer.settings:
            sides[f"{peer.name} {setting}".strip()] = partial(theirs, peer, setting)
    return alternate(sides, asked.rounds)


def _rate(answers: Sequence[Answer]) -> float:
    """Tokens a second behind the first ones."""
    tokens = sum(len(answer.tokens) - 1 for answer in answers)
    return tokens / sum(answer.timings.decode_seconds for answer in answers)


def _batch(loaded: LoadedModel, prompts: Prompts, asked: Parallel) -> dict[str, list[float]]:
    """Tokens a second of many requests at once, their prompts read too; none ends early."""
    sampling = SamplingParams(max_tokens=asked.tokens, temperature=0.0, ignore_eos=True)
    given = [prompts[number % len(prompts)] for number in range(asked.requests)]

    def together(way: Decoding, turn: int) -> float:
        engine = Engine(loaded, EngineOptions(len(given), len(given), prefix_cache=False, decoding=way))
        began = time.perf_counter()
        try:
            found = engine.generate(given, sampling)
        finally:
            engine.close()
        return sum(len(one.tokens) for one in found) / (time.perf_counter() - began)

    return alternate({way: partial(together, way) for way in WAYS}, asked.rounds)
