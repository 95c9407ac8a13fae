"""Writing GGUF files, version 3: in one piece, or as a layout to be filled tensor by tensor.

`write_gguf` takes tensors that are there; the file appears under its name only when it is complete: it is
written beside it and renamed. `gguf_layout` takes names, formats and shapes, for tensors whose bytes are made
later (`filling`). The writer keeps to what the reader checks, so what it writes can be opened. It does not
quantize and does not split.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import FivefoldError, InputError
from fivefold.files.ggml_types import GGML_TYPES_BY_NAME
from fivefold.files.gguf import DEFAULT_ALIGNMENT, MAGIC
from fivefold.files.gguf_tensors import DIMENSIONS_LIMIT
from fivefold.files.gguf_values import ARRAY, BOOL, DEPTH_LIMIT, NAME_LIMIT, NUMBERS, STRING, shown
from fivefold.files.layout import Layout, Outlined, Place
from fivefold.files.whole import whole_file

_KIND_OF = {dtype: kind for kind, dtype in NUMBERS.items()}


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Iterable[Tensor]) -> None:
    """Write a GGUF file, replacing `path` only when all of it is on the disk.

    A numpy scalar or array keeps its type. A Python int becomes u32, or i32 if it is negative, or
    64 bits wide if it must; a Python float becomes f32, as GGUF's keys expect (np.float64 keeps
    f64). Lists hold strings, truth values, numbers or lists; an empty list is one of strings.
    `general.alignment` in the metadata (32 without it) places the tensors.
    Raises InputError for what a GGUF file cannot hold, FivefoldError if writing fails.
    """
    listed = list(tensors)
    where = str(path)
    alignment = _alignment(metadata, where)
    header, places = _header(metadata, listed, path.name, where)
    for tensor in listed:
        if tensor.data.nbytes != places[tensor.name].size:
            raise InputError(
                f"{tensor.data.nbytes} bytes do not hold {list(tensor.shape)} numbers in {tensor.format}",
                where=f"{where}: tensor {shown(tensor.name)}",
                remedy="the shape and the stored bytes must agree",
            )
    try:
        _write_beside(path, header, listed, alignment)
    except OSError as error:
        raise FivefoldError(
            f"cannot be written ({error.strerror or error})",
            where=where,
            remedy="check the folder, its permissions and the room on the disk",
        ) from None


def gguf_layout(
    file: str, metadata: Mapping[str, Any], tensors: Iterable[Outlined], where: str = ""
) -> Layout:
    """The layout of a GGUF file of that name with these tensors and metadata, typed as `write_gguf` does.

    Raises InputError, with `where` the file is to lie, for what a GGUF file cannot hold.
    """
    alignment = _alignment(metadata, where)
    header, places = _header(metadata, list(tensors), file, where)
    end = max((place.offset + place.size for place in places.values()), default=len(header))
    return Layout({file: bytes(header)}, {file: -(-end // alignment) * alignment}, places)


def _header(
    metadata: Mapping[str, Any], tensors: Sequence[Outlined], file: str, where: str
) -> tuple[bytearray, dict[str, Place]]:
    """All that comes before the tensors, padded, and where these lie in the file."""
    alignment = _alignment(metadata, where)
    header = bytearray(MAGIC + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
    for key, value in metadata.items():
        header += _name(key, "key", where)
        header += _value(value, f"{where}: key {shown(key)}")
    places: dict[str, Place] = {}
    offset = 0
    for tensor in tensors:
        if tensor.name in places:
            raise InputError(
                "the name is given twice", where=f"{where}: tensor {shown(tensor.name)}",
                remedy="name each tensor once",
            )  # fmt: skip
        line, size = _line(tensor, offset, where)
        header += line
        places[tensor.name] = Place(file, offset, size)
        offset += -(-size // alignment) * alignment
    header += bytes(-len(header) % alignment)
    start = len(header)
    return header, {name: Place(file, start + one.offset, one.size) for name, one in places.items()}


def _write_beside(path: Path, header: bytearray, tensors: list[Tensor], alignment: int) -> None:
    with whole_file(path) as file:
        file.write(header)
        for tensor in tensors:
            _write_tensor(file, tensor, alignment)


def _write_tensor(file: BinaryIO, tensor: Tensor, alignment: int) -> None:
    file.write(np.ascontiguousarray(tensor.data).data)
    file.write(bytes(-tensor.data.nbytes % alignment))


def _alignment(metadata: Mapping[str, Any], where: str) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(value, int | np.integer) or value < 1 or int(value) & (int(value) - 1):
        raise InputError("key 'general.alignment' is not a power of two", where=where, remedy="give 32")
    return int(value)


def _name(name: str, things: str, where: str) -> bytes:
    text = _text(name, f"{where}: {things} {shown(name)}")
    if not 0 < len(text) - 8 <= NAME_LIMIT:
        raise InputError(
            f"a {things} of {len(text) - 8} bytes", where=where, remedy=f"give it 1 to {NAME_LIMIT} bytes"
        )
    return text


def _text(text: str, where: str) -> bytes:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise InputError("text that is not valid Unicode", where=where, remedy="repair the text") from None
    return struct.pack("<Q", len(encoded)) + encoded


def _value(value: Any, where: str) -> bytes:
    """The type and the bytes of one value."""
    if isinstance(value, np.ndarray | list | tuple):
        return struct.pack("<I", ARRAY) + _array(value, where, 0)
    kind, data = _element(value, where)
    return struct.pack("<I", kind) + data


def _element(value: Any, where: str) -> tuple[int, bytes]:
    """The type number and the bytes of a value that is no array."""
    if isinstance(value, str):
        return STRING, _text(value, where)
    if isinstance(value, bool | np.bool_):
        return BOOL, bytes([bool(value)])
    if isinstance(value, np.generic):
        dtype = value.dtype.newbyteorder("<")
        if dtype in _KIND_OF:
            return _KIND_OF[dtype], value.astype(dtype).tobytes()
    elif isinstance(value, int):
        for dtype in (np.dtype("<u4"), np.dtype("<i4"), np.dtype("<u8"), np.dtype("<i8")):
            limits = np.iinfo(dtype)
            if limits.min <= value <= limits.max:
                return _KIND_OF[dtype], dtype.type(value).tobytes()
    elif isinstance(value, float):
        with np.errstate(over="ignore"):
            return _KIND_OF[np.dtype("<f4")], np.dtype("<f4").type(value).tobytes()
    raise InputError(
        f"a GGUF file has no type for {type(value).__name__} here",
        where=where,
        remedy="give a str, bool, int, float, or a list or numpy array of one of them",
    )


def _array(values: Any, where: str, depth: int) -> bytes:
    """Element type, count and elements of an array."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype != np.object_:
        if values.dtype == np.bool_:
            return struct.pack("<IQ", BOOL, values.size) + values.tobytes()
        dtype = values.dtype.newbyteorder("<")
        if dtype in _KIND_OF:
            return struct.pack("<IQ", _KIND_OF[dtype], values.size) + values.astype(dtype).tobytes()
    listed = list(values)
    if any(isinstance(value, np.ndarray | list | tuple) for value in listed):
        if depth + 1 >= DEPTH_LIMIT or not all(isinstance(one, np.ndarray | list | tuple) for one in listed):
            raise InputError(
                f"arrays may hold arrays, {DEPTH_LIMIT} deep, but then nothing else",
                where=where,
                remedy="write the values under keys of their own",
            )
        inner = b"".join(_array(one, where, depth + 1) for one in listed)
        return struct.pack("<IQ", ARRAY, len(listed)) + inner
    if listed and all(type(one) in (int, float) for one in listed):
        return _array(_number_array(listed, where), where, depth)
    elements = [_element(one, where) for one in listed]
    kinds = {kind for kind, _ in elements} or {STRING}
    if len(kinds) > 1:
        raise InputError("the elements of an array differ in type", where=where, remedy="give one type")
    return struct.pack("<IQ", kinds.pop(), len(elements)) + b"".join(data for _, data in elements)


