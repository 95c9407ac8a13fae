"""Writing GGUF: what is written reads back, in this reader and in gguf's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import FivefoldError, InputError
from fivefold.files import GGML_TYPES_BY_NAME, open_gguf, write_gguf
from fivefold.formats import FORMATS

METADATA: dict[str, Any] = {
    "text": "Grüße",
    "small": 7,
    "negative": -7,
    "wide": 2**40,
    "widest": 2**64 - 1,
    "lowest": -(2**63),
    "half": 0.5,
    "double": np.float64(0.1),
    "byte": np.uint8(3),
    "yes": True,
    "words": ["a", "", "ü"],
    "nothing": [],
    "scores": np.array([0.25, -1.0], np.float32),
    "shorts": np.array([1, -2], np.int16),
    "flags": [True, False],
    "whole": [1, 2, 3],
    "mixed": [1, 2.5],
    "nested": [["a"], [1, 2]],
}


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def test_values_round_trip(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", METADATA, [])
    found = open_gguf(tmp_path / "a.gguf").metadata
    assert list(found) == list(METADATA)
    for key, value in METADATA.items():
        assert plain(found[key]) == plain(value), key
    assert isinstance(found["double"], np.float64)
    assert found["shorts"].dtype == np.int16
    write_gguf(tmp_path / "b.gguf", found, [])
    again = open_gguf(tmp_path / "b.gguf").metadata
    assert plain(list(again.values())) == plain(list(found.values()))


@pytest.mark.parametrize("name", GGML_TYPES_BY_NAME)
def test_tensors_of_every_type_round_trip(tmp_path: Path, name: str) -> None:
    row = GGML_TYPES_BY_NAME[name]
    data = np.arange(3 * 2 * row.block_bytes, dtype=np.uint32).astype(np.uint8)
    tensors = [
        Tensor("first", name, (3, 2 * row.block), data),
        Tensor("second", name, (row.block,), data[: row.block_bytes]),
    ]
    write_gguf(tmp_path / "a.gguf", {"general.alignment": 64}, tensors)
    held = open_gguf(tmp_path / "a.gguf").tensors
    for tensor in tensors:
        found = held[tensor.name]
        assert (found.format, found.shape) == (tensor.format, tensor.shape)
        assert np.array_equal(found.data, tensor.data)


def test_another_reader_agrees(tmp_path: Path) -> None:
    data = np.arange(4 * 32, dtype=np.float32)
    metadata = {key: value for key, value in METADATA.items() if key not in ("nested", "nothing")}
    write_gguf(tmp_path / "a.gguf", metadata, [Tensor("t", "f32", (4, 32), data.view(np.uint8))])
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    for key, value in metadata.items():
        assert reader.fields[key].contents() == plain(value), key
    assert np.array_equal(reader.tensors[0].data, data.reshape(4, 32))


def test_this_reader_reads_what_another_wrote(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_context_length(77)
    writer.add_token_list(["a", "b"])
    values = np.arange(64, dtype=np.float32).reshape(2, 32)
    writer.add_tensor(
        "t", gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = open_gguf(tmp_path / "a.gguf")
    assert found.metadata["llama.context_length"] == 77
    assert found.metadata["tokenizer.ggml.tokens"] == ["a", "b"]
    assert (found.tensors["t"].format, found.tensors["t"].shape) == ("q8_0", (2, 32))
    expected = gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0).reshape(-1)
    assert np.array_equal(found.tensors["t"].data, expected)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
        st.one_of(
            st.booleans(),
            st.integers(-(2**63), 2**64 - 1),
            st.floats(width=32, allow_nan=False),
            st.text(st.characters(exclude_categories=["Cs"])),
            st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
        ),
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_round_trip(tmp_path: Path, metadata: dict[str, Any]) -> None:
    metadata = {f"any.{key}": value for key, value in metadata.items()}  # no key with a meaning
    write_gguf(tmp_path / "a.gguf", metadata, [])
    assert dict(open_gguf(tmp_path / "a.gguf").metadata) == metadata


FINE = Tensor("t", "f32", (1,), np.zeros(4, np.uint8))


@pytest.mark.parametrize(
    ("metadata", "tensors", "says"),
    [
        ({"k": None}, [], "no type for NoneType"),
        ({"k": 2**64}, [], "no type for int"),
        ({"k": ["a", 1]}, [], "differ in type"),
        ({"k": ["a", ["b"]]}, [], "arrays may hold arrays"),
        ({"k": [[[[[1]]]]]}, [], "arrays may hold arrays"),
        ({"k": "\ud800"}, [], "not valid Unicode"),
        ({"": 1}, [], "a key of 0 bytes"),
        ({"general.alignment": 48}, [], "power of two"),
        ({}, [FINE, FINE], "given twice"),
        ({}, [Tensor("t", "q9", (1,), FINE.data)], "no number for format 'q9'"),
        ({}, [Tensor("t", "f32", (2,), FINE.data)], "4 bytes do not hold"),
        ({}, [Tensor("t", "q4_0", (2, 16), np.zeros(18, np.uint8))], "do not hold"),
        ({}, [Tensor("t", "f32", (), FINE.data)], "1 to 4 dimensions"),
    ],
)
def test_what_no_file_can_hold_is_refused(
    tmp_path: Path, metadata: dict[str, Any], tensors: list[Tensor], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        write_gguf(tmp_path / "a.gguf", metadata, tensors)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, {"k": 1}, [])

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FivefoldError, match="No space left"):
        write_gguf(path, {"k": 2}, [FINE])
    assert open_gguf(path).metadata["k"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_table_of_types_agrees_with_others() -> None:
    theirs = {kind.name.lower(): (int(kind), *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGML_QUANT_SIZES}
    theirs["q8_1"] = (9, 32, 36)  # gguf 0.19 says 40; ggml-common.h has two halves and 32 codes
    ours = {row.name: (row.number, row.block, row.block_bytes) for row in GGML_TYPES_BY_NAME.values()}
    assert {name: ours.get(name) for name in theirs} == theirs
    for name in ours.keys() & FORMATS.keys():
        assert ours[name][1:] == (FORMATS[name].block, FORMATS[name].block_bytes), name
