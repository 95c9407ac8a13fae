"""The figures of speed measurements under the keys that `docs/bench.md` lists, and as lines for people.

Nothing here names a path of the machine: a model is known by its file's name and its SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fivefold.engine import LoadedModel

from .compare import OURS, Comparison, Outcome, work_cost
from .machine import describe_machine
from .summary import Line, fit_line, ratio, spread
from .work import Work

BUSY_IDLE = 0.02
"""Share of a processor above which something that waits is told about."""


def model_figures(path: Path) -> dict[str, Any]:
    """A model's name and, if it is a file, its hash."""
    if not path.is_file():
        return {"model": path.name, "sha256": None}
    with path.open("rb") as file:
        return {"model": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def speed_report(loaded: LoadedModel, work: Work, comparison: Comparison) -> dict[str, Any]:
    """Figures of decode, prefill or batch: one work."""
    outcomes = comparison.outcomes[0]
    cost = work_cost(loaded, work)
    moved = int(cost.weight_bytes + cost.cache_bytes)
    answer = {
        "work": work.kind,
        **subject_figures(loaded, comparison),
        "tokens": work.prompt if work.kind == "prefill" else work.tokens,
        "step_bytes": moved,
        "step_flops": int(cost.flops),
        "sides": {name: _side(work, outcome) for name, outcome in outcomes.items()},
        "ratios": ratios(outcomes),
    }
    if work.kind == "batch":
        answer |= {"requests": work.requests, "prompt_tokens": work.prompt}
        answer["ratios_whole"] = _ratios(
            {name: side["whole"]["median"] for name, side in answer["sides"].items()}
        )
    if work.kind != "prefill":
        steps = outcomes[OURS].median / work.requests
        answer["share_of_bandwidth"] = round(steps * moved / comparison.bandwidth, 3)
    return answer


def depth_report(loaded: LoadedModel, works: Sequence[Work], comparison: Comparison) -> dict[str, Any]:
    """Figures of decoding at several depths: a rate for each, and the line of a step's time against depth."""
    sides: dict[str, Any] = {}
    for name in comparison.outcomes[0]:
        found = [outcomes[name] for outcomes in comparison.outcomes]
        depths = [
            {"depth": work.prompt, **_side(work, outcome)} for work, outcome in zip(works, found, strict=True)
        ]
        # One point for each round, so that the residual holds the machine's noise too.
        points = [
            (work.prompt, 1.0 / rate)
            for work, outcome in zip(works, found, strict=True)
            for rate in outcome.rates
        ]
        line = fit_line([depth for depth, _ in points], [seconds for _, seconds in points])
        sides[name] = {"depths": depths, "fit": line_figures(line)}
    return {
        "work": "depth",
        **subject_figures(loaded, comparison),
        "tokens": works[0].tokens,
        "depths": [work.prompt for work in works],
        "sides": sides,
        "ratios": {
            name: [ratios(outcomes).get(name) for outcomes in comparison.outcomes]
            for name in sides
            if name != OURS
        },
    }


def line_figures(line: Line | None) -> dict[str, float] | None:
    """A fit's figures in seconds, and its share of the variance."""
    if line is None:
        return None
    return {
        "base_seconds": round(line.base, 9),
        "seconds_per_entry": round(line.slope, 12),
        "residual_seconds": round(line.residual, 9),
        "r_squared": round(line.r_squared, 4),
    }


def ratios(outcomes: Mapping[str, Outcome]) -> dict[str, float | None]:
    """Our median over each peer's."""
    return _ratios({name: outcome.median for name, outcome in outcomes.items()})


def speed_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The report for people."""
    yield machine_line(answer)
    for name, share in answer["idle_processor_shares"].items():
        if share > BUSY_IDLE:
            yield f"{name} took {share:.0%} of a processor while others were measured"
    if answer["work"] == "depth":
        yield from _depth_lines(answer)
        return
    what = f"{answer['work']} {answer['tokens']}"
    if "requests" in answer:
        what = f"batch {answer['requests']} x {answer['tokens']}"
    for name, side in answer["sides"].items():
        yield rate_line(f"{what}  {name}", side, answer["ratios"].get(name))
        if "whole" in side:
            yield rate_line(
                "   with the reading of the prompts", side["whole"], answer["ratios_whole"].get(name)
            )
    if "share_of_bandwidth" in answer:
        share = f"{answer['share_of_bandwidth']:.0%} of the bandwidth"
        yield f"a step reads {answer['step_bytes'] / 1e6:.1f} MB: {share}"


def machine_line(answer: Mapping[str, Any]) -> str:
    """Processor, threads, bandwidth."""
    read = f"reads {answer['read_bandwidth'] / 1e9:.1f} GB/s over the model's own size"
    return f"{answer['processor']}, {answer['instruction_set']}, {answer['threads']} threads, {read}"


def rate_line(what: str, side: Mapping[str, Any], over: float | None) -> str:
    """One side's tokens a second, from its slowest to its fastest round, and our ratio to it."""
    low, high = min(side["rounds"]), max(side["rounds"])
    versus = f"   we are {over:.2f}x" if over else ""
    setting = f"   ({side['setting']})" if side.get("setting") else ""
    return f"{what:<40}{side['median']:>9.1f} tokens/s ({low:.1f} to {high:.1f}){versus}{setting}"


def _depth_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    for place, depth in enumerate(answer["depths"]):
        for name, side in answer["sides"].items():
            over = answer["ratios"].get(name)
            yield rate_line(f"depth {depth}  {name}", side["depths"][place], over[place] if over else None)
    for name, side in answer["sides"].items():
        fit = side["fit"]
        if fit is not None:
            yield (
                f"{name}: a step takes {fit['base_seconds'] * 1e3:.2f} ms and "
                f"{fit['seconds_per_entry'] * 1e6:.2f} ms more for each 1000 entries "
                f"(residual {fit['residual_seconds'] * 1e3:.2f} ms)"
            )


def subject_figures(loaded: LoadedModel, comparison: Comparison) -> dict[str, Any]:
    """What was measured, and where."""
    settings = loaded.settings
    machine = describe_machine()
    return {
        **model_figures(loaded.checkpoint.path),
        "processor": machine["processor"],
        "machine": machine,
        "instruction_set": settings.isa,
        "threads": settings.threads,
        "activations": settings.activations,
        "cache_format": settings.cache_format,
        "read_bandwidth": round(comparison.bandwidth),
        "read_bandwidth_rounds": [round(bandwidth) for bandwidth in comparison.bandwidths],
        "versions": dict(comparison.versions),
        "idle_processor_shares": {name: round(share, 4) for name, share in comparison.idle_shares.items()},
    }


def _side(work: Work, outcome: Outcome) -> dict[str, Any]:
    side = spread(outcome.rates)
    if work.kind == "batch":
        side["whole"] = spread([reading.whole for reading in outcome.readings])
    if outcome.setting:
        side["setting"] = outcome.setting
        side["tried"] = {name: round(median, 2) for name, median in outcome.tried.items()}
    return side


def _ratios(medians: Mapping[str, float]) -> dict[str, float | None]:
    return {name: ratio(medians[OURS], median) for name, median in medians.items() if name != OURS}
