"""Fuzz the readers and the compiled core, and keep a record: how often each ran, what was found.

    .venv/bin/python fuzz/run.py --seconds 60
    .venv/bin/python fuzz/run.py --executions 1000000 --targets gguf,safetensors

Targets take turns, a part at a time, each part a process of its own with a seed of its own. What has been
done is written down after each part, so whatever ends this, the next start goes on from there. Inputs that
reached something new stay in build/fuzz/TARGET, those that show a fault in build/fuzz/findings. The exit
status is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "fuzz"
READERS = ("gguf", "safetensors", "folder", "tokenizer")
NATIVE = ("formats", "draw", "step", "nodes")
EXECUTED = re.compile(r"stat::number_of_executed_units: (\d+)")
RUNNING = re.compile(r"^#(\d+)", re.MULTILINE)
QUIET = {"ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1",
         "RUST_BACKTRACE": "0"}  # fmt: skip
"""A refused allocation is an answer that the core has a word for."""
MOST_FINDINGS = 10


def led_by_coverage(seed: int) -> bool:
    """The first part of a target and every fourth; the others change inputs at random, which is faster."""
    return seed % 4 == 1


def command(target: str, runs: int, seconds: int, seed: int) -> list[str]:
    """The process of one part."""
    own, found = WORK / target, WORK / "findings" / target
    for folder in (own, found):
        folder.mkdir(parents=True, exist_ok=True)
    plain = not led_by_coverage(seed)
    if target in NATIVE:
        at_random = ROOT / "build" / "sanitize" / "native" / "fuzz" / "native" / f"fuzz_{target}"
        program = [
            str(
                at_random
                if plain and at_random.exists()
                else WORK / "native" / "fuzz" / "native" / f"fuzz_{target}"
            )
        ]
    else:
        program = [sys.executable, str(ROOT / "fuzz" / "worker.py"), target, f"-plain={int(plain)}"]
    return [
        *program, f"-runs={runs}", f"-seed={seed}", f"-max_total_time={seconds}",
        f"-artifact_prefix={found}/", f"-max_len={2048 if target in NATIVE else 32768}", "-timeout=60",
        "-rss_limit_mb=3000", "-print_final_stats=1", str(own), str(ROOT / "fuzz" / "corpus" / target),
    ]  # fmt: skip


def part(target: str, runs: int, seconds: int, seed: int) -> tuple[int, float, str]:
    """Executions, seconds, and the last lines of a part that ended in a fault."""
    began = time.monotonic()
    log = WORK / f"{target}.log"
    with log.open("wb") as file:
        status = subprocess.run(
            command(target, runs, seconds, seed), stdout=file, stderr=subprocess.STDOUT,
            env={**os.environ, **QUIET}, cwd=ROOT, check=False,
        ).returncode  # fmt: skip
    text = log.read_text("utf-8", "replace")
    counts = EXECUTED.findall(text) or RUNNING.findall(text) or ["0"]
    fault = "" if status == 0 else "\n".join(text.splitlines()[-60:])
    if fault:
        (WORK / "findings" / f"{target}-{seed}.log").write_text(text[-20000:])
    return int(counts[-1]), time.monotonic() - began, fault


def commit() -> str:
    """What is fuzzed."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, check=False).stdout.strip()


class Record:
    """What has been done, in a file that is whole at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data: dict[str, Any] = {"targets": {}, "findings": []}
        if path.exists():
            self.data = json.loads(path.read_text())

    def executions(self, target: str) -> int:
        return int(self.data["targets"].get(target, {}).get("executions", 0))

    def next_seed(self, target: str) -> int:
        return 1 + int(self.data["targets"].get(target, {}).get("last_seed", 0))

    def add(self, target: str, seed: int, executions: int, seconds: float, fault: str) -> None:
        one = self.data["targets"].setdefault(
            target,
            {"executions": 0, "led_by_coverage": 0, "since_a_finding": 0, "seconds": 0.0, "parts": 0},
        )
        one["executions"] += executions
        one["led_by_coverage"] += executions if led_by_coverage(seed) else 0
        one["since_a_finding"] = 0 if fault else one["since_a_finding"] + executions
        one["seconds"] = round(one["seconds"] + seconds, 1)
        one["parts"] += 1
        one["last_seed"] = seed
        one["corpus"] = len(list((ROOT / "fuzz" / "corpus" / target).glob("*")))
        if fault:
            self.data["findings"].append(
                {"target": target, "seed": seed, "commit": commit(), "end": fault.splitlines()[-9:]}
            )

    def write(self) -> None:
        self.data["all_executions"] = sum(one["executions"] for one in self.data["targets"].values())
        self.data["until"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.data["commit"] = commit()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps(self.data, indent=2) + "\n")
        beside.replace(self.path)


def wanted() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description="Fuzz the readers and the compiled core.")
    add = parser.add_argument
    add("--targets", default=",".join((*READERS, *NATIVE)), help="names, with commas between")
    add("--executions", type=int, default=0, help="of each target, those of the record counted")
    add("--seconds", type=int, default=0, help="for all targets together")
    add("--part", type=int, default=60, help="seconds that one target runs before the next")
    add("--record", type=Path, default=WORK / "record.json", help="what is gone on from, and added to")
    return parser.parse_args()


def main() -> int:
    """Fuzz, and print a line for each part."""
    asked = wanted()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the part under way is ended too
    record = Record(asked.record)
    waiting = asked.targets.split(",")
    end = time.monotonic() + (asked.seconds or 1e9)
    longest = min(asked.part, max(asked.seconds // len(waiting), 1)) if asked.seconds else asked.part
    found = 0
    while waiting and found < MOST_FINDINGS:
        target = waiting.pop(0)
        left = asked.executions - record.executions(target) if asked.executions else 1 << 30
        seconds = min(longest, int(end - time.monotonic()))
        if left <= 0 or seconds <= 0:
            continue
        seed = record.next_seed(target)
        done, took, fault = part(target, left, seconds, seed)
        record.add(target, seed, done, took, fault)
        record.write()
        print(
            f"{target}: {done} in {took:.0f} s, seed {seed}; {record.executions(target)} in all", flush=True
        )
        if fault:
            found += 1
            print(fault, flush=True)
        waiting.append(target)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
