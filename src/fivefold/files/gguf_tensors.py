"""The tensor table of a GGUF file: reading it, and checking that every tensor lies in the file.

Offsets come from the file and are believed only after the arithmetic has been done in Python's
unbounded integers: aligned, inside the file, not overlapping. What results are views of the mapped
bytes; nothing of a tensor is read here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import FileError
from fivefold.files.ggml_types import GGML_TYPES, REMOVED_TYPES, GgmlType
from fivefold.files.gguf_values import CUT_SHORT, DAMAGED, Cursor, shown

SMALLEST_ENTRY = 33
"""Bytes of the shortest possible entry: a name of one byte and one dimension."""

DIMENSIONS_LIMIT = 4

_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the tensor table. `shape` is row-major; `offset` counts from the data section."""

    name: str
    type: GgmlType
    shape: tuple[int, ...]
    offset: int
    size: int


def read_entries(cursor: Cursor, count: int, alignment: int) -> list[Entry]:
    """The tensor table at the cursor, in the order of the file.

    Raises FileError for duplicate names, impossible shapes, offsets off the alignment, and types
    that are not in the table of types.
    """
    entries: list[Entry] = []
    seen: set[str] = set()
    for index in range(count):
        cursor.reading = f"tensor {index}"
        name = cursor.name("tensor name")
        cursor.reading = f"tensor {shown(name)}"
        if name in seen:
            raise cursor.fail("the name stands twice in the file")
        seen.add(name)
        shape = _read_shape(cursor)
        kind = _type_of(cursor, cursor.uint32())
        offset = cursor.uint64()
        if offset % alignment:
            raise cursor.fail(f"offset {offset} is not a multiple of the alignment {alignment}")
        entries.append(Entry(name, kind, shape, offset, _size_of(cursor, kind, shape)))
    return entries


def _read_shape(cursor: Cursor) -> tuple[int, ...]:
    dimensions = cursor.uint32()
    if not 1 <= dimensions <= DIMENSIONS_LIMIT:
        raise cursor.fail(f"{dimensions} dimensions; 1 to {DIMENSIONS_LIMIT} are allowed")
    shape = tuple(cursor.uint64() for _ in range(dimensions))
    if 0 in shape:
        raise cursor.fail(f"the shape {list(reversed(shape))} has a dimension of 0")
    return shape[::-1]


def _type_of(cursor: Cursor, number: int) -> GgmlType:
    kind = GGML_TYPES.get(number)
    if kind is not None:
        return kind
    where = f"{cursor.where}: {cursor.reading}"
    if number in REMOVED_TYPES:
        raise FileError(
            f"tensor type {REMOVED_TYPES[number]} ({number}) was removed from GGUF",
            where=where,
            remedy="use a file that was converted again with a current program",
        )
    raise FileError(
        f"tensor type {number} is not known",
        where=where,
        remedy="use a file in another format, or check whether the file is damaged",
    )


def _size_of(cursor: Cursor, kind: GgmlType, shape: tuple[int, ...]) -> int:
    if shape[-1] % kind.block:
        raise cursor.fail(f"rows of {shape[-1]} numbers do not fill whole {kind.name} blocks of {kind.block}")
    count = 1
    for dimension in shape:
        count *= dimension
    size = count // kind.block * kind.block_bytes
    if count > _LARGEST or size > _LARGEST:
        raise cursor.fail(f"the shape {list(shape)} has more numbers than any file can hold")
    return size


def map_tensors(cursor: Cursor, entries: list[Entry], start: int) -> dict[str, Tensor]:
    """The tensors as views of the mapped file, whose data section begins at byte `start`.

    Raises FileError when one reaches past the end of the file or into another.
    """
    before: Entry | None = None
    for entry in sorted(entries, key=lambda one: one.offset):
        label = f"tensor {shown(entry.name)}"
        if start + entry.offset + entry.size > cursor.end:
            raise FileError(
                f"{label}: it ends at byte {start + entry.offset + entry.size} and the file has {cursor.end}",
                where=cursor.where,
                remedy=CUT_SHORT,
            )
        if before is not None and before.offset + before.size > entry.offset:
            raise FileError(
                f"{label}: it overlaps tensor {shown(before.name)}", where=cursor.where, remedy=DAMAGED
            )
        before = entry
    data = np.frombuffer(cursor.data, dtype=np.uint8)
    tensors: dict[str, Tensor] = {}
    for entry in entries:
        first = start + entry.offset
        view = data[first : first + entry.size]
        tensors[entry.name] = Tensor(entry.name, entry.type.name, entry.shape, view)
    return tensors
