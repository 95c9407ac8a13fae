"""How many threads this process may run: the smallest processor quota on the way up from its cgroup."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fivefold.executor import allowed_threads

MANY = 64


@pytest.fixture(autouse=True)
def processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MANY)))


def threads(folder: Path, own: str, quotas: dict[str, str]) -> int:
    """In a tree of `cpu.max` (quota and period) and `cpu.cfs_quota_us` files (quota), by their folders."""
    root = folder / "cgroup"
    for place, quota in quotas.items():
        inner = root / place
        inner.mkdir(parents=True, exist_ok=True)
        if place.startswith("cpu/") or place == "cpu":
            (inner / "cpu.cfs_quota_us").write_text(f"{quota}\n")
            (inner / "cpu.cfs_period_us").write_text("100000\n")
        else:
            (inner / "cpu.max").write_text(f"{quota}\n")
    cgroup = folder / "self"
    cgroup.write_text(own)
    return allowed_threads(root, cgroup)


@pytest.mark.parametrize(
    ("own", "quotas", "expected"),
    [
        ("0::/\n", {".": "max 100000"}, MANY),
        ("0::/\n", {".": "300000 100000"}, 3),
        ("0::/a/b\n", {"a": "max 100000", "a/b": "200000 100000"}, 2),
        ("0::/a/b\n", {"a": "150000 50000", "a/b": "500000 100000"}, 3),
        ("0::/a/b\n", {".": "400000 100000", "a": "max 100000", "a/b": "max 100000"}, 4),
        ("0::/a/b\n", {"a": "200000 100000", "a/c": "100000 100000", "c": "100000 100000"}, 2),
        ("0::/a\n", {"a": "50000 100000"}, 1),
        ("0::/docker/not/seen/here\n", {".": "500000 100000"}, 5),
        ("0::/../../a\n", {"a": "200000 100000"}, 2),
        ("4:memory:/a\n3:cpu,cpuacct:/x/y\n1:name=systemd:/b\n", {"cpu/x": "600000", "cpu/x/y": "-1"}, 6),
        ("3:cpuset:/x\n2:cpu:/y\n", {"cpu/x": "100000", "cpu/y": "700000"}, 7),
        ("3:cpu:/docker/id\n", {"cpu": "200000"}, 2),
        ("3:cpu:/x\n0::/a\n", {"cpu/x": "900000", "a": "800000 100000"}, 8),
        ("", {".": "300000 100000"}, 3),
        ("what\n::\n0::/a:b\n", {"a:b": "200000 100000"}, 2),
        ("0::/a\n", {"a": "many 100000", ".": "nothing"}, MANY),
        ("0::/a\n", {"a": "100000 0"}, MANY),
    ],
)
def test_the_smallest_quota_above_counts(
    tmp_path: Path, own: str, quotas: dict[str, str], expected: int
) -> None:
    assert threads(tmp_path, own, quotas) == expected


def test_nothing_to_read_is_no_limit(tmp_path: Path) -> None:
    assert allowed_threads(tmp_path / "none", tmp_path / "neither") == MANY
