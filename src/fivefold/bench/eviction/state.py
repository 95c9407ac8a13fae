"""Records of prompts in a file of JSON lines, so that a stopped measurement goes on where it was.

The first line says what is measured; a file of another measurement is refused. Each record is one line,
written when its document is done; a last line that was cut off is dropped. More prompts of the same
measurement may be added later. Without a file records are kept in memory alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fivefold.core.errors import InputError

_WHERE = "--state"
_REMEDY = "remove it, or name another file"
Record = dict[str, Any]


class State:
    """Records of a measurement, by what each has under `key`. InputError if the file is of another one."""

    def __init__(self, path: Path | None, identity: Mapping[str, Any], key: str = "prompt") -> None:
        self.records: dict[str, Record] = {}
        self._key = key
        self._path = path
        if path is None:
            return
        lines = _whole_lines(path)
        if lines:
            _check(path, _read(path, lines[0]), json.loads(json.dumps(dict(identity))))
            for line in lines[1:]:
                record = _read(path, line)
                self.records[str(record.get(key))] = record
        else:
            _append(path, [dict(identity)])

    def documents(self) -> set[str]:
        """Names of documents that are done."""
        return {str(record["document"]) for record in self.records.values()}

    def add(self, records: Sequence[Record]) -> None:
        """The records of what was measured together."""
        for record in records:
            self.records[record[self._key]] = record
        if self._path is not None:
            _append(self._path, records)


def _whole_lines(path: Path) -> list[str]:
    """The file's lines; one that is not whole is cut off. None are those of no file."""
    try:
        if not path.exists():
            if not path.parent.is_dir():
                raise InputError("there is no such folder", where=f"{_WHERE} {path}", remedy="make it first")
            return []
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
        return content[:whole].decode().splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a state that can be read", where=_WHERE, remedy=_REMEDY) from error


def _read(path: Path, line: str) -> Record:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a state that can be read", where=_WHERE, remedy=_REMEDY)
    return found


def _check(path: Path, held: Record, wanted: Record) -> None:
    for name in [*wanted, *(name for name in held if name not in wanted)]:
        if held.get(name) != wanted.get(name):
            raise InputError(
                f"{path} is the state of another measurement: {name} is {held.get(name)} there and "
                f"{wanted.get(name)} here", where=_WHERE, remedy=_REMEDY,
            )  # fmt: skip


def _append(path: Path, records: Sequence[Record]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}", where=_WHERE,
                         remedy="name a file in a folder that can be written") from error  # fmt: skip
