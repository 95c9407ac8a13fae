"""What eviction costs and what it saves, through the engine that serves: time to the first tokens, decoding
far into a text, and many conversations in a cache that holds two.

Sides take turns in one process, and the memory's bandwidth is measured in each round. Each part is kept in a
file of records when it is done, if one is named, so that a stopped measurement goes on.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fivefold.bench.compare import BANDWIDTH_SECONDS, Comparison, work_cost
from fivefold.bench.report import machine_line, subject_figures
from fivefold.bench.rounds import alternate
from fivefold.bench.speed import decode_seconds, read_tokens
from fivefold.bench.summary import ratio, spread
from fivefold.bench.work import Timeline, Work
from fivefold.cache.eviction import Evidence, policy_named
from fivefold.core.errors import FivefoldError, InputError
from fivefold.core.request import EvictionChoice, Request, SamplingParams
from fivefold.engine import Engine, EngineOptions, LoadedModel
from fivefold.engine.selecting import Evicted
from fivefold.executor import read_bandwidth

from .first_token import CHEAP, LEARNED, PLAIN, Sides, Turned, first_lines, measure_first
from .state import State

ENDLESS = 1e6
SLACK = 192
"""Entries of a conversation beside its own: half-full pages, and rows that observe."""
APART = 3
"""Tokens of the conversation before, after which the next one comes."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What is measured: prompts of these lengths and a budget for them; a depth and the budgets that decode
    there, so many tokens each time; conversations of so many tokens, of which the cache holds `held`.

    `turns` are the rounds of what a policy adds to a prompt, which are short.
    """

    lengths: tuple[int, ...] = (4096, 8000)
    budget: int = 256
    depth: int = 8000
    budgets: tuple[int, ...] = (256, 512)
    tokens: int = 32
    conversations: int = 16
    held: int = 2
    conversation: int = 6000
    written: int = 320
    rounds: int = 3
    turns: int = 15

    @property
    def entries(self) -> int:
        """Entries of the cache: what the conversations have, the same for all."""
        return self.held * (self.conversation + self.written + SLACK)


def measure_cost(loaded: LoadedModel, cost: Cost, state: Path | None = None) -> dict[str, Any]:
    """All figures under the keys of docs/bench.md. `loaded` has a cache of `cost.entries`.

    Parts that `state` has are not measured again.
    """
    longest = max(*cost.lengths, cost.depth + cost.tokens, cost.conversation + cost.written)
    if longest + 2 > loaded.context:
        raise InputError(f"{longest} tokens are more than the context of {loaded.context}", where="--cost",
                         remedy="take a model with a longer one")  # fmt: skip
    parts: dict[str, Callable[[Turned], dict[str, Any]]] = {
        f"first {length}": partial(_first, loaded, cost, length) for length in cost.lengths
    }
    parts["decode"] = partial(_decode, loaded, cost)
    parts["conversations"] = partial(_conversations, loaded, cost)
    held = State(state, _identity(loaded, cost), "part")
    for name, measure in parts.items():
        if name not in held.records:
            held.add([_measured(loaded, name, measure)])
    records = held.records
    bandwidths = tuple(rate for name in parts for rate in records[name]["bandwidths"])
    return {
        "work": "eviction-cost", **subject_figures(loaded, Comparison((), bandwidths, {}, {})),
        "lookahead_rows": None if loaded.lookahead is None else loaded.lookahead.rows,
        "first": {str(length): records[f"first {length}"]["found"] for length in cost.lengths},
        "decode": records["decode"]["found"], "conversations": records["conversations"]["found"],
    }  # fmt: skip


def _identity(loaded: LoadedModel, cost: Cost) -> dict[str, Any]:
    """What a file of records is of: figures of another machine or model do not belong into it."""
    told = subject_figures(loaded, Comparison((), (1.0,), {}, {}))
    names = ("sha256", "processor", "instruction_set", "threads", "cache_format")
    return {"work": "eviction-cost", **{name: told[name] for name in names}, "cost": asdict(cost)}


def _measured(loaded: LoadedModel, name: str, measure: Callable[[Turned], dict[str, Any]]) -> dict[str, Any]:
    """A part's record: its figures, and the memory's bandwidth in its rounds."""
    size = int(work_cost(loaded, Work("decode", 1, 1, 1)).weight_bytes)
    bandwidths: list[float] = []

    def turned(sides: Sides, rounds: int) -> dict[str, list[Any]]:
        """The sides in turn, and the memory with them."""
        memory = partial(read_bandwidth, loaded.settings.threads, size, BANDWIDTH_SECONDS)
        found = alternate({**sides, "memory": lambda turn: memory()}, rounds)
        bandwidths.extend(found.pop("memory"))
        return found

    found = measure(turned)
    return {"part": name, "found": found, "bandwidths": bandwidths}


def _first(loaded: LoadedModel, cost: Cost, length: int, turned: Turned) -> dict[str, Any]:
    return measure_first(loaded, length, cost.budget, (cost.rounds, cost.turns), turned)


def _decode(loaded: LoadedModel, cost: Cost, turned: Turned) -> dict[str, Any]:
    """Tokens a second at a depth, of the full cache and of evicted ones, beside the bytes that steps read."""
    runner, evicted = loaded.runner, Evicted(loaded.runner, loaded.model.layout)
    full = runner.open()
    opened = {PLAIN: full}
    try:
        read_tokens(runner, full, 0, cost.depth)
        for budget in cost.budgets:
            opened[str(budget)] = fork = runner.fork(full)
            evidence = Evidence(evicted.layers, evicted.kv_heads, cost.depth)
            evicted.keep(fork, policy_named("random").select(evidence, budget))
        sides: Sides = {
            name: partial(_rate, loaded, sequence, cost.depth, cost.tokens)
            for name, sequence in opened.items()
        }
        found = turned(sides, cost.rounds)
    finally:
        for sequence in opened.values():
            runner.close(sequence)
    moved = {
        name: _step_bytes(loaded, cost.depth if name == PLAIN else int(name), cost.tokens) for name in opened
    }
    rates = {name: spread(rounds) for name, rounds in found.items()}
    return {
        "depth": cost.depth, "tokens": cost.tokens,
        "sides": {name: _against(rates, moved, name) for name in opened},
    }  # fmt: skip


def _against(rates: Mapping[str, Any], moved: Mapping[str, int], name: str) -> dict[str, Any]:
    """A side's rate, over the full cache's, beside the ratio of bytes and the share of it that is reached."""
    speed = rates[name]["median"] / rates[PLAIN]["median"]
    fewer = moved[PLAIN] / moved[name]
    return {
        **rates[name], "step_bytes": moved[name], "over_plain": round(speed, 4),
        "bytes_ratio": round(fewer, 4), "share_of_bytes_ratio": round(speed / fewer, 4),
    }  # fmt: skip


def _rate(loaded: LoadedModel, sequence: int, depth: int, tokens: int, turn: int) -> float:
    """Tokens a second, forgotten afterwards."""
    try:
        return tokens / decode_seconds(loaded.runner, sequence, depth, tokens)
    finally:
        loaded.runner.truncate(sequence, depth)


def _step_bytes(loaded: LoadedModel, entries: int, tokens: int) -> int:
    """Bytes that a step reads with so many entries in the cache."""
    found = work_cost(loaded, Work("depth", 1, entries, tokens))
    return int(found.weight_bytes + found.cache_bytes)


def _conversations(loaded: LoadedModel, cost: Cost, turned: Turned) -> dict[str, Any]:
    """Tokens a second while all write: as many as a full cache holds, and all of them evicted; once each."""
    turned({}, 1)
    policy = CHEAP if loaded.lookahead is None else LEARNED
    choice = EvictionChoice(policy, cost.budget)
    held = Work("batch", cost.held, cost.conversation, cost.written)
    every = replace(held, requests=cost.conversations)

    sides = {PLAIN: (held, EvictionChoice()), policy: (every, choice)}
    found = {
        name: _staggered(loaded, work, eviction).reading(work) for name, (work, eviction) in sides.items()
    }
    made = {
        name: {
            "requests": sides[name][0].requests,
            "together": spread([one.rate]), "whole": spread([one.whole]),
        }
        for name, one in found.items()
    }  # fmt: skip
    over = ratio(found[policy].rate, found[PLAIN].rate)
    return {
        "prompt_tokens": cost.conversation, "tokens": cost.written, "budget": cost.budget,
        "cache_entries": loaded.runner.figures().capacity, "sides": made, "over_plain": over,
    }  # fmt: skip


def _staggered(loaded: LoadedModel, work: Work, eviction: EvictionChoice) -> Timeline:
    """When tokens of conversations come, each submitted when the one before it has begun to write.

    Prompts are read without regard to those who write, so that all write together in the end.
    """
    count = work.requests
    options = EngineOptions(count, count, False, ENDLESS, eviction, "autoregressive")
    engine = Engine(loaded, options)
    sampling = SamplingParams(max_tokens=work.tokens, temperature=0.0, ignore_eos=True)
    prompts = work.prompts(loaded.model.shape.vocabulary, 1)
    coming = deque(Request(str(name), tuple(prompt), sampling) for name, prompt in enumerate(prompts))
    written = [0] * count
    seconds: list[float] = []
    history: list[tuple[int, ...]] = []
    try:
        began = time.perf_counter()
        engine.submit(coming.popleft())
        while engine.busy:
            for event in engine.step():
                if event.error is not None:
                    raise event.error
                written[int(event.identity)] += len(event.tokens)
            seconds.append(time.perf_counter() - began)
            history.append(tuple(written))
            if coming and written[count - len(coming) - 1] >= APART:
                engine.submit(coming.popleft())
    finally:
        engine.close()
    if engine.figures().preemptions:
        raise FivefoldError("the cache was too small for the conversations", remedy="measure shorter ones")
    return Timeline(seconds, history)


def cost_lines(answer: Mapping[str, Any]) -> list[str]:
    """The figures for people."""
    lines = [machine_line(answer)]
    lines += first_lines(answer["first"])
    decode = answer["decode"]
    for name, side in decode["sides"].items():
        lines.append(
            f"depth {decode['depth']}  {name:<12} {side['median']:.1f} tokens/s, {side['over_plain']:.2f} of "
            f"plain; bytes {side['bytes_ratio']:.2f}, {side['share_of_bytes_ratio']:.0%} of that"
        )
    talk = answer["conversations"]
    for name, side in talk["sides"].items():
        lines.append(
            f"{side['requests']} conversations of {talk['prompt_tokens']}  {name:<12} "
            f"{side['together']['median']:.1f} tokens/s while all write, {side['whole']['median']:.1f} in all"
        )
    lines.append(f"with eviction {talk['over_plain']} of without")
    return lines
