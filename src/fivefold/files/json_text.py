"""Reading JSON that strangers wrote: one object, no name twice, nothing that only Python would take.

Every fault is a FileError in one line. What the values mean is for the callers, who check their types.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from fivefold.core.errors import FileError
from fivefold.files.gguf_values import shown
from fivefold.files.mapped import open_regular

SMALL_FILE = 16 << 20
"""Bytes that a config file may have at most."""


MOST_MARKS = 2 << 20
"""Commas and opening brackets in a text: each stands for a value, which takes far more than its byte."""


def read_json(path: Path, limit: int = SMALL_FILE) -> dict[str, Any]:
    """The object in a JSON file of at most `limit` bytes; FileError names the file."""
    text = read_text(path, limit)
    return parse_object(text, lambda what: FileError(what, where=str(path), remedy="fetch the file again"))


def read_text(path: Path, limit: int = SMALL_FILE) -> str:
    """The text of a UTF-8 file of at most `limit` bytes; FileError names the file."""
    try:
        with open_regular(path, path.suffix) as file:
            # Not `limit` alone: so many bytes would be reserved before the first is read.
            data = file.read(min(os.fstat(file.fileno()).st_size, limit) + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(
            f"cannot be read ({reason})", where=str(path), remedy="check the path and its permissions"
        ) from None
    if len(data) > limit:
        raise FileError(f"the file has more than {limit} bytes", where=str(path), remedy="fetch it again")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FileError(
            f"the text at byte {error.start} is not valid UTF-8 ({error.reason})",
            where=str(path),
            remedy="fetch the file again",
        ) from None


def parse_object(
    text: str, fail: Callable[[str], FileError], fractions: bool = True, marks: int = MOST_MARKS
) -> dict[str, Any]:
    """The object that a text is; what `fail` makes of the reason is raised when it is none.

    Without `fractions` all numbers must be whole.
    """
    if sum(map(text.count, ",[{")) > marks:
        raise fail(f"it has more than {marks} commas and brackets")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_float=_number if fractions else _no_fraction,
        )
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise fail(f"not valid JSON ({reason})") from None
    if not isinstance(value, dict):
        raise fail("not a JSON object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the name {shown(name)} stands twice")
            seen.add(name)
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _no_fraction(text: str) -> NoReturn:
    raise ValueError(f"{shown(text)} is not a whole number")


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{shown(text)} is too large")
    return value
