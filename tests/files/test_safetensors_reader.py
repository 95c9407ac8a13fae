"""Reading safetensors: every type, shapes, laziness, and files that Transformers wrote, read by another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gguf.utility import SafetensorsLocal

from fivefold.files import open_checkpoint, open_safetensors, read_safetensors
from fivefold.files.safetensors_types import SAFETENSORS_TYPES
from fivefold.formats import FORMATS

if TYPE_CHECKING:
    from conftest import Raw

FOLDERS = Path(__file__).parents[1] / "models" / "data" / "folders"
WRITTEN = sorted(FOLDERS.glob("*/*.safetensors"))


@pytest.mark.parametrize("kind", SAFETENSORS_TYPES)
def test_each_type(tmp_path: Path, raw: Raw, kind: str) -> None:
    form, bits = SAFETENSORS_TYPES[kind]
    data = np.random.default_rng(1).integers(0, 256, 24 * bits // 8, dtype=np.uint8).tobytes()
    path = tmp_path / "a.safetensors"
    path.write_bytes(
        raw.safetensors({"t": {"dtype": kind, "shape": [3, 8], "data_offsets": [0, len(data)]}}, data)
    )
    tensor = open_safetensors(path)["t"]
    assert (tensor.name, tensor.format, tensor.shape) == ("t", form, (3, 8))
    assert tensor.data.tobytes() == data
    assert not tensor.data.flags.writeable
    assert not tensor.data.flags.owndata
    if form in FORMATS:
        assert FORMATS[form].bytes_for(24) == len(data)


def test_tensors_may_stand_in_any_order_and_be_scalars_or_empty(raw: Raw) -> None:
    header = {
        "b": {"shape": [2], "data_offsets": [5, 7], "dtype": "U8"},
        "__metadata__": {"format": "pt"},
        "nothing": {"dtype": "F32", "shape": [0, 3], "data_offsets": [5, 5]},
        "scalar": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        "a": {"dtype": "I8", "shape": [1, 1], "data_offsets": [4, 5]},
        "naïve": {"dtype": "I8", "shape": [0], "data_offsets": [7, 7]},
    }
    tensors = read_safetensors(raw.safetensors(header, bytes(range(7))), "x")
    assert {name: (one.shape, one.data.tolist()) for name, one in tensors.items()} == {
        "b": ((2,), [5, 6]),
        "nothing": ((0, 3), []),
        "scalar": ((), [0, 1, 2, 3]),
        "a": ((1, 1), [4]),
        "naïve": ((0,), []),
    }


def test_a_header_may_be_padded_and_hold_nothing(raw: Raw) -> None:
    assert read_safetensors(raw.safetensors(b"{}"), "x") == {}
    assert read_safetensors(raw.safetensors(b'{"__metadata__":{}}     '), "x") == {}


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_of_transformers_read_as_another_reader_reads_them(path: Path) -> None:
    ours, theirs = open_safetensors(path), SafetensorsLocal(path)
    assert set(ours) == set(theirs.tensors)
    for name, other in theirs.tensors.items():
        assert ours[name].shape == tuple(other.shape)
        assert SAFETENSORS_TYPES[other.dtype][0] == ours[name].format
        assert np.array_equal(ours[name].data, other.mmap_bytes())


def test_there_are_whole_files_and_shards() -> None:
    assert len(WRITTEN) > len({path.parent for path in WRITTEN}) > 1


def test_opening_reads_no_tensor(tmp_path: Path, raw: Raw) -> None:
    """A hole in the file system takes no room, and a terabyte of tensors opens as fast as a kilobyte."""
    path = tmp_path / "a.safetensors"
    size = 1 << 40
    head = raw.safetensors({"t": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}})
    with path.open("wb") as file:
        file.write(head)
        try:
            file.truncate(len(head) + size)
        except OSError:
            pytest.skip("this disk takes no sparse file of a terabyte")
    tensor = open_safetensors(path)["t"]
    assert tensor.data.nbytes == size
    assert tensor.data[-1] == 0


def test_shards_are_joined_by_their_index() -> None:
    folder = FOLDERS / "mistral-bf16"
    places = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    checkpoint = open_checkpoint(folder)
    assert set(checkpoint.tensors) == set(places)
    for name, shard in places.items():
        assert np.array_equal(checkpoint.tensors[name].data, open_safetensors(folder / shard)[name].data)
