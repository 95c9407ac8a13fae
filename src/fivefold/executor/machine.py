"""What this machine gives us: instruction sets, and how many threads we may really use.

The thread count is the smallest of the affinity mask and the processor quotas (v2 `cpu.max`, v1
`cpu.cfs_quota_us`) of the process's cgroup and of those above it, because threads beyond only wait for each
other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fivefold._native import ThreadPool, cpu_report, isas
from fivefold._native import read_bandwidth as measure_bandwidth
from fivefold.core.errors import InputError

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor's name, its features, and the instruction sets with kernels, slowest first."""

    name: str
    features: tuple[str, ...]
    instruction_sets: tuple[str, ...]


def processor() -> Processor:
    """What the processor reports about itself."""
    report = cpu_report()
    features = tuple(sorted(key for key, value in report.items() if value is True))
    return Processor(str(report.get("brand") or report.get("vendor") or "unknown"), features, tuple(isas()))


def choose_isa(wanted: str = "auto") -> str:
    """The instruction set to use: the best one here, or the one asked for if it can run."""
    usable = isas()
    if wanted == "auto":
        return usable[-1]
    if wanted not in usable:
        raise InputError(
            f"this processor has no kernels for {wanted!r}",
            where="--isa",
            remedy=f"choose from {', '.join(usable)}",
        )
    return wanted


def allowed_threads(root: Path = CGROUP, own: Path = OWN_CGROUP) -> int:
    """Threads this process may run at once, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _cgroups(root, own) if (quota := _quota(folder)) is not None]
    return max(1, min(affinity, *map(int, quotas)) if quotas else affinity)


def read_bandwidth(threads: int, size: int, seconds: float = 0.5) -> float:
    """Bytes a second that `threads` threads read from a buffer of `size` bytes, over and over."""
    return measure_bandwidth(ThreadPool(threads), size, seconds)


def _cgroups(root: Path, own: Path) -> Iterator[Path]:
    """The folders of the process's cgroup and of those above it; in a container some may not be there."""
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):
        lines = []
    for line in ("0::/", ":cpu:/", *lines):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        inner = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        for depth in range(len(inner), -1, -1):
            yield top.joinpath(*inner[:depth])


def _quota(folder: Path) -> float | None:
    """Processors that one cgroup allows, None for no limit."""
    try:
        if (folder / "cpu.max").is_file():
            limit, period = (folder / "cpu.max").read_text().split()
        else:
            limit = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return None if limit in ("max", "-1") else float(limit) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
