"""Our side and its peers on the same works, in alternating rounds, each with the memory's bandwidth."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from fivefold.backends import drafter_bytes
from fivefold.engine import LoadedModel
from fivefold.executor import read_bandwidth
from fivefold.formats import ENTRY_FORMATS
from fivefold.ops import Cost
from fivefold.plan import step_cost
from fivefold.program import head_of

from .peers import Peer
from .processor_time import IdleShares
from .rounds import alternate
from .speed import Depths, batch_timeline, decode_rate, prefill_rate
from .work import Reading, Work

OURS = "fivefold"
BANDWIDTH_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """One side on one work: its rounds in its best setting, and the medians of all that were tried."""

    readings: tuple[Reading, ...]
    setting: str = ""
    tried: Mapping[str, float] = field(default_factory=dict)

    @property
    def rates(self) -> tuple[float, ...]:
        """Tokens a second of each round."""
        return tuple(reading.rate for reading in self.readings)

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rates)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All sides on all works, ours first, and the bandwidth of each round in bytes a second."""

    outcomes: tuple[dict[str, Outcome], ...]
    bandwidths: tuple[float, ...]
    versions: Mapping[str, str]
    idle_shares: Mapping[str, float]

    @property
    def bandwidth(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.bandwidths)


def compare(loaded: LoadedModel, works: Sequence[Work], peers: Sequence[Peer], rounds: int) -> Comparison:
    """Measure `works` one after the other with all sides in turn, `rounds` times after one warm-up."""
    depths = Depths(loaded.runner) if any(work.kind == "depth" for work in works) else None
    size = int(work_cost(loaded, works[0]).weight_bytes)
    idle = IdleShares()
    waiting = {peer.name: peer.process for peer in peers if peer.process is not None}
    try:
        sides: dict[tuple[int, str, str], Callable[[int], Reading]] = {}
        for place, work in enumerate(works):
            sides[place, OURS, ""] = _watched(_ours(loaded, work, depths), idle, waiting)
            for peer in peers:
                for setting in peer.settings:
                    others = {name: number for name, number in waiting.items() if name != peer.name}
                    sides[place, peer.name, setting] = _watched(
                        partial(peer.measure, work, setting), idle, others
                    )
        threads = loaded.settings.threads
        sides[-1, "memory", ""] = lambda turn: Reading(read_bandwidth(threads, size, BANDWIDTH_SECONDS))
        found = alternate(sides, rounds)
    finally:
        if depths is not None:
            depths.close()
    memory = found.pop((-1, "memory", ""))
    return Comparison(
        tuple(_best(found, place) for place in range(len(works))),
        tuple(reading.rate for reading in memory),
        {peer.name: peer.version for peer in peers if peer.version},
        idle.shares,
    )


def work_cost(loaded: LoadedModel, work: Work) -> Cost:
    """What a step takes: one token of each request at half the length it writes, or the whole prompt."""
    stored = {tensor.name: float(tensor.stored_bytes) for tensor in loaded.checkpoint.tensors.values()}
    if loaded.drafter is not None:
        own = drafter_bytes(loaded.drafter, head_of(loaded.model))
        stored |= {name: float(size) for name, size in own.items()}
    form = ENTRY_FORMATS[loaded.settings.cache_format]
    if work.kind == "prefill":
        return step_cost(loaded.model.main, stored, work.prompt, 0, entries=form)
    before = 0 if work.kind == "decode" else work.prompt
    one = step_cost(loaded.model.main, stored, 1, before + work.tokens // 2, entries=form)
    return replace(one, flops=one.flops * work.requests, cache_bytes=one.cache_bytes * work.requests)


def _ours(loaded: LoadedModel, work: Work, depths: Depths | None) -> Callable[[int], Reading]:
    if work.kind == "decode":
        return lambda turn: Reading(decode_rate(loaded.runner, work.tokens))
    if work.kind == "prefill":
        return lambda turn: Reading(prefill_rate(loaded.runner, work.prompt))
    if work.kind == "depth":
        assert depths is not None
        return lambda turn: Reading(depths.rate(work.prompt, work.tokens))
    return lambda turn: batch_timeline(loaded, work, turn).reading(work)


def _watched(
    measure: Callable[[int], Reading], idle: IdleShares, waiting: Mapping[str, int]
) -> Callable[[int], Reading]:
    """A measure during which the peers that wait are watched."""

    def watched(turn: int) -> Reading:
        with idle.watching(waiting if turn else {}):
            return measure(turn)

    return watched


def _best(found: Mapping[tuple[int, str, str], list[Reading]], wanted: int) -> dict[str, Outcome]:
    """Each side of one work in the setting whose median is highest."""
    outcomes: dict[str, Outcome] = {}
    for (place, name, setting), readings in found.items():
        if place != wanted:
            continue
        outcome = Outcome(tuple(readings), setting)
        before = outcomes.get(name)
        tried = {**(before.tried if before else {}), setting: outcome.median}
        best = before if before is not None and before.median >= outcome.median else outcome
        outcomes[name] = Outcome(best.readings, best.setting, tried)
    return outcomes
