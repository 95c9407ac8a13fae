"""The figures of servers under load, under the keys that `docs/bench.md` lists, and as lines for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .load.plan import Plan
from .machine import describe_machine
from .report import BUSY_IDLE
from .serving import Figures, Serving, median_of, percentiles_of, rounds_of
from .summary import ratio, spread

RATES = {
    "steady": ("output_tokens_per_second", "requests_per_second", "tokens_per_chunk"),
    "long-prefill": (
        "p99_ratio",
        "long_ttft_seconds",
        "chunks_per_second_without",
        "chunks_per_second_during",
    ),
}
TIMES = {
    "steady": ("ttft_seconds", "gap_seconds", "end_to_end_seconds"),
    "long-prefill": ("gap_seconds_without", "gap_seconds_during"),
}
COUNTS = {"steady": ("output_tokens", "prompt_tokens"), "long-prefill": ("long_prompt_tokens",)}
COMPARED = {
    "steady": ("output_tokens_per_second", "requests_per_second"),
    "long-prefill": ("p99_ratio", "long_ttft_seconds"),
}
BUSY_GENERATOR = 0.25


def scenario_of(plan: Plan) -> str:
    """The scenario's name."""
    return "steady" if plan.long is None else "long-prefill"


def serve_report(plan: Plan, serving: Serving, subject: Mapping[str, Any]) -> dict[str, Any]:
    """All figures; `subject` names the model, the instruction set and the threads of our side."""
    machine = describe_machine()
    scenario = scenario_of(plan)
    sides = {name: _side(scenario, rounds) for name, rounds in serving.rounds.items()}
    for name, share in serving.idle_shares.items():
        sides[name]["idle_processor_share"] = round(share, 4)
    ours = next(iter(sides))
    return {
        "work": "serve",
        "scenario": scenario,
        "loop": "open" if plan.rate else "closed",
        **subject,
        "processor": machine["processor"],
        "machine": machine,
        "read_bandwidth": round(statistics.median(serving.bandwidths)),
        "read_bandwidth_rounds": [round(bandwidth) for bandwidth in serving.bandwidths],
        "endpoint": plan.endpoint,
        "clients": plan.clients,
        "requests": plan.requests,
        "seconds": plan.seconds,
        "rate": plan.rate,
        "prompt_words": plan.words,
        "shared_words": plan.shared,
        "tokens": plan.tokens,
        "long_words": plan.long.words if plan.long else 0,
        "seed": plan.seed,
        "sides": sides,
        "ratios": {
            name: _ratios(scenario, sides[ours], side) for name, side in sides.items() if name != ours
        },
    }


def _side(scenario: str, rounds: Sequence[Figures]) -> dict[str, Any]:
    side: dict[str, Any] = {key: spread(rounds_of(rounds, key), 4) for key in RATES[scenario]}
    for key in TIMES[scenario]:
        found = percentiles_of(rounds, key)
        side[key] = found and {name: spread(values, 6) for name, values in found.items()}
    return {
        **side,
        **{key: median_of(rounds, key) for key in COUNTS[scenario]},
        "errors": sum(figures["errors"] for figures in rounds),
        "first_error": next((figures["first_error"] for figures in rounds if figures["first_error"]), ""),
        "short_answers": sum(figures["short_answers"] for figures in rounds),
        "tokens_counted": all(figures["tokens_counted"] for figures in rounds),
        "generator_processor_share": round(max(rounds_of(rounds, "generator_processor_share")), 4),
    }


def _ratios(scenario: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our medians over theirs: of rates, more is better; of times, less."""
    found: dict[str, Any] = {
        key: ratio(ours[key]["median"], theirs[key]["median"]) for key in COMPARED[scenario]
    }
    for key in TIMES[scenario]:
        if ours[key] and theirs[key]:
            found[key] = {
                name: ratio(value["median"], theirs[key][name]["median"]) for name, value in ours[key].items()
            }
    return found


def serve_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The report for people."""
    loop = f"{answer['rate']:g} requests/s (open loop)" if answer["rate"] else f"{answer['clients']} clients"
    read = answer["read_bandwidth"] / 1e9
    yield (
        f"{answer['processor']}, {answer['threads']} threads, reads {read:.1f} GB/s; "
        f"{loop}, {answer['endpoint']}, {answer['prompt_words']} words in, {answer['tokens']} tokens out"
    )
    for name, side in answer["sides"].items():
        yield from (_steady_lines if answer["scenario"] == "steady" else _prefill_lines)(name, side, answer)
        yield from _doubts(name, side)


def _steady_lines(name: str, side: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[str]:
    rate = side["output_tokens_per_second"]
    over = answer["ratios"].get(name, {}).get("output_tokens_per_second")
    yield (
        f"{name:<12}{rate['median']:>9.1f} tokens/s "
        f"({min(rate['rounds']):.1f} to {max(rate['rounds']):.1f}), "
        f"{side['requests_per_second']['median']:.2f} requests/s{f'   we are {over:.2f}x' if over else ''}"
    )
    yield _times("time to first token", side["ttft_seconds"])
    yield _times("gap between chunks", side["gap_seconds"]) + (
        f", {side['tokens_per_chunk']['median']:.2f} tokens a chunk"
    )
    yield _times("whole answer", side["end_to_end_seconds"])


def _prefill_lines(name: str, side: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{name:<12}gap p99 grows {side['p99_ratio']['median']:.2f}x while "
        f"{side['long_prompt_tokens']:.0f} tokens are read in {side['long_ttft_seconds']['median']:.2f} s"
    )
    yield _times("gap before it", side["gap_seconds_without"])
    yield _times("gap meanwhile", side["gap_seconds_during"])


def _times(what: str, percentiles: Mapping[str, Any] | None) -> str:
    if not percentiles:
        return f"   {what:<22}no figures"
    told = "  ".join(f"{name} {value['median'] * 1e3:.1f}" for name, value in percentiles.items())
    return f"   {what:<22}{told} ms"


def _doubts(name: str, side: Mapping[str, Any]) -> Iterator[str]:
    """What makes a side's figures less than clean."""
    if side["errors"]:
        yield f"   {side['errors']} requests failed: {side['first_error']}"
    if side["short_answers"]:
        yield f"   {side['short_answers']} answers were too short: {name} may not know ignore_eos"
    if not side["tokens_counted"]:
        yield "   it reports no usage: tokens are counted as chunks"
    if side.get("idle_processor_share", 0.0) > BUSY_IDLE:
        yield f"   it took {side['idle_processor_share']:.0%} of a processor while idle"
    if side["generator_processor_share"] > BUSY_GENERATOR:
        yield f"   the load generator took {side['generator_processor_share']:.0%} of a processor"
