"""llama.cpp, by its own tools: `llama-bench` for one sequence, `llama-batched-bench` for many.

Both load the model anew in each call and warm up before they measure. Each is run with flash attention on
and off. What they print is not ours, so it is not trusted to be figures.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fivefold.core.errors import FivefoldError, InputError

from ..work import Reading, Work
from .peer import Subject

BENCH = "llama-bench"
BATCHED_BENCH = "llama-batched-bench"
SERVER = "llama-server"

SETTINGS = {"flash attention on": "on", "flash attention off": "off"}

SEQUENCE_ROUNDING = 256
"""llama.cpp gives each sequence a multiple of so many cache entries."""


class LlamaCpp:
    """The tools in a folder (or one of them, by its path)."""

    name = "llama.cpp"
    settings = tuple(SETTINGS)
    process = None

    def __init__(self, tool: Path, subject: Subject) -> None:
        self._tool = tool
        self._subject = subject
        self.version = ""

    def require(self, work: Work) -> None:
        """InputError now, rather than in the middle, if the tool for this work is missing."""
        find_tool(self._tool, BATCHED_BENCH if work.kind == "batch" else BENCH)

    def measure(self, work: Work, setting: str, turn: int) -> Reading:
        """One call of the tool, which draws its prompts itself."""
        if work.kind == "batch":
            program = find_tool(self._tool, BATCHED_BENCH)
            arguments = batched_arguments(work, SETTINGS[setting])
        else:
            program = find_tool(self._tool, BENCH)
            arguments = bench_arguments(work, SETTINGS[setting])
        subject = self._subject
        printed = _run([program, "-m", subject.model, "-t", subject.threads, *arguments])
        try:
            if work.kind == "batch":
                return read_batched(printed)
            reading, self.version = read_bench(printed)
            return reading
        except (ValueError, LookupError, TypeError) as error:
            raise FivefoldError(
                f"{program.name} gave no figures ({error})",
                where=str(self._tool),
                remedy="check that it runs",
            ) from None

    def close(self) -> None:
        """Nothing runs between two calls."""


def find_tool(tool: Path, name: str) -> Path:
    """The absolute path of the program `name`: in the folder `tool`, or beside or at the file `tool`."""
    program = tool / name if tool.is_dir() else tool if tool.name == name else tool.with_name(name)
    if not program.is_file():
        raise InputError(
            f"there is no {name}", where=str(tool), remedy="name the folder that llama.cpp's tools lie in"
        )
    return program.absolute()


def bench_arguments(work: Work, flash: str) -> list[str]:
    """Options of llama-bench: one repetition, JSON."""
    reading = work.kind == "prefill"
    sizes = ["-p", str(work.prompt), "-n", "0"] if reading else ["-p", "0", "-n", str(work.tokens)]
    depth = ["-d", str(work.prompt)] if work.kind == "depth" else []
    return ["-r", "1", "-o", "json", "-fa", flash, *sizes, *depth]


def batched_arguments(work: Work, flash: str) -> list[str]:
    """Options of llama-batched-bench: distinct prompts, room for each, one line of JSON."""
    room = -(-work.entries // SEQUENCE_ROUNDING) * SEQUENCE_ROUNDING * work.requests
    return [
        "-npp", str(work.prompt), "-ntg", str(work.tokens), "-npl", str(work.requests),
        "-c", str(room), "-fa", flash, "--output-format", "jsonl",
    ]  # fmt: skip


def read_bench(printed: str) -> tuple[Reading, str]:
    """The rate of llama-bench's only test, and the build's commit."""
    test = json.loads(printed)[0]
    return Reading(_positive(test["avg_ts"])), str(test.get("build_commit", ""))


def read_batched(printed: str) -> Reading:
    """Tokens a second while all sequences write (S_TG), and with the reading of the prompts."""
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    if not lines:
        raise ValueError("no line of JSON")
    test: dict[str, Any] = json.loads(lines[-1])
    written = _positive(test["pl"]) * _positive(test["tg"])
    return Reading(_positive(test["speed_tg"]), written / (_positive(test["t_pp"]) + _positive(test["t_tg"])))


def _positive(value: object) -> float:
    number = float(value)  # type: ignore[arg-type]  # anything but a number is told about
    if not 0.0 < number < float("inf"):
        raise ValueError(f"{value!r} is no measurement")
    return number


def _run(command: Sequence[object]) -> str:
    """What a tool prints; its last words if it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise FivefoldError(
            f"cannot be run ({error.strerror})", where=words[0], remedy="check that it is a program"
        ) from None
    if done.returncode:
        last = done.stderr.strip()[-200:] or "it said nothing"
        raise FivefoldError(
            f"ended with status {done.returncode}: {last}", where=words[0], remedy="check that it runs"
        )
    return done.stdout
