"""What a policy adds to the time until the first token, and what choosing entries costs in all.

Reading a prompt takes seconds and scatters by more than eviction costs. So it is timed by itself; what a
policy adds is timed behind a beginning that the cache has already: each turn every side reads the same
number of new tokens behind it, alone, and goes on for three tokens. A draft is written behind the first
token, so a policy's cost is counted to the second one: its time less that of one more step (the third's)
and less that of the plain prompt's first token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fivefold.bench.summary import ratio, spread
from fivefold.bench.work import Work
from fivefold.cache.eviction import Draft, policy_named
from fivefold.core.errors import FivefoldError
from fivefold.core.request import EvictionChoice, Request, SamplingParams
from fivefold.engine import Engine, EngineOptions, LoadedModel

PLAIN, LEARNED, DRAFT, CHEAP = "plain", "lookahead", "laq", "snapkv"
TAIL = 64
"""New tokens of a prompt at least, behind a beginning that was read before."""
WRITTEN = 3
Sides = dict[str, Callable[[int], Any]]
Turned = Callable[[Sides, int], dict[str, list[Any]]]
Times = tuple[float, ...]


def measure_first(
    loaded: LoadedModel, length: int, budget: int, rounds: tuple[int, int], turned: Turned
) -> dict[str, Any]:
    """Seconds that a prompt takes, and what each side adds; `rounds` of whole prompts, and of the sides."""
    whole, each = rounds
    plain = turned(
        {PLAIN: lambda turn: _times(loaded, "none", budget, _prompt(loaded, length, turn))[0]}, whole
    )
    base = spread(plain[PLAIN], 4)
    begun = _prompt(loaded, length, 0)[: max(length - TAIL, 1)]
    _times(loaded, "none", budget, begun, shared=True)
    sides: Sides = {
        name: partial(_behind, side, name.partition("_")[0], budget, (begun, length, place))
        for place, (name, side) in enumerate(_ways(loaded).items())
    }
    found = turned(sides, each)
    made = {name: _side(found[PLAIN], times, base["median"]) for name, times in found.items()}
    alike = next((made[name] for name in made if name.startswith(f"{LEARNED}_")), made.get(LEARNED))
    if alike is not None:
        beyond = alike["cost_seconds"]["median"]
        drafted = made[DRAFT]["cost_seconds"]["median"]
        made[DRAFT]["over_lookahead"] = ratio(drafted, beyond) if beyond > 0 else None
    return {"first_seconds": base, "budget": budget, "sides": made}


def _side(plain: Sequence[Times], times: Sequence[Times], whole: float) -> dict[str, Any]:
    """What a side adds, each turn against the plain one of the same turn."""
    pairs = list(zip(times, plain, strict=True))
    first = spread([one[0] - other[0] for one, other in pairs], 5)
    cost = spread([2 * one[1] - one[2] - other[0] for one, other in pairs], 5)
    return {
        "more_seconds": first, "share_of_first": ratio(first["median"], whole, 5),
        "cost_seconds": cost, "cost_share_of_first": ratio(cost["median"], whole, 5),
    }  # fmt: skip


def _ways(loaded: LoadedModel) -> dict[str, LoadedModel]:
    """The model for each side; lookahead also with as many rows as a draft has tokens, `lookahead_8`."""
    found = {PLAIN: loaded, CHEAP: loaded, DRAFT: loaded}
    module, probe = loaded.lookahead, policy_named(DRAFT).observation(1).probe
    if module is None:
        return found
    assert isinstance(probe, Draft)
    found[LEARNED] = loaded
    if module.rows > probe.tokens:
        fewer = replace(module, embeddings=module.embeddings[: probe.tokens])
        found[f"{LEARNED}_{probe.tokens}"] = loaded.with_lookahead(fewer)
    return found


def _prompt(loaded: LoadedModel, length: int, *drawn: int) -> list[int]:
    """Random tokens, the same for the same numbers."""
    (prompt,) = Work("prefill", 1, length, 1).prompts(loaded.vocabulary.size, (length, *drawn))
    return prompt


def _behind(
    loaded: LoadedModel, side: str, budget: int, prompt: tuple[list[int], int, int], turn: int
) -> Times:
    """Times of a prompt whose beginning is read already; its end is new in each turn and side."""
    begun, length, place = prompt
    tail = _prompt(loaded, length - len(begun), turn, place)
    return _times(loaded, "none" if side == PLAIN else side, budget, begun + tail, shared=True)


def _times(
    loaded: LoadedModel, policy: str, budget: int, prompt: Sequence[int], shared: bool = False
) -> Times:
    """Seconds from the request to each of its tokens; `shared`: what the cache has is not read again."""
    choice = EvictionChoice() if policy == "none" else EvictionChoice(policy, budget)
    engine = Engine(loaded, EngineOptions(1, 1, shared, eviction=choice, decoding="autoregressive"))
    sampling = SamplingParams(max_tokens=WRITTEN, temperature=0.0, ignore_eos=True)
    times: list[float] = []
    try:
        began = time.perf_counter()
        engine.submit(Request("first", tuple(prompt), sampling))
        while engine.busy:
            for event in engine.step():
                if event.error is not None:
                    raise event.error
                times += [time.perf_counter() - began] * len(event.tokens)
    finally:
        engine.close()
    if len(times) < WRITTEN:
        raise FivefoldError("fewer tokens came than were asked for", where="time to first token")
    return tuple(times)


def first_lines(first: Mapping[str, Any]) -> list[str]:
    """The figures of all lengths for people."""
    lines: list[str] = []
    for length, found in first.items():
        lines.append(f"{length} tokens  plain        first token {found['first_seconds']['median']:.3f} s")
        for name, side in found["sides"].items():
            if name == PLAIN:
                continue
            over = f", draft over lookahead {side['over_lookahead']}" if side.get("over_lookahead") else ""
            lines.append(
                f"{length} tokens  {name:<12} first token {side['more_seconds']['median'] * 1e3:+.1f} ms "
                f"({side['share_of_first']:+.2%} of plain), choosing and evicting in all "
                f"{side['cost_seconds']['median'] * 1e3:.1f} ms ({side['cost_share_of_first']:.2%}){over}"
            )
    return lines
