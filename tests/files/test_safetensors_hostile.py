"""Hostile and damaged safetensors files: each is refused in one line, and none costs memory."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivefold.core.errors import FileError
from fivefold.files import open_safetensors, read_safetensors
from fivefold.files.safetensors import HEADER_LIMIT

if TYPE_CHECKING:
    from conftest import Raw

HUGE = 2**64 - 1


def one(raw: Raw, data: int = 8, **changes: Any) -> bytes:
    """A file with the tensor "t" of two float32 numbers; None takes a field out."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    return raw.safetensors(
        {"t": {key: value for key, value in entry.items() if value is not None}}, bytes(data)
    )


def two(raw: Raw, first: list[int], second: list[int], data: int) -> bytes:
    entries = {
        name: {"dtype": "U8", "shape": [stop - start], "data_offsets": [start, stop]}
        for name, (start, stop) in (("a", first), ("b", second))
    }
    return raw.safetensors(entries, bytes(data))


def length(value: int, data: int = 64) -> bytes:
    return struct.pack("<Q", value) + bytes(data)


ENTRY = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
CASES: dict[str, tuple[Callable[[Raw], bytes], str]] = {
    "empty": (lambda raw: b"", "empty"),
    "short": (lambda raw: b"\2\0\0\0\0\0\0", "7 bytes"),
    "header past the end": (lambda raw: length(65), "65 bytes are needed and 64 are left"),
    "header huge": (lambda raw: length(HUGE), "18446744073709551615 bytes is above the limit of 100000000"),
    "header above the limit": (lambda raw: length(HEADER_LIMIT + 1), "above the limit"),
    "header of nothing": (lambda raw: length(0), "does not begin with a brace"),
    "header of blanks": (lambda raw: raw.safetensors(b"  {}"), "does not begin with a brace"),
    "header a list": (lambda raw: raw.safetensors(b"[]"), "does not begin with a brace"),
    "header cut": (lambda raw: raw.safetensors(b'{"a":'), "not valid JSON"),
    "header and more": (lambda raw: raw.safetensors(b"{}{}"), "not valid JSON"),
    "header with zeros": (lambda raw: raw.safetensors(b"{}\0\0"), "not valid JSON"),
    "not UTF-8": (lambda raw: raw.safetensors(b'{"\xff":0}'), "UTF-8"),
    "UTF-16": (lambda raw: raw.safetensors("{}".encode("utf-16-le")), "not valid JSON"),
    "torch": (lambda raw: b"PK\3\4" + bytes([9] * 60), "zip archive or PyTorch file, not safetensors"),
    "lfs": (lambda raw: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "page": (lambda raw: b"<!DOCTYPE html>" + bytes(60), "web page"),
    "gguf": (lambda raw: b"GGUF\3\0\0\0" + bytes(60), "a GGUF file"),
    "name twice": (lambda raw: raw.safetensors(f'{{"t":{ENTRY},"t":{ENTRY}}}'.encode()), "'t' stands twice"),
    "name twice by escapes": (
        lambda raw: raw.safetensors(f'{{"t":{ENTRY},"\\u0074":{ENTRY}}}'.encode()), "'t' stands twice"),
    "field twice": (
        lambda raw: raw.safetensors(b'{"t":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
        "'dtype' stands twice"),
    "name empty": (lambda raw: raw.safetensors(f'{{"":{ENTRY}}}'.encode()), "0 characters"),
    "name endless": (
        lambda raw: raw.safetensors(f'{{"{"x" * 70000}":{ENTRY}}}'.encode()), "70000 characters"),
    "deep": (lambda raw: raw.safetensors(b'{"a":' + b"[" * 100_000), "nested too deeply"),
    "constant": (lambda raw: one(raw, shape=[float("nan")]), "NaN is not JSON"),
    "endless number": (lambda raw: raw.safetensors(b'{"t":' + b"9" * 9999 + b"}"), "not valid JSON"),
    "no object": (lambda raw: raw.safetensors(b'{"t":[]}'), "'t': it is not described"),
    "no type": (lambda raw: one(raw, dtype=None), "not described"),
    "one more field": (lambda raw: one(raw, order="C"), "not described"),
    "type unknown": (lambda raw: one(raw, dtype="F31"), "type 'F31' is not known"),
    "type no text": (lambda raw: one(raw, dtype=[[]]), "type list is not known"),
    "shape no list": (lambda raw: one(raw, shape=2), "its shape"),
    "shape of texts": (lambda raw: one(raw, shape=["2"]), "its shape"),
    "shape of truths": (lambda raw: one(raw, shape=[True, 2]), "its shape"),
    "shape with a fraction": (lambda raw: one(raw, shape=[2.0]), "'2.0' is not a whole number"),
    "shape below 0": (lambda raw: one(raw, shape=[-2]), "its shape"),
    "shape past 64 bits": (lambda raw: one(raw, shape=[2**64 + 2]), "its shape"),
    "many dimensions": (lambda raw: one(raw, shape=[1] * 9), "its shape"),
    "overflow to small": (lambda raw: one(raw, shape=[2**62 + 2, 4]), "more numbers than any file"),
    "overflow to 0": (lambda raw: one(raw, shape=[2**32, 2**32]), "more numbers than any file"),
    "no offsets": (lambda raw: one(raw, data_offsets=[0]), "data_offsets"),
    "three offsets": (lambda raw: one(raw, data_offsets=[0, 8, 8]), "data_offsets"),
    "offsets backwards": (lambda raw: one(raw, data_offsets=[8, 0]), "data_offsets"),
    "offsets below 0": (lambda raw: one(raw, data_offsets=[-8, 0]), "data_offsets"),
    "bytes too few": (lambda raw: one(raw, 7, data_offsets=[0, 7]), "7 bytes do not hold [2] numbers of 32"),
    "half a byte": (lambda raw: one(raw, 1, dtype="F4", shape=[1], data_offsets=[0, 1]), "of 4 bits"),
    "past the end": (lambda raw: one(raw, 7), "'t': it ends at byte 8 of the data and there are 7"),
    "far past the end": (
        lambda raw: one(raw, shape=[2], data_offsets=[2**62, 2**62 + 8]), "ends at byte 4611686018427387912"),
    "bytes left": (lambda raw: one(raw, 9), "1 bytes at the end belong to no tensor"),
    "bytes before": (lambda raw: one(raw, 12, data_offsets=[4, 12]), "'t': bytes before it"),
    "hole": (lambda raw: two(raw, [0, 3], [4, 8], 8), "'b': bytes before it"),
    "overlap": (lambda raw: two(raw, [0, 5], [4, 8], 8), "'b': it overlaps"),
    "same place": (lambda raw: two(raw, [0, 8], [0, 8], 8), "it overlaps"),
    "free text no map": (lambda raw: raw.safetensors(b'{"__metadata__":[]}'), "__metadata__"),
    "free text no text": (lambda raw: raw.safetensors(b'{"__metadata__":{"a":1}}'), "__metadata__"),
    "escape codes": (
        lambda raw: raw.safetensors(json.dumps({"\x1b[2J\n" * 99: {}}).encode()), "x1b[2J"),
    "lone surrogate": (lambda raw: raw.safetensors(b'{"\\ud800":{}}'), "ud800"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_malformed_files_are_refused_in_one_line(tmp_path: Path, raw: Raw, case: str) -> None:
    build, says = CASES[case]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(build(raw))
    with pytest.raises(FileError) as caught:
        open_safetensors(path)
    line = str(caught.value)
    assert says in line
    assert "bad.safetensors" in line
    assert caught.value.remedy
    assert line.isprintable()
    assert len(line) < 600
    assert caught.value.status == 2


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    for name, says in (
        ("missing.safetensors", "no such file"),
        ("pipe.safetensors", "not a regular file"),
        ("", "Is a directory"),
    ):
        with pytest.raises(FileError, match=says):
            open_safetensors(tmp_path / name)


def valid() -> bytes:
    entries: dict[str, Any] = {
        "__metadata__": {"format": "pt"},
        "a.weight": {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]},
        "b.weight": {"dtype": "BF16", "shape": [3], "data_offsets": [32, 38]},
        "c.bias": {"dtype": "U8", "shape": [0, 7], "data_offsets": [38, 38]},
    }
    head = json.dumps(entries).encode()
    return struct.pack("<Q", len(head)) + head + bytes(range(38))


VALID = valid()
WORDS = [b"0", b"-1", b"1e9", b"9" * 30, b"[", b"{", b'"', b"null", b"true", b",", b"]", b"}", b":",
         b'"U8"', b'"F64"', b"\xff", b"\\u0000", b"[[[[", b" "]  # fmt: skip


def opens_or_refuses(data: bytes) -> bool:
    """Whether the file opens; otherwise it was refused as it should be. Little memory either way."""
    tracemalloc.start()
    try:
        tensors = read_safetensors(data, "some.safetensors")
        assert sum(tensor.data.nbytes for tensor in tensors.values()) <= len(data)
        for tensor in tensors.values():
            assert tensor.data.tobytes() in data
        return True
    except FileError as error:
        assert str(error).startswith("some.safetensors: ")
        assert "\n" not in str(error)
        assert len(str(error)) < 600
        return False
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000


def test_the_file_that_is_changed_below_opens() -> None:
    assert opens_or_refuses(VALID)


def test_every_truncation_and_every_byte_too_many_is_refused() -> None:
    assert not any(opens_or_refuses(VALID[:length]) for length in range(len(VALID)))
    assert not opens_or_refuses(VALID + b"\0")


@given(place=st.integers(0, len(VALID) - 1), byte=st.integers(0, 255))
@settings(max_examples=500, deadline=None)
def test_every_changed_byte_opens_or_is_refused(place: int, byte: int) -> None:
    changed = bytearray(VALID)
    changed[place] = byte
    opens_or_refuses(bytes(changed))


@given(word=st.sampled_from([0, 1, 2, 2**31, 2**32 - 1, HEADER_LIMIT, 2**62, 2**63, HUGE]))
def test_every_absurd_length_is_refused(word: int) -> None:
    assert not opens_or_refuses(struct.pack("<Q", word) + VALID[8:])


@given(
    place=st.integers(8, len(VALID) - 38), cut=st.integers(0, 12),
    words=st.lists(st.sampled_from(WORDS), max_size=3),
)  # fmt: skip
@settings(max_examples=500, deadline=None)
def test_every_changed_word_of_the_header_opens_or_is_refused(
    place: int, cut: int, words: list[bytes]
) -> None:
    head = VALID[8 : len(VALID) - 38]
    changed = head[: place - 8] + b"".join(words) + head[place - 8 + cut :]
    opens_or_refuses(struct.pack("<Q", len(changed)) + changed + VALID[-38:])


SMALL = st.integers(-1, 9)
TREES = st.recursive(
    st.none() | st.booleans() | SMALL | st.integers() | st.text(max_size=4) | st.sampled_from(["F32", "U8"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "F4", "F16"]) | TREES,
        "shape": st.lists(SMALL, max_size=3) | TREES,
        "data_offsets": st.lists(SMALL, min_size=2, max_size=2) | TREES,
    }
)


@given(header=st.dictionaries(st.text(max_size=3), ENTRIES | TREES, max_size=3), size=st.integers(0, 12))
@settings(max_examples=500, deadline=None)
def test_every_header_opens_or_is_refused(header: dict[str, Any], size: int) -> None:
    head = json.dumps(header).encode()
    opens_or_refuses(struct.pack("<Q", len(head)) + head + bytes(size))


@pytest.mark.parametrize("value", [b"[],", b"{},", b"0,"])
def test_a_header_of_many_small_values_is_refused_before_they_are_made(value: bytes) -> None:
    """Each would take fifty times its bytes."""
    header = b'{"a":[' + value * 3_000_000 + b"0]}"
    tracemalloc.start()
    try:
        with pytest.raises(FileError, match="commas and brackets"):
            read_safetensors(struct.pack("<Q", len(header)) + header, "many.safetensors")
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
