"""Writing safetensors: layouts read back here and in the library, in one file and in shards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fivefold.core.errors import InputError
from fivefold.files import SAFETENSORS_FORMATS, Filling, Outline, open_safetensors, safetensors_layout
from fivefold.files.huggingface import open_folder


def outlines() -> list[Outline]:
    """One of every type whose numbers are whole bytes, of odd sizes, an empty and a single one among them."""
    whole = [form for form, (_, bits) in SAFETENSORS_FORMATS.items() if bits % 8 == 0]
    shapes = [(3, 5), (7,), (), (0, 4), (2, 1, 3)]
    return [Outline(f"t{i}.{form}", form, shapes[i % len(shapes)]) for i, form in enumerate(whole)]


def data_of(one: Outline, seed: int = 0) -> np.ndarray:
    size = int(np.prod(one.shape)) * SAFETENSORS_FORMATS[one.format][1] // 8
    return np.random.default_rng([seed, len(one.name)]).integers(0, 2, size).astype(np.uint8)


def written(folder: Path, listed: list[Outline], shard_bytes: int = 10**9) -> Path:
    layout = safetensors_layout(listed, shard_bytes)
    with Filling(folder / "model", layout, "", resume=False, folder=True) as filling:
        for one in reversed(listed):
            filling.put(one.name, {one.name: data_of(one)})
        filling.complete()
    return folder / "model"


def test_every_type_reads_back(tmp_path: Path) -> None:
    listed = outlines()
    held = open_safetensors(written(tmp_path, listed) / "model.safetensors")
    assert set(held) == {one.name for one in listed}
    for one in listed:
        assert (held[one.name].format, held[one.name].shape) == (one.format, one.shape)
        assert np.array_equal(held[one.name].data, data_of(one))
        address = held[one.name].data.__array_interface__["data"][0]
        assert held[one.name].data.size == 0 or address % (SAFETENSORS_FORMATS[one.format][1] // 8) == 0


def test_shards_hold_no_more_than_they_may(tmp_path: Path) -> None:
    listed = [Outline(f"layer.{i}", "f32", (8, i + 1)) for i in range(20)]
    folder = written(tmp_path, listed, shard_bytes=1000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    assert shards == [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    assert index["metadata"]["total_size"] == sum(32 * (i + 1) for i in range(20))
    sizes = [sum(one.data.nbytes for one in open_safetensors(folder / name).values()) for name in shards]
    assert max(sizes) <= 1000
    assert len(sizes) < 20
    (folder / "config.json").write_text("{}")
    tensors = open_folder(folder).tensors
    assert all(np.array_equal(tensors[one.name].data, data_of(one)) for one in listed)


def test_a_tensor_above_the_limit_has_a_shard_of_its_own(tmp_path: Path) -> None:
    listed = [Outline(name, "u8", (size,)) for name, size in (("a", 10), ("b", 5000), ("c", 10))]
    layout = safetensors_layout(listed, 1000)
    assert [layout.places[name].file[6:11] for name in "abc"] == ["00001", "00002", "00003"]


def test_nothing_at_all_is_a_file_too(tmp_path: Path) -> None:
    assert open_safetensors(written(tmp_path, []) / "model.safetensors") == {}


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        ([Outline("t", "q4_0", (2, 32))], "no type for format 'q4_0'"),
        ([Outline("t", "f32", (1,)), Outline("t", "f32", (1,))], "given twice"),
        ([Outline("", "f32", (1,))], "no name for a tensor"),
        ([Outline("__metadata__", "f32", (1,))], "no name for a tensor"),
        ([Outline("t", "f4", (3,))], "no whole bytes"),
        ([Outline("t", "f32", (1,) * 9)], "at most 8 dimensions"),
    ],
)
def test_what_no_file_can_hold_is_refused(listed: list[Outline], says: str) -> None:
    with pytest.raises(InputError, match=says):
        safetensors_layout(listed, where="model")
