"""How cost grows: a step's time against the depth of the cache, against its rows, and a prompt's against its
length, each with a fit that a cliff would stand out from.

What should be: a decoding step grows in a line with depth; a prompt of n tokens takes its products with the
weights n times and its attention n^2 times, so a parabola; a step of many sequences costs one pass over the
weights until arithmetic is the limit, and from there on a line.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fivefold.core.batch import Commit, Span, Step
from fivefold.core.errors import InputError
from fivefold.core.layout import PAGE_SIZE
from fivefold.core.runner import Runner
from fivefold.engine import LoadedModel
from fivefold.executor import read_bandwidth

from .compare import BANDWIDTH_SECONDS, Comparison, work_cost
from .report import machine_line, subject_figures
from .rounds import alternate
from .speed import Depths, prefill_rate
from .summary import Curve, fit_bent, fit_curve, polynomial, spread
from .work import Work

UNITS = {"depth": "entries", "length": "tokens", "rows": "rows"}
STEPS = 8
DEPTH_STEPS = 16


@dataclass(frozen=True, slots=True)
class GrowthSetup:
    """Which depths, prompt lengths and numbers of rows to measure, each rising."""

    depths: Sequence[int]
    lengths: Sequence[int]
    rows: Sequence[int]

    @property
    def curves(self) -> Mapping[str, Sequence[int]]:
        """What is measured, by name."""
        return {"depth": self.depths, "length": self.lengths, "rows": self.rows}


def measure_growth(loaded: LoadedModel, setup: GrowthSetup, rounds: int) -> dict[str, Any]:
    """The figures of `bench growth` under the keys that docs/bench.md lists.

    InputError, before anything is measured, for what the context or the cache cannot hold.
    """
    _check(loaded, setup)
    depths = Depths(loaded.runner)
    size = int(work_cost(loaded, Work("decode", 1, 1, 1)).weight_bytes)
    sides: dict[tuple[str, int], Callable[[int], float]] = {
        ("memory", 0): lambda turn: read_bandwidth(loaded.settings.threads, size, BANDWIDTH_SECONDS)
    }
    for depth in setup.depths:
        sides["depth", depth] = partial(_depth_seconds, depths, depth, depth == setup.depths[-1])
    for length in setup.lengths:
        sides["length", length] = partial(_length_seconds, loaded.runner, length)
    for rows in setup.rows:
        sides["rows", rows] = partial(_rows_seconds, loaded.runner, rows)
    try:
        found = alternate(sides, rounds)
    finally:
        depths.close()
    bandwidths = found.pop(("memory", 0))
    return {
        "work": "growth",
        **subject_figures(loaded, Comparison((), tuple(bandwidths), {}, {})),
        "curves": {
            name: _curve(name, places, [found[name, place] for place in places])
            for name, places in setup.curves.items()
        },
    }


def _check(loaded: LoadedModel, setup: GrowthSetup) -> None:
    longest = max(setup.depths[-1] + DEPTH_STEPS, setup.lengths[-1])
    if longest > loaded.context:
        raise InputError(
            f"a prompt of {setup.lengths[-1]} tokens or a depth of {setup.depths[-1]} and {DEPTH_STEPS} "
            f"steps is more than the context of {loaded.context}",
            where="--depths or --lengths", remedy="give fewer",
        )  # fmt: skip
    most = min(loaded.runner.max_rows, loaded.runner.figures().capacity // PAGE_SIZE)
    if setup.rows[-1] > most:
        raise InputError(
            f"a step has no room for {setup.rows[-1]} sequences", where="--rows", remedy=f"give up to {most}"
        )


def growth_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The report for people."""
    yield machine_line(answer)
    for name, curve in answer["curves"].items():
        yield f"{'':<4}{name}: " + ("a step takes" if name != "length" else "the prompt takes")
        for place, point in zip(curve["places"], curve["seconds"], strict=True):
            low, high = min(point["rounds"]), max(point["rounds"])
            yield (
                f"{place:>8} {UNITS[name]:<8}{point['median'] * 1e3:>10.2f} ms"
                f" ({low * 1e3:.2f} to {high * 1e3:.2f})"
            )
        fit = curve["fit"]
        if fit is not None:
            terms = polynomial([each * 1e6 for each in fit["seconds"]], 4)
            yield (
                f"{'':<4}fit: {terms} us; deviation {fit['relative_residual']:.1%}, "
                f"at most {fit['largest_excess']:+.1%} at {fit['largest_excess_at']:.0f}, "
                f"a jump of {fit['largest_jump']:+.1%} at {fit['largest_jump_at']:.0f}"
            )
            if fit["floor_seconds"] is not None:
                yield f"{'':<4}but {fit['floor_seconds'] * 1e6:.4g} us up to {fit['flat_to']:.0f}"


def _curve(name: str, places: Sequence[int], rounds: Sequence[Sequence[float]]) -> dict[str, Any]:
    medians = [statistics.median(times) for times in rounds]
    across = [float(place) for place in places]
    fit = (
        fit_bent(across, medians)
        if name == "rows"
        else fit_curve(across, medians, 2 if name == "length" else 1)
    )
    return {
        "places": list(places),
        "seconds": [spread(times, 9) for times in rounds],
        "fit": None if fit is None else _fit_figures(fit),
    }


def _fit_figures(fit: Curve) -> dict[str, Any]:
    return {
        "seconds": [float(f"{each:.6g}") for each in fit.coefficients],
        "relative_residual": round(fit.residual, 4),
        "largest_excess": round(fit.excess, 4),
        "largest_excess_at": fit.excess_at,
        "largest_jump": round(fit.jump, 4),
        "largest_jump_at": fit.jump_at,
        "floor_seconds": None if fit.floor is None else float(f"{fit.floor:.6g}"),
        "flat_to": fit.flat_to,
    }


def _depth_seconds(depths: Depths, depth: int, last: bool, turn: int) -> float:
    """A decoding step with so many entries in the cache, which after the last depth are given back."""
    seconds = 1.0 / depths.rate(depth, DEPTH_STEPS)
    if last:
        depths.rest()
    return seconds


def _length_seconds(runner: Runner, length: int, turn: int) -> float:
    """A prompt of so many tokens, to its first logits."""
    return length / prefill_rate(runner, length)


def _rows_seconds(runner: Runner, rows: int, turn: int) -> float:
    """A step with one row of each of so many sequences, which have a few entries each: the median of some."""
    sequences = [runner.open() for _ in range(rows)]
    token = np.array([1], np.int32)
    taken = []
    try:
        for position in range(STEPS):
            began = time.perf_counter()
            runner.run(Step(tuple(Span.causal(each, token, position) for each in sequences)))
            taken.append(time.perf_counter() - began)
            runner.commit(tuple(Commit(each, np.zeros(1, np.int32)) for each in sequences))
    finally:
        for each in sequences:
            runner.close(each)
    return statistics.median(taken)
