"""Reading GGUF: every value type, shapes, laziness, versions, and the real model."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from fivefold.files import open_checkpoint, open_gguf

if TYPE_CHECKING:
    from conftest import Raw

VALUES: list[tuple[int, bytes, Any]] = [
    (0, struct.pack("<B", 200), 200),
    (1, struct.pack("<b", -3), -3),
    (2, struct.pack("<H", 65000), 65000),
    (3, struct.pack("<h", -32000), -32000),
    (4, struct.pack("<I", 4_000_000_000), 4_000_000_000),
    (5, struct.pack("<i", -2_000_000_000), -2_000_000_000),
    (6, struct.pack("<f", 0.5), 0.5),
    (7, b"\x01", True),
    (8, struct.pack("<Q", 6) + "naïve".encode(), "naïve"),
    (10, struct.pack("<Q", 2**63 + 5), 2**63 + 5),
    (11, struct.pack("<q", -(2**62)), -(2**62)),
    (12, struct.pack("<d", 0.1), 0.1),
]


@pytest.mark.parametrize(("kind", "stored", "value"), VALUES)
@pytest.mark.parametrize("version", [2, 3])
def test_each_value_type(
    tmp_path: Path, raw: Raw, kind: int, stored: bytes, value: Any, version: int
) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(raw.whole([raw.pair("key", kind, stored)], [], version=version))
    found = open_gguf(path).metadata["key"]
    assert found == value
    assert isinstance(found, type(value))


@pytest.mark.parametrize(("kind", "stored", "value"), VALUES)
def test_arrays_of_each_value_type(tmp_path: Path, raw: Raw, kind: int, stored: bytes, value: Any) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(raw.whole([raw.pair("key", 9, struct.pack("<IQ", kind, 3) + 3 * stored)], []))
    found = open_gguf(path).metadata["key"]
    assert isinstance(found, list if kind == 8 else np.ndarray)
    assert list(found) == [value] * 3


def test_arrays_lie_in_arrays_and_may_be_empty(tmp_path: Path, raw: Raw) -> None:
    inner = struct.pack("<IQ", 4, 2) + struct.pack("<II", 1, 2)
    nothing = struct.pack("<IQ", 8, 0)
    path = tmp_path / "a.gguf"
    path.write_bytes(raw.whole([raw.pair("key", 9, struct.pack("<IQ", 9, 2) + inner + nothing)], []))
    first, second = open_gguf(path).metadata["key"]
    assert first.tolist() == [1, 2]
    assert second == []


def test_tensors_are_views_with_reversed_dimensions(tmp_path: Path, raw: Raw) -> None:
    data = np.arange(128, dtype=np.uint8).tobytes()
    entries = [raw.entry("a", (4, 2), 0, 0), raw.entry("b", (32,), 8, 64)]
    path = tmp_path / "a.gguf"
    path.write_bytes(raw.whole([], entries, data))
    checkpoint = open_gguf(path)
    first, second = checkpoint.tensors["a"], checkpoint.tensors["b"]
    assert (checkpoint.kind, checkpoint.path) == ("gguf", path)
    assert (first.shape, first.format, first.data.tobytes()) == ((2, 4), "f32", data[:32])
    assert (second.shape, second.format, second.data.tobytes()) == ((32,), "q8_0", data[64:98])
    assert first.data.base is not None
    assert not first.data.flags.writeable


def test_the_alignment_of_the_file_places_the_tensors(tmp_path: Path, raw: Raw) -> None:
    pairs = [raw.pair("general.alignment", 4, struct.pack("<I", 256))]
    head = raw.whole(pairs, [raw.entry("a", (1,), 0, 256)])
    path = tmp_path / "a.gguf"
    path.write_bytes(head.ljust(512, b"\0") + b"\x01\x02\x03\x04")
    assert open_gguf(path).tensors["a"].data.tobytes() == b"\x01\x02\x03\x04"


def test_a_quarter_million_strings_are_read(tmp_path: Path, raw: Raw) -> None:
    words = [f"wort-{number}-ü" for number in range(250_000)]
    stored = struct.pack("<IQ", 8, len(words)) + b"".join(raw.text(word) for word in words)
    path = tmp_path / "a.gguf"
    path.write_bytes(raw.whole([raw.pair("tokens", 9, stored)], []))
    assert open_gguf(path).metadata["tokens"] == words


@pytest.mark.model
def test_the_real_model_reads_as_its_own_library_reads_it(default_model: Path) -> None:
    ours, theirs = open_checkpoint(default_model), gguf.GGUFReader(default_model)
    fields = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert set(ours.metadata) == set(fields)
    for name, field in fields.items():
        value = ours.metadata[name]
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == field.contents(), name
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        held = ours.tensors[tensor.name]
        assert held.format == tensor.tensor_type.name.lower()
        assert held.shape == tuple(int(size) for size in reversed(tensor.shape))
        assert np.array_equal(held.data, tensor.data.reshape(-1).view(np.uint8)), tensor.name