def _number_array(values: list[int | float], where: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Python numbers as one array: f32 if one is a float, else the first integer type that holds all."""
    if any(isinstance(value, float) for value in values):
        with np.errstate(over="ignore"):
            return np.array(values, dtype="<f4")
    for name in ("<i4", "<u4", "<i8", "<u8"):
        limits = np.iinfo(name)
        if limits.min <= min(values) and max(values) <= limits.max:
            return np.array(values, dtype=name)
    raise InputError("whole numbers past 64 bits", where=where, remedy="give smaller numbers")


def _line(tensor: Outlined, offset: int, where: str) -> tuple[bytes, int]:
    """A line of the tensor table (name, dimensions innermost first, type, offset), and the tensor's bytes."""
    label = f"{where}: tensor {shown(tensor.name)}"
    kind = GGML_TYPES_BY_NAME.get(tensor.format)
    if kind is None:
        raise InputError(
            f"a GGUF file has no number for format {tensor.format!r}",
            where=label,
            remedy=f"use one of {', '.join(GGML_TYPES_BY_NAME)}",
        )
    shape = tensor.shape
    if not 1 <= len(shape) <= DIMENSIONS_LIMIT or min(shape) < 1:
        raise InputError(f"shape {shape}", where=label, remedy="give 1 to 4 dimensions of 1 or more")
    if shape[-1] % kind.block:
        raise InputError(
            f"whole {kind.name} blocks of {kind.block} do not hold rows of {shape[-1]} numbers",
            where=label,
            remedy="store this tensor in another format",
        )
    line = _name(tensor.name, "tensor name", where)
    line += struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
    line += struct.pack("<IQ", kind.number, offset)
    return line, math.prod(shape) // kind.block * kind.block_bytes
