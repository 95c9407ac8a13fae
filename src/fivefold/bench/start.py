"""What starting costs: from the command to the first piece of text, and the most memory it took.

Each start is a process of its own, `fivefold run` with one prompt. A cold one finds the model's file outside
the operating system's page cache, so that it is read from disk; a warm one finds it there. Programs and
libraries are warm in both.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fivefold.core.errors import FivefoldError
from fivefold.engine import LoadedModel
from fivefold.executor import read_bandwidth

from .compare import BANDWIDTH_SECONDS, OURS, Comparison, work_cost
from .last_words import LastWords
from .report import machine_line, subject_figures
from .rounds import alternate
from .summary import spread
from .work import Work

WEIGHT_SHARE = 1.15
BESIDE = 150_000_000
"""Bytes that a process may take beside its weights and its cache: Python, libraries, tokenizer, arena."""
KILOBYTE = 1024


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds to the first text, processor seconds of all, and most resident bytes until then."""

    first: float
    processor: float
    peak: int


def measure_start(loaded: LoadedModel, arguments: Sequence[str], rounds: int) -> dict[str, Any]:
    """The figures of `bench start` under the keys that docs/bench.md lists.

    `loaded` is the model as it runs, `arguments` those of `fivefold run` that load the same.
    """
    path = loaded.checkpoint.path
    files = [path] if path.is_file() else sorted(each for each in path.iterdir() if each.is_file())
    weights = int(work_cost(loaded, Work("decode", 1, 1, 1)).weight_bytes)
    command = [sys.executable, "-m", "fivefold", "run", *arguments, "-p", "Hello", "--max-tokens", "1"]
    sides = {
        "cold": partial(_start, command, files),
        "warm": partial(_start, command, ()),
    }
    found = alternate(sides, rounds)
    bandwidths = tuple(read_bandwidth(loaded.settings.threads, weights, BANDWIDTH_SECONDS) for _ in range(3))
    return {
        "work": "start",
        **subject_figures(loaded, Comparison((), bandwidths, {}, {})),
        "tokens": 1,
        "weight_bytes": weights,
        "resident_bound": int(WEIGHT_SHARE * weights) + BESIDE,
        "sides": {OURS: {name: _figures(starts) for name, starts in found.items()}},
        "ratios": {},
    }


def start_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The report for people."""
    yield machine_line(answer)
    for name, side in answer["sides"][OURS].items():
        first, peak = side["first_text_seconds"], side["peak_resident_bytes"]
        yield (
            f"{name:<6}first text after {first['median']:.2f} s ({min(first['rounds']):.2f} to "
            f"{max(first['rounds']):.2f}), {side['processor_seconds']['median']:.2f} s of processors; "
            f"at most {peak['median'] / 1e6:.0f} MB resident"
        )
    yield (
        f"the bound is {answer['resident_bound'] / 1e6:.0f} MB: {WEIGHT_SHARE} times "
        f"{answer['weight_bytes'] / 1e6:.1f} MB of weights, and {BESIDE / 1e6:.0f} MB beside them"
    )


def _figures(starts: Sequence[Start]) -> dict[str, Any]:
    return {
        "first_text_seconds": spread([each.first for each in starts], 3),
        "processor_seconds": spread([each.processor for each in starts], 3),
        "peak_resident_bytes": spread([each.peak for each in starts], 0),
    }


def _start(command: Sequence[str], cold: Sequence[Path], turn: int) -> Start:
    """Run the command to its end, the files `cold` put out of the page cache first."""
    for path in cold:
        _forget(path)
    words = LastWords()
    began = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words.file)
    assert process.stdout is not None
    with process.stdout as text:
        try:
            text.read(1)
            first = time.perf_counter() - began
            peak = _peak(process.pid)
            text.read()
        except BaseException:
            process.kill()
            raise
        finally:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    said = words.last()
    words.close()
    if process.returncode:
        raise FivefoldError(
            f"the start ended with status {process.returncode}: {said}", where=" ".join(command),
            remedy="run this command by hand",
        )  # fmt: skip
    return Start(first, usage.ru_utime + usage.ru_stime, peak or usage.ru_maxrss * KILOBYTE)


def _peak(process: int) -> int:
    """The most bytes that a process has had resident since it began its program; 0 where nothing is known.

    Not what `wait4` tells: that counts what the process was copied from, too.
    """
    try:
        lines = (Path("/proc") / str(process) / "status").read_text().splitlines()
    except OSError:
        return 0
    found = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), "0")
    return int(found) * KILOBYTE


def _forget(path: Path) -> None:
    """Ask the operating system to drop what it has of a file; pages that are mapped somewhere stay."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
