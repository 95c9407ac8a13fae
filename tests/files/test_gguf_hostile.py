"""Hostile and damaged GGUF files: each is refused in one line, and none costs memory."""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import FileError
from fivefold.files import open_gguf, write_gguf

if TYPE_CHECKING:
    from conftest import Raw

HUGE = 2**64 - 1


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def one(
    raw: Raw, *, name: str | bytes = "t", shape: tuple[int, ...] = (8,), kind: int = 0, offset: int = 0
) -> bytes:
    return raw.whole([], [raw.entry(name, shape, kind, offset)], bytes(64))


def value(raw: Raw, kind: int, stored: bytes) -> bytes:
    return raw.whole([raw.pair("some.key", kind, stored)], [])


CASES: dict[str, tuple[Callable[[Raw], bytes], str]] = {
    "empty": (lambda raw: b"", "empty"),
    "short": (lambda raw: b"GGUF\3", "cut short"),
    "magic": (lambda raw: b"ABCD" + bytes(60), "not a GGUF file"),
    "torch": (lambda raw: b"PK\3\4" + bytes(60), "zip archive or PyTorch"),
    "lfs": (lambda raw: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "page": (lambda raw: b"<!DOCTYPE html>" + bytes(60), "web page"),
    "version 1": (lambda raw: raw.whole([], [], version=1), "version 1"),
    "version 4": (lambda raw: raw.whole([], [], version=4), "version 4"),
    "big-endian": (lambda raw: b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(64), "big-endian"),
    "big-endian magic": (lambda raw: b"FUGG" + struct.pack(">IQQ", 3, 0, 0) + bytes(64), "big-endian"),
    "tensor count": (lambda raw: b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0) + bytes(64), "cannot fit"),
    "key count": (lambda raw: b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40) + bytes(64), "cannot fit"),
    "key length": (lambda raw: b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + u64(HUGE) + bytes(64), "65535"),
    "empty key": (lambda raw: raw.whole([raw.pair("", 4, u32(1))], []), "0 bytes"),
    "key not UTF-8": (lambda raw: raw.whole([raw.pair(b"\xff\xfe", 4, u32(1))], []), "UTF-8"),
    "key twice": (lambda raw: raw.whole([raw.pair("k", 4, u32(1))] * 2, []), "'k': the key stands twice"),
    "value type": (lambda raw: value(raw, 13, bytes(8)), "'some.key': unknown value type 13"),
    "truth value": (lambda raw: value(raw, 7, b"\2"), "truth value"),
    "string length": (lambda raw: value(raw, 8, u64(2**62)), "'some.key': 4611686018427387904 bytes"),
    "string not UTF-8": (lambda raw: value(raw, 8, raw.text(b"\xc3\x28")), "UTF-8"),
    "array count": (lambda raw: value(raw, 9, u32(10) + u64(2**61)), "cannot fit"),
    "array element type": (lambda raw: value(raw, 9, u32(99) + u64(0)), "unknown element type 99"),
    "strings count": (lambda raw: value(raw, 9, u32(8) + u64(2**40)), "cannot fit"),
    "strings missing": (lambda raw: value(raw, 9, u32(8) + u64(3) + raw.text("x" * 30)), "missing"),
    "strings length": (lambda raw: value(raw, 9, u32(8) + u64(1) + u64(2**63)), "string 0 runs past"),
    "strings not UTF-8": (lambda raw: value(raw, 9, u32(8) + u64(1) + raw.text(b"\x80")), "string 0 is not"),
    "truth values": (lambda raw: value(raw, 9, u32(7) + u64(2) + b"\0\7"), "truth value"),
    "deep arrays": (lambda raw: value(raw, 9, (u32(9) + u64(1)) * 500 + bytes(64)), "deep"),
    "wide arrays": (
        lambda raw: value(raw, 9, u32(9) + u64(70_000) + (u32(4) + u64(0)) * 70_000),
        "limit of 65536",
    ),
    "alignment 0": (lambda raw: raw.whole([raw.pair("general.alignment", 4, u32(0))], []), "power of two"),
    "alignment 48": (lambda raw: raw.whole([raw.pair("general.alignment", 4, u32(48))], []), "power of two"),
    "alignment text": (
        lambda raw: raw.whole([raw.pair("general.alignment", 8, raw.text("32"))], []),
        "power of two",
    ),
    "alignment huge": (
        lambda raw: raw.whole(
            [raw.pair("general.alignment", 10, u64(2**63))], [raw.entry("t", (8,), 0, 0)], bytes(32)
        ),
        "the file has",
    ),
    "split count": (lambda raw: raw.whole([raw.pair("split.count", 8, raw.text("2"))], []), "'split.count'"),
    "tensor name empty": (lambda raw: one(raw, name=""), "tensor 0"),
    "tensor name not UTF-8": (lambda raw: one(raw, name=b"\xff"), "UTF-8"),
    "tensor twice": (
        lambda raw: raw.whole([], [raw.entry("t", (8,), 0, 0), raw.entry("t", (8,), 0, 32)], bytes(64)),
        "tensor 't': the name stands twice",
    ),
    "no dimensions": (lambda raw: one(raw, shape=()), "0 dimensions"),
    "five dimensions": (lambda raw: one(raw, shape=(1, 1, 1, 1, 1)), "5 dimensions"),
    "dimension 0": (lambda raw: one(raw, shape=(8, 0)), "dimension of 0"),
    "overflow to 0": (lambda raw: one(raw, shape=(2**32, 2**32)), "more numbers than any file"),
    "overflow to small": (lambda raw: one(raw, shape=(2**62 + 2, 4)), "more numbers than any file"),
    "type unknown": (lambda raw: one(raw, kind=77), "type 77 is not known"),
    "type removed": (lambda raw: one(raw, kind=31), "q4_0_4_4 (31) was removed"),
    "half a block": (lambda raw: one(raw, shape=(48,), kind=2), "q4_0 blocks of 32"),
    "row of half blocks": (lambda raw: one(raw, shape=(16, 2), kind=2), "q4_0 blocks of 32"),
    "misaligned": (lambda raw: one(raw, offset=8), "multiple of the alignment"),
    "past the end": (lambda raw: one(raw, shape=(64,)), "'t': it ends at byte"),
    "offset past the end": (lambda raw: one(raw, offset=2**40), "'t': it ends at byte"),
    "offset overflow": (lambda raw: one(raw, offset=2**64 - 32), "'t': it ends at byte"),
    "overlap": (
        lambda raw: raw.whole([], [raw.entry("b", (8,), 0, 32), raw.entry("a", (16,), 0, 0)], bytes(64)),
        "tensor 'b': it overlaps tensor 'a'",
    ),
    "escape codes": (lambda raw: one(raw, name="\x1b[2J\n" * 99, kind=77), "x1b[2J"),
}


