"""Reading the values of a GGUF file, with every length checked before it is believed.

A `Cursor` walks the mapped bytes. It takes no step past the end, allocates nothing whose size it
has not first compared with the bytes that are left, and names the key it was reading when it
refuses. It knows value types, not what keys mean; tensors are read in `gguf_tensors`.

Source of the layout: the GGUF specification (ggml/docs/gguf.md), versions 2 and 3.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from fivefold.core.errors import FileError

CUT_SHORT = "the file is cut short or damaged: fetch it again"
DAMAGED = "the file is damaged or was not written by a GGUF program: fetch it again"

BOOL, STRING, ARRAY = 7, 8, 9

NUMBERS: Mapping[int, np.dtype[Any]] = MappingProxyType(
    {
        0: np.dtype("<u1"),
        1: np.dtype("<i1"),
        2: np.dtype("<u2"),
        3: np.dtype("<i2"),
        4: np.dtype("<u4"),
        5: np.dtype("<i4"),
        6: np.dtype("<f4"),
        10: np.dtype("<u8"),
        11: np.dtype("<i8"),
        12: np.dtype("<f8"),
    }
)
"""The numeric value types by their number in files."""

NAME_LIMIT = 65535
"""Bytes a key may take, by the specification; names of tensors are held to it too."""

DEPTH_LIMIT = 4
"""How deep arrays may lie in arrays."""

NESTED_LIMIT = 65536
"""Arrays that may lie in others, in a whole file: each costs far more memory than its bytes there."""

STRINGS_LIMIT = 1 << 22
"""Strings that the arrays of a whole file may have, for the same reason. Vocabularies have a tenth."""

_UINT32 = struct.Struct("<I")
_UINT64 = struct.Struct("<Q")


def shown(name: str) -> str:
    """A name from a file as it may stand in an error: printable, quoted, not endless."""
    return ascii(name if len(name) <= 80 else name[:77] + "...")


class Cursor:
    """A place in a mapped file, moving forwards.

    `where` is the file's name for errors, `position` the next byte, `end` the first byte past the
    file. Each reading method raises FileError when the bytes do not hold what it reads.
    """

    def __init__(self, data: bytes | mmap.mmap, where: str) -> None:
        self.data = data
        self.where = where
        self.position = 0
        self.end = len(data)
        self.reading = "the header"
        self._arrays_left = NESTED_LIMIT
        self._strings_left = STRINGS_LIMIT

    def fail(self, what: str, remedy: str = DAMAGED) -> FileError:
        """The error to raise: what is wrong in the thing that is being read."""
        return FileError(f"{self.reading}: {what}", where=self.where, remedy=remedy)

    def need(self, count: int) -> None:
        """FileError unless `count` more bytes are there."""
        left = self.end - self.position
        if count > left:
            raise self.fail(f"{count} bytes are needed and {left} are left", CUT_SHORT)

    def uint32(self) -> int:
        """The next 4 bytes as an unsigned number."""
        self.need(4)
        value: int = _UINT32.unpack_from(self.data, self.position)[0]
        self.position += 4
        return value

    def uint64(self) -> int:
        """The next 8 bytes as an unsigned number."""
        self.need(8)
        value: int = _UINT64.unpack_from(self.data, self.position)[0]
        self.position += 8
        return value

    def count(self, smallest: int, things: str, limit: int | None = None) -> int:
        """A count of things that take `smallest` bytes each at least; FileError if they cannot fit."""
        value = self.uint64()
        left = self.end - self.position
        if value * smallest > left:
            raise self.fail(f"{value} {things} cannot fit in the {left} bytes that are left", CUT_SHORT)
        if limit is not None and value > limit:
            raise self.fail(f"{value} {things} are above the limit of {limit}")
        return value

    def string(self) -> str:
        """A length and that many bytes of UTF-8."""
        length = self.uint64()
        self.need(length)
        start = self.position
        self.position = start + length
        try:
            return self.data[start : self.position].decode()
        except UnicodeDecodeError as error:
            raise self.fail(f"the text at byte {start} is not valid UTF-8 ({error.reason})") from None

    def name(self, things: str) -> str:
        """A string that names something: not empty and within the limit."""
        length = self.uint64()
        if not 0 < length <= NAME_LIMIT:
            raise self.fail(f"a {things} of {length} bytes is outside 1 to {NAME_LIMIT}")
        self.position -= 8
        return self.string()

    def value(self, kind: int, depth: int = 0) -> Any:
        """One value of that type: int, float, bool, str, a list of str, or a numpy array.

        A 64-bit float comes as np.float64 (which is a float), so that it can be written as it was.
        """
        dtype = NUMBERS.get(kind)
        if dtype is not None:
            number = self._numbers(dtype, 1)[0]
            return number if kind == 12 else number.item()
        if kind == STRING:
            return self.string()
        if kind == BOOL:
            return bool(self._bools(1)[0])
        if kind == ARRAY:
            return self._array(depth)
        raise self.fail(f"unknown value type {kind}")

    def _numbers(self, dtype: np.dtype[Any], count: int) -> np.ndarray[Any, np.dtype[Any]]:
        self.need(dtype.itemsize * count)
        values = np.frombuffer(self.data, dtype=dtype, count=count, offset=self.position)
        self.position += dtype.itemsize * count
        return values

    def _bools(self, count: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        stored = self._numbers(np.dtype(np.uint8), count)
        if count and stored.max() > 1:
            raise self.fail(f"a truth value is stored as {stored.max()}, not as 0 or 1")
        return stored.view(np.bool_)

    def _array(self, depth: int) -> Any:
        if depth >= DEPTH_LIMIT:
            raise self.fail(f"arrays lie more than {DEPTH_LIMIT} deep in each other")
        kind = self.uint32()
        dtype = NUMBERS.get(kind)
        if dtype is not None:
            count = self.count(dtype.itemsize, "elements")
            # A view of the file where the processor can read it, a copy where it is not aligned.
            values = np.require(self._numbers(dtype, count), requirements="A")
            values.setflags(write=False)
            return values
        if kind == BOOL:
            return self._bools(self.count(1, "elements"))
        if kind == STRING:
            count = self.count(8, "strings")
            self._strings_left -= count
            if self._strings_left < 0:
                raise self.fail(f"the file has more than {STRINGS_LIMIT} strings in arrays")
            return self._strings(count)
        if kind == ARRAY:
            count = self.count(12, "arrays")
            self._arrays_left -= count
            if self._arrays_left < 0:
                raise self.fail(f"arrays in arrays are above the limit of {NESTED_LIMIT}")
            return [self._array(depth + 1) for _ in range(count)]
        raise self.fail(f"unknown element type {kind}")

    def _strings(self, count: int) -> list[str]:
        """`count` strings. Vocabularies are read here, so the loop has no calls that it can spare."""
        data, end, position = self.data, self.end, self.position
        length_at = _UINT64.unpack_from
        strings: list[str] = []
        add = strings.append
        try:
            for _ in range(count):
                start = position + 8
                position = start + length_at(data, position)[0]
                if position > end:
                    raise self.fail(f"string {len(strings)} runs past the end of the file", CUT_SHORT)
                add(data[start:position].decode())
        except struct.error:
            raise self.fail(f"string {len(strings)} of {count} is missing", CUT_SHORT) from None
        except UnicodeDecodeError as error:
            raise self.fail(f"string {len(strings)} is not valid UTF-8 ({error.reason})") from None
        self.position = position
        return strings
