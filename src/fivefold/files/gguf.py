"""Opening GGUF files, versions 2 and 3, whole or in parts: mapped, lazy and distrustful.

A model file comes from strangers. Nothing in it is believed before it was checked, and whatever is
wrong is one FileError line that names the file, the key or tensor, and what to do. Metadata is
read at once (it is small); tensors are read-only views of the mapped file, so opening costs the
same for a small model and for a large one. What the keys mean is for `models` and the tokenizer.

Source: the GGUF specification (ggml/docs/gguf.md); parts are named as llama.cpp's gguf-split does.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, TypeVar

from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.errors import FileError
from fivefold.files.gguf_scales import with_scales
from fivefold.files.gguf_tensors import SMALLEST_ENTRY, map_tensors, read_entries
from fivefold.files.gguf_values import Cursor, shown
from fivefold.files.mapped import map_file, stranger

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
KEYS_LIMIT, TENSORS_LIMIT = 1 << 16, 1 << 18
"""Far above any model's, and low enough that a file made of them costs little memory."""

_SMALLEST_PAIR = 14  # a key of one byte, its type, and a value of one byte
_PART = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$", re.DOTALL)

AnyPath = TypeVar("AnyPath", bound=PurePath)


def open_gguf(path: Path) -> Checkpoint:
    """Open a GGUF file, or all parts of one when `path` is one of them.

    `metadata` maps keys to int, float, bool, str, list of str or numpy array (read-only), those of
    the first part when there are several. `tensors` maps names to views with row-major shapes.
    Raises FileError when the file is missing, cut short, malformed, or of an unknown version or type.
    """
    metadata, tensors = _open_one(path)
    count = _whole(metadata, "split.count", path)
    if count > 1:
        path, metadata, tensors = _open_parts(path, metadata, tensors, count)
    joined = with_scales(tensors, str(path))
    return Checkpoint(path, "gguf", MappingProxyType(metadata), MappingProxyType(joined))


def part_paths(path: AnyPath) -> list[AnyPath] | None:
    """All parts of a split file by the name of one of them, in order; None if it is not named so."""
    match = _PART.match(path.name)
    if match is None:
        return None
    stem, count = match["stem"], int(match["count"])
    if not 1 <= int(match["number"]) <= count:
        return None
    return [path.with_name(f"{stem}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]


def _open_one(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    return read_gguf(map_file(path, ".gguf"), str(path))


def read_gguf(data: bytes | mmap.mmap, where: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and tensors of the bytes of one file, which `where` names in errors; see `open_gguf`."""
    cursor = Cursor(data, where)
    _check_magic(cursor)
    tensor_count = cursor.count(SMALLEST_ENTRY, "tensors", TENSORS_LIMIT)
    pair_count = cursor.count(_SMALLEST_PAIR, "keys", KEYS_LIMIT)
    metadata: dict[str, Any] = {}
    for index in range(pair_count):
        cursor.reading = f"key {index}"
        key = cursor.name("key")
        cursor.reading = f"key {shown(key)}"
        if key in metadata:
            raise cursor.fail("the key stands twice in the file")
        metadata[key] = cursor.value(cursor.uint32())
    cursor.reading = "the tensor table"
    alignment = _alignment(metadata, where)
    entries = read_entries(cursor, tensor_count, alignment)
    start = -(-cursor.position // alignment) * alignment
    return metadata, map_tensors(cursor, entries, start)


def _check_magic(cursor: Cursor) -> None:
    magic = bytes(cursor.data[:4])
    if magic != MAGIC:
        known = stranger(cursor.data, cursor.where, "GGUF")
        if known is not None:
            raise known
        raise FileError(
            f"not a GGUF file: it begins with {magic!r}", where=cursor.where, remedy="name a GGUF file"
        )
    cursor.position = 4
    version = cursor.uint32()
    if version in VERSIONS:
        return
    if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
        raise FileError(
            "a big-endian GGUF file", where=cursor.where, remedy="use the little-endian file of this model"
        )
    raise FileError(
        f"GGUF version {version} is not known; {' and '.join(map(str, VERSIONS))} are",
        where=cursor.where,
        remedy="use a file that was converted with a current program",
    )


def _alignment(metadata: Mapping[str, Any], where: str) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(value) is not int or value < 1 or value & (value - 1):
        text = value if isinstance(value, int | float) else type(value).__name__
        raise FileError(
            f"key 'general.alignment': {text} is not a power of two", where=where, remedy="fetch it again"
        )
    return value


def _whole(metadata: Mapping[str, Any], key: str, path: Path) -> int:
    """A count from the metadata, 0 when it is absent."""
    value = metadata.get(key, 0)
    if type(value) is not int or value < 0:
        raise FileError(f"key {key!r} is not a whole number", where=str(path), remedy="fetch it again")
    return value


def _open_parts(
    path: Path, metadata: dict[str, Any], tensors: dict[str, Tensor], count: int
) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    """Join the parts of a split file, one of which is open already."""
    paths = part_paths(path)
    if paths is None or len(paths) != count:
        raise FileError(
            f"this is one of {count} parts, and its name does not say where the others are",
            where=str(path),
            remedy=f"name the parts NAME-00001-of-{count:05d}.gguf and so on",
        )
    joined: dict[str, Tensor] = {}
    first: dict[str, Any] = metadata
    for number, part in enumerate(paths):
        if part != path and not part.exists():
            raise FileError(
                f"part {number + 1} of {count} is missing", where=str(part), remedy="fetch all parts"
            )
        keys, held = (metadata, tensors) if part == path else _open_one(part)
        first = keys if number == 0 else first
        if _whole(keys, "split.count", part) != count or _whole(keys, "split.no", part) != number:
            raise FileError(
                f"its keys do not say that it is part {number + 1} of {count}",
                where=str(part),
                remedy="fetch all parts of one model again, and do not rename them",
            )
        twice = joined.keys() & held.keys()
        if twice:
            raise FileError(
                f"tensor {shown(min(twice))} also stands in an earlier part",
                where=str(part),
                remedy="fetch all parts of one model again",
            )
        joined.update(held)
    expected = _whole(first, "split.tensors.count", paths[0])
    if expected and expected != len(joined):
        raise FileError(
            f"the parts hold {len(joined)} tensors and should hold {expected}",
            where=str(paths[0]),
            remedy="fetch all parts of one model again",
        )
    return paths[0], first, joined
