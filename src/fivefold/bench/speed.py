"""Speed of decoding and of reading a prompt, ours and a peer's in one alternating run.

Each round measures every side once, one after the other, and medians are compared: a machine that
drifts drifts for all. The read bandwidth is measured in the same run.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fivefold.core.batch import Commit, Span, Step
from fivefold.core.errors import FivefoldError, InputError
from fivefold.core.runner import Runner

Measure = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Side:
    """One side's tokens a second: each round, in order."""

    name: str
    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rates)


def decode_rate(runner: Runner, count: int) -> float:
    """Tokens a second of `count` greedy steps after one token, as llama-bench's tg counts them."""
    sequence = runner.open()
    try:
        token, began = 1, time.perf_counter()
        for position in range(count):
            span = Span.causal(sequence, np.array([token], np.int32), position)
            token = int(runner.run(Step((span,)))[0].argmax())
            runner.commit((Commit(sequence, np.zeros(1, np.int32)),))
        return count / (time.perf_counter() - began)
    finally:
        runner.close(sequence)


def prefill_rate(runner: Runner, count: int) -> float:
    """Tokens a second of a prompt of `count` tokens, logits for its last row."""
    sequence = runner.open()
    tokens = np.arange(1, count + 1, dtype=np.int32) % 1000 + 1
    try:
        began = time.perf_counter()
        for first in range(0, count, runner.max_rows):
            part = tokens[first : first + runner.max_rows]
            last = first + len(part) == count
            wanted = np.array([len(part) - 1] if last else [], np.int32)
            runner.run(Step((Span.causal(sequence, part, first, wanted),)))
            runner.commit((Commit(sequence, np.arange(len(part), dtype=np.int32)),))
        return count / (time.perf_counter() - began)
    finally:
        runner.close(sequence)


def llama_cpp(tool: Path, model: Path, work: str, count: int, threads: int) -> Measure:
    """A measure by llama.cpp's own `llama-bench` (a path to it or to its folder)."""
    program = tool / "llama-bench" if tool.is_dir() else tool
    if not program.is_file():
        raise InputError(
            "there is no llama-bench", where=str(tool), remedy="name the tool or the folder it lies in"
        )
    sizes = ["-p", "0", "-n", str(count)] if work == "decode" else ["-p", str(count), "-n", "0"]
    command = [str(program), "-m", str(model), "-t", str(threads), "-r", "1", "-o", "json", *sizes]

    def measure() -> float:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FivefoldError(f"llama-bench failed: {done.stderr.strip()[-200:]}", where=str(program))
        return float(json.loads(done.stdout)[0]["avg_ts"])

    return measure


def alternate(sides: dict[str, Measure], rounds: int) -> list[Side]:
    """One warm-up and `rounds` measured rounds of all sides, in turn."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, measure in sides.items():
            rate = measure()
            if turn:
                rates[name].append(rate)
    return [Side(name, tuple(values)) for name, values in rates.items()]
