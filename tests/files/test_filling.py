"""Filling a layout: what is put outlives interruptions, and nothing appears before all of it is there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fivefold.core.errors import FivefoldError, InputError
from fivefold.files import Filling, Layout, Place

LAYOUT = Layout(
    {"a": b"begin", "b": b""},
    {"a": 20, "b": 8},
    {"x": Place("a", 5, 4), "y": Place("a", 12, 6), "z": Place("b", 0, 8)},
)
ONE = Layout({"out": b"begin"}, {"out": 12}, {"x": Place("out", 5, 4)})


def ones(size: int, value: int = 1) -> np.ndarray:
    return np.full(size, value, np.uint8)


def opened(folder: Path, mark: str = "m", resume: bool = True) -> Filling:
    return Filling(folder / "out", LAYOUT, mark, resume=resume, folder=True)


def test_files_are_heads_tensors_and_zeros(tmp_path: Path) -> None:
    with opened(tmp_path) as filling:
        filling.put("late", {"z": ones(8, 3)})
        filling.put("first", {"x": ones(4), "y": ones(6, 2)})
        assert not (tmp_path / "out").exists()
        filling.complete(lambda folder: (folder / "more").touch())
    assert (tmp_path / "out" / "a").read_bytes() == b"begin" + b"\1" * 4 + bytes(3) + b"\2" * 6 + bytes(2)
    assert (tmp_path / "out" / "b").read_bytes() == b"\3" * 8
    assert (tmp_path / "out" / "more").exists()
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    with Filling(tmp_path / "out", ONE, "m", resume=False, folder=False) as filling:
        filling.put("x", {"x": ones(4)})
        assert (tmp_path / "out").read_text() == "old"
        filling.complete()
    assert (tmp_path / "out").read_bytes() == b"begin" + b"\1" * 4 + bytes(3)
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_what_was_put_is_there_when_resumed(tmp_path: Path) -> None:
    with opened(tmp_path) as filling:
        filling.put("first", {"x": ones(4), "y": ones(6)})
    with opened(tmp_path) as filling:
        assert filling.finished == {"first": ("x", "y")}
        filling.put("late", {"z": ones(8)})
        filling.complete()
    assert (tmp_path / "out" / "b").read_bytes() == b"\1" * 8


def test_without_resuming_all_begins_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as filling:
        filling.put("first", {"x": ones(4), "y": ones(6)})
    with opened(tmp_path, "other", resume=False) as filling:
        assert filling.finished == {}
        filling.put("first", {"x": ones(4, 9)})
    with opened(tmp_path, "other") as filling:
        assert filling.finished == {"first": ("x",)}


def test_another_mark_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as filling:
        filling.put("first", {"x": ones(4)})
    with pytest.raises(InputError, match="another source or with another recipe"):
        opened(tmp_path, "other")
    with opened(tmp_path) as filling:
        assert filling.finished == {"first": ("x",)}


@pytest.mark.parametrize(
    "damage",
    [
        lambda work: (work / "files" / "a").write_bytes(b"begin" + bytes(15)),
        lambda work: (work / "files" / "a").unlink(),
        lambda work: os.truncate(work / "files" / "a", 10),
        lambda work: os.truncate(work / "journal", (work / "journal").stat().st_size - 1),
        lambda work: (work / "journal").write_bytes((work / "journal").read_bytes().replace(b'"x"', b'"?"')),
        lambda work: (work / "journal").write_bytes(b""),
        lambda work: (work / "journal").write_bytes(b"[]\n"),
    ],
)
def test_what_is_not_there_is_not_finished(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    with opened(tmp_path) as filling:
        filling.put("first", {"x": ones(4), "y": ones(6)})
    damage(filling.work)
    with opened(tmp_path) as filling:
        assert filling.finished == {}
        filling.put("first", {"x": ones(4), "y": ones(6)})
        filling.put("late", {"z": ones(8)})
        filling.complete()
    assert (tmp_path / "out" / "a").read_bytes() == b"begin" + b"\1" * 4 + bytes(3) + b"\1" * 6 + bytes(2)


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(InputError, match="another process is writing this"):
        opened(tmp_path)
    with opened(tmp_path):
        pass


def test_nothing_is_complete_before_all_is_there(tmp_path: Path) -> None:
    with opened(tmp_path) as filling:
        filling.put("first", {"x": ones(4)})
        with pytest.raises(FivefoldError, match="tensor 'y' was never written"):
            filling.complete()
        with pytest.raises(FivefoldError, match="has 3 bytes, not 8"):
            filling.put("late", {"z": ones(3)})
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    with opened(tmp_path) as filling:
        filling.put("first", {"x": ones(4)})
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)
            with pytest.raises(FivefoldError, match="No space left on device"):
                filling.put("late", {"z": ones(8)})
    with opened(tmp_path) as filling:
        assert filling.finished == {"first": ("x",)}