@pytest.mark.parametrize("case", CASES)
def test_malformed_files_are_refused_in_one_line(tmp_path: Path, raw: Raw, case: str) -> None:
    build, says = CASES[case]
    path = tmp_path / "bad.gguf"
    path.write_bytes(build(raw))
    with pytest.raises(FileError) as caught:
        open_gguf(path)
    line = str(caught.value)
    assert says in line
    assert "bad.gguf" in line
    assert caught.value.remedy
    assert line.isprintable()
    assert len(line) < 600
    assert caught.value.status == 2


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    for name, says in (
        ("missing.gguf", "no such file"),
        ("pipe.gguf", "not a regular file"),
        ("", "Is a directory"),
    ):
        with pytest.raises(FileError, match=says):
            open_gguf(tmp_path / name)
    with pytest.raises(FileError, match="cannot be opened"):
        open_gguf(Path("a\0b.gguf"))


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small valid file with most kinds of value in it."""
    path = tmp_path_factory.mktemp("valid") / "valid.gguf"
    metadata = {
        "general.architecture": "llama",
        "general.alignment": 32,
        "flag": True,
        "epsilon": 1e-5,
        "tokens": ["a", "b", "ü"],
        "scores": np.array([0.5, 1.5], np.float32),
        "flags": [True, False],
        "nested": [[1, 2], [3]],
    }
    tensors = [
        Tensor("a.weight", "f32", (2, 4), np.zeros(32, np.uint8)),
        Tensor("b.weight", "q4_0", (1, 32), np.zeros(18, np.uint8)),
    ]
    write_gguf(path, metadata, tensors)
    return path.read_bytes()


def opens_or_refuses(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    tracemalloc.start()
    try:
        checkpoint = open_gguf(path)
    except FileError as error:
        assert "\n" not in str(error)
    else:
        for tensor in checkpoint.tensors.values():
            assert tensor.data.tobytes() is not None
        assert repr(dict(checkpoint.metadata))
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1_000_000


def test_every_truncation_opens_or_is_refused(tmp_path: Path, valid: bytes) -> None:
    for length in range(len(valid)):
        opens_or_refuses(tmp_path / "cut.gguf", valid[:length])


@given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_changed_byte_opens_or_is_refused(tmp_path: Path, valid: bytes, place: int, byte: int) -> None:
    changed = bytearray(valid)
    changed[place % len(valid)] = byte
    opens_or_refuses(tmp_path / "changed.gguf", bytes(changed))


@given(
    place=st.integers(0, 10**6),
    word=st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_absurd_word_opens_or_is_refused(tmp_path: Path, valid: bytes, place: int, word: int) -> None:
    start = place % (len(valid) - 8)
    changed = valid[:start] + u64(word) + valid[start + 8 :]
    opens_or_refuses(tmp_path / "changed.gguf", changed)
