"""Split GGUF files, and folders that hold a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import FileError
from fivefold.files import open_checkpoint, open_gguf, write_gguf


def write_parts(folder: Path, count: int = 3) -> list[Path]:
    paths = []
    for number in range(count):
        path = folder / f"model-{number + 1:05d}-of-{count:05d}.gguf"
        keys = {"split.no": np.uint16(number), "split.count": np.uint16(count)}
        extra = {"general.name": "whole", "split.tensors.count": np.int32(count)} if number == 0 else {}
        data = np.full(4, number, np.uint8)
        write_gguf(path, keys | extra, [Tensor(f"t{number}", "f32", (1,), data)])
        paths.append(path)
    return paths


@pytest.mark.parametrize("named", [0, 2])
def test_any_part_opens_all(tmp_path: Path, named: int) -> None:
    paths = write_parts(tmp_path)
    checkpoint = open_gguf(paths[named])
    assert checkpoint.path == paths[0]
    assert checkpoint.metadata["general.name"] == "whole"
    assert [int(tensor.data[0]) for tensor in checkpoint.tensors.values()] == [0, 1, 2]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    paths[1].unlink()
    with pytest.raises(FileError, match=r"model-00002-of-00003.gguf: part 2 of 3 is missing"):
        open_gguf(paths[0])


def test_a_part_of_another_name_is_refused(tmp_path: Path) -> None:
    shutil.copy(write_parts(tmp_path)[0], tmp_path / "first.gguf")
    with pytest.raises(FileError, match=r"one of 3 parts.*NAME-00001-of-00003\.gguf"):
        open_gguf(tmp_path / "first.gguf")


def test_a_part_in_the_wrong_place_is_refused(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    shutil.copy(paths[2], paths[1])
    with pytest.raises(FileError, match="do not say that it is part 2 of 3"):
        open_gguf(paths[0])


def test_tensors_stand_in_one_part_only_and_are_counted(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    keys = {"split.no": np.uint16(1), "split.count": np.uint16(3)}
    write_gguf(paths[1], keys, [Tensor("t0", "f32", (1,), np.zeros(4, np.uint8))])
    with pytest.raises(FileError, match="tensor 't0' also stands in an earlier part"):
        open_gguf(paths[0])
    write_gguf(paths[1], keys, [])
    with pytest.raises(FileError, match="hold 2 tensors and should hold 3"):
        open_gguf(paths[0])


def test_a_folder_with_one_model_opens(tmp_path: Path, tiny_gguf: Path) -> None:
    shutil.copy(tiny_gguf, tmp_path / "a.gguf")
    (tmp_path / "readme.txt").write_text("hello")
    assert open_checkpoint(tmp_path).path == tmp_path / "a.gguf"
    parts = tmp_path / "parts"
    parts.mkdir()
    assert open_checkpoint(parts if write_parts(parts) else tmp_path).tensors.keys() == {"t0", "t1", "t2"}


def test_a_folder_with_several_or_no_models_is_refused(tmp_path: Path, tiny_gguf: Path) -> None:
    with pytest.raises(FileError, match="no model file"):
        open_checkpoint(tmp_path)
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(tiny_gguf, tmp_path / name)
    with pytest.raises(FileError, match=r"2 GGUF files \(a.gguf, b.gguf\)"):
        open_checkpoint(tmp_path)


def test_later_parts_alone_name_the_missing_one(tmp_path: Path) -> None:
    write_parts(tmp_path)[0].unlink()
    with pytest.raises(FileError, match="part 1 of 3 is missing"):
        open_checkpoint(tmp_path)
