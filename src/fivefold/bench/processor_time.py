"""Processor time of a process and of all that it has started, as Linux tells it; elsewhere nothing is known.

What waits for its turn must not take processors from what is measured. So the time that it takes meanwhile
is measured too, and told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROCESSES = Path("/proc")


class IdleShares:
    """The largest share of one processor that each process took while it had nothing to do."""

    def __init__(self) -> None:
        self.shares: dict[str, float] = {}

    @contextmanager
    def watching(self, idle: Mapping[str, int]) -> Iterator[None]:
        """Inside, the named processes are meant to be idle."""
        before = {name: processor_seconds(process) for name, process in idle.items()}
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        for name, process in idle.items():
            share = (processor_seconds(process) - before[name]) / took
            self.shares[name] = max(self.shares.get(name, 0.0), share)


def processor_seconds(process: int, root: Path = PROCESSES) -> float:
    """Seconds of processor time of a process and of its living descendants; 0 where nothing is known."""
    ticks = 0
    for each in _tree(process, root):
        try:
            fields = (root / str(each) / "stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        except (OSError, IndexError, ValueError):
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def _tree(process: int, root: Path) -> Iterator[int]:
    yield process
    try:
        tasks = list((root / str(process) / "task").iterdir())
        started = [word for task in tasks for word in (task / "children").read_text().split()]
    except OSError:
        return
    for child in started:
        yield from _tree(int(child), root)
