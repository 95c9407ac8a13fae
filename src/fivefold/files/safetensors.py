"""Opening one safetensors file: mapped, lazy and distrustful.

A file is 8 bytes with the length of its header, the header (a JSON object that says for each tensor its
type, its shape and where its bytes lie), and the bytes. Nothing in it is believed before it was checked:
the tensors must fill the rest of the file without a hole, an overlap or a byte that belongs to none, as
the format demands, so that nothing is hidden in it. Whatever is wrong is one FileError line. Tensors are
read-only views of the mapped file; none is read here. How files make a model is for `huggingface`.

Source: the description of the format in the safetensors repository (README, "Format").
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import FileError
from fivefold.files.gguf_values import CUT_SHORT, NAME_LIMIT, shown
from fivefold.files.json_text import parse_object
from fivefold.files.mapped import map_file, stranger
from fivefold.files.safetensors_types import SAFETENSORS_TYPES

HEADER_LIMIT = 100_000_000
"""Bytes of the longest header that the format allows."""

DIMENSIONS_LIMIT = 8

_LENGTH_BYTES = 8
_FREE_TEXT = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}
_LARGEST = 2**63 - 1
_DAMAGED = "the file is damaged or was not written by a safetensors program: fetch it again"


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor of the header; `start` and `stop` count from the end of the header."""

    name: str
    format: str
    shape: tuple[int, ...]
    start: int
    stop: int


def open_safetensors(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a safetensors file by name, as views of the mapped file.

    Raises FileError when the file is missing, cut short, malformed, or has a type that is not known.
    """
    return read_safetensors(map_file(path, ".safetensors"), str(path))


def read_safetensors(data: bytes | mmap.mmap, where: str) -> Mapping[str, Tensor]:
    """The same for the bytes of a file, which `where` names in errors."""
    header, start = _header(data, where)
    entries = [_entry(name, value, where) for name, value in header.items() if name != _FREE_TEXT]
    _check_free_text(header.get(_FREE_TEXT, {}), where)
    _check_places(entries, len(data) - start, where)
    whole = np.frombuffer(data, dtype=np.uint8)
    tensors: dict[str, Tensor] = {}
    for entry in entries:
        view = whole[start + entry.start : start + entry.stop]
        tensors[entry.name] = Tensor(entry.name, entry.format, entry.shape, view)
    return MappingProxyType(tensors)


def free_text(path: Path) -> Mapping[str, str]:
    """What the writer of a safetensors file says of it in the header: strings by name, none of them checked.

    Raises FileError as `open_safetensors`.
    """
    where = str(path)
    header, _ = _header(map_file(path, ".safetensors"), where)
    found = header.get(_FREE_TEXT, {})
    _check_free_text(found, where)
    return MappingProxyType(dict(found))


def _header(data: bytes | mmap.mmap, where: str) -> tuple[dict[str, Any], int]:
    """The header, and the byte at which it ends."""

    def fail(what: str) -> FileError:
        return FileError(f"the header: {what}", where=where, remedy=_DAMAGED)

    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    left = len(data) - _LENGTH_BYTES
    if left < 0 or length > min(left, HEADER_LIMIT):
        known = stranger(data, where, "safetensors")
        if known is not None:
            raise known
        if left < 0:
            raise FileError(f"the file has {len(data)} bytes", where=where, remedy=CUT_SHORT)
        if length > HEADER_LIMIT:
            raise fail(f"a length of {length} bytes is above the limit of {HEADER_LIMIT}")
        raise FileError(
            f"the header: {length} bytes are needed and {left} are left", where=where, remedy=CUT_SHORT
        )
    stored = bytes(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
    if not stored.startswith(b"{"):
        raise fail("it does not begin with a brace")
    try:
        text = stored.decode()
    except UnicodeDecodeError as error:
        raise fail(f"the text at byte {error.start} is not valid UTF-8 ({error.reason})") from None
    return parse_object(text, fail, fractions=False), _LENGTH_BYTES + length


def _entry(name: str, value: Any, where: str) -> _Entry:
    label = f"tensor {shown(name)}"

    def fail(what: str) -> FileError:
        return FileError(f"{label}: {what}", where=where, remedy=_DAMAGED)

    if not 0 < len(name) <= NAME_LIMIT:
        raise fail(f"a name of {len(name)} characters is outside 1 to {NAME_LIMIT}")
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise fail(f"it is not described by {', '.join(sorted(_FIELDS))} alone")
    kind = value["dtype"]
    if not isinstance(kind, str) or kind not in SAFETENSORS_TYPES:
        said = shown(kind) if isinstance(kind, str) else type(kind).__name__
        raise FileError(
            f"{label}: type {said} is not known",
            where=where,
            remedy=f"known are {', '.join(SAFETENSORS_TYPES)}",
        )
    form, bits = SAFETENSORS_TYPES[kind]
    shape, offsets = _whole_numbers(value["shape"]), _whole_numbers(value["data_offsets"])
    if shape is None or len(shape) > DIMENSIONS_LIMIT:
        raise fail(f"its shape is not a list of at most {DIMENSIONS_LIMIT} whole numbers from 0 on")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise fail("its data_offsets are not two whole numbers from 0 on, the smaller first")
    size = bits
    for dimension in shape:
        size *= dimension
    if size > _LARGEST:
        raise fail("its shape has more numbers than any file can hold")
    if size != 8 * (offsets[1] - offsets[0]):
        raise fail(f"{offsets[1] - offsets[0]} bytes do not hold {list(shape)} numbers of {bits} bits each")
    return _Entry(name, form, shape, *offsets)


def _whole_numbers(value: Any) -> tuple[int, ...] | None:
    """A list of numbers from 0 to what 63 bits hold; None for anything else."""
    if not isinstance(value, list) or not all(type(one) is int and 0 <= one <= _LARGEST for one in value):
        return None
    return tuple(value)


def _check_free_text(value: Any, where: str) -> None:
    """What writers say of themselves is a map of strings; nothing is done with it."""
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise FileError(f"the header: {_FREE_TEXT} is not a map of strings", where=where, remedy=_DAMAGED)


def _check_places(entries: list[_Entry], size: int, where: str) -> None:
    """FileError unless the tensors follow each other from the first to the last of `size` bytes."""
    before = 0
    for entry in sorted(entries, key=lambda one: (one.start, one.stop)):
        label = f"tensor {shown(entry.name)}"
        if entry.stop > size:
            raise FileError(
                f"{label}: it ends at byte {entry.stop} of the data and there are {size}",
                where=where,
                remedy=CUT_SHORT,
            )
        if entry.start != before:
            what = "it overlaps another" if entry.start < before else "bytes before it belong to no tensor"
            raise FileError(f"{label}: {what}", where=where, remedy=_DAMAGED)
        before = entry.stop
    if before != size:
        raise FileError(f"{size - before} bytes at the end belong to no tensor", where=where, remedy=_DAMAGED)
