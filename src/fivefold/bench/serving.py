"""Servers under load, ours and its peers', in alternating rounds.

Every server is loaded before the first round; one is under load at a time, and the others are idle. In each
round all servers get the same plan, and the next round's prompts are others.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fivefold.core.errors import FivefoldError

from .load.plan import LongPrompt, Plan
from .load_figures import prefill_figures, steady_figures
from .load_process import generate_load
from .processor_time import IdleShares
from .rounds import alternate
from .servers import Server

WARM_UP_REQUESTS = 2
"""Requests of each client in the warm-up."""

MEMORY = "memory"
IDLE_PAUSE = 0.5
"""Seconds before a round, so that what the last one left behind has ended."""

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Serving:
    """Each server's figures, round after round; how busy it was while idle; the memory's bandwidth."""

    rounds: Mapping[str, Sequence[Figures]]
    idle_shares: Mapping[str, float]
    bandwidths: Sequence[float]


def measure_servers(
    servers: Sequence[Server], plan: Plan, rounds: int, bandwidth: Callable[[], float]
) -> Serving:
    """One short warm-up and `rounds` rounds of the plan on each server in turn. `plan.base` is not used."""
    idle = IdleShares()
    sides: dict[str, Callable[[int], Figures]] = {
        server.name: _side(server, [other for other in servers if other is not server], plan, idle)
        for server in servers
    }
    sides[MEMORY] = lambda turn: {MEMORY: bandwidth()}
    found = alternate(sides, rounds)
    memory = [figures[MEMORY] for figures in found.pop(MEMORY)]
    return Serving(found, idle.shares, memory)


def _side(server: Server, others: Sequence[Server], plan: Plan, idle: IdleShares) -> Callable[[int], Figures]:
    """A server's round; the processor time that the others take meanwhile is noted."""
    waiting = {other.name: other.process.number for other in others if other.process is not None}

    def measure(turn: int) -> Figures:
        time.sleep(IDLE_PAUSE)
        asked = plan_of_turn(replace(plan, base=server.base, model=server.model(plan.key)), turn)
        try:
            with idle.watching(waiting if turn else {}):
                load = generate_load(asked)
            figures = (prefill_figures if asked.long else steady_figures)(asked, load)
        except FivefoldError:
            if server.process is not None:
                server.process.check()
            raise
        return figures

    return measure


def plan_of_turn(plan: Plan, turn: int) -> Plan:
    """The plan with this round's prompts; in the warm-up, turn 0, a few requests of each kind only."""
    seeded = replace(plan, seed=plan.seed * 1000 + turn)
    if turn:
        return seeded
    if plan.long is not None:
        return replace(seeded, long=LongPrompt(plan.words, min(1.0, plan.long.seconds)))
    few = plan.clients * WARM_UP_REQUESTS
    few = min(plan.requests, few) if plan.requests else few
    return replace(seeded, requests=few, seconds=0.0, rate=0.0)


def rounds_of(rounds: Sequence[Figures], key: str) -> list[float]:
    """One figure of each round."""
    return [float(figures[key]) for figures in rounds]


def percentiles_of(rounds: Sequence[Figures], key: str) -> dict[str, list[float]] | None:
    """One set of percentiles of each round, by percentile; None when a round has none."""
    found = [figures[key] for figures in rounds]
    if any(each is None for each in found):
        return None
    return {name: [each[name] for each in found] for name in found[0]}


def median_of(rounds: Sequence[Figures], key: str) -> float:
    """The median over the rounds."""
    return statistics.median(rounds_of(rounds, key))
