"""Filling a layout tensor by tensor, so that an interruption loses the tensor under way and no other.

What is unfinished lies in a hidden folder beside the target: the files at their full length, and a journal.
A line of the journal says which tensors are in the files and the checksums of their bytes; it is written
after these have reached the disk. Whoever resumes holds the bytes against it, and the target appears under
its name only when all of it is there. The journal begins with a mark: what is filled under one mark is not
resumed under another. What the bytes are is for the callers.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fivefold.core.errors import FivefoldError, InputError
from fivefold.files.gguf_values import shown
from fivefold.files.layout import Layout, Place

JOURNAL, FILES = "journal", "files"


class Filling:
    """A target that is being written: a file, or with `folder` a folder of files.

    `mark` says what the bytes are made of. With `resume` what an earlier run has left is continued, without
    it thrown away. Raises InputError when that was made under another mark or another process is at it,
    FivefoldError when nothing can be written.
    """

    def __init__(self, target: Path, layout: Layout, mark: str, *, resume: bool, folder: bool) -> None:
        self.target = target
        self.work = target.with_name(f".{target.name}.unfinished")
        self.finished: dict[str, tuple[str, ...]] = {}
        self._layout = layout
        self._files = self.work / FILES
        self._folder = folder
        with self._writing():
            self._files.mkdir(parents=True, exist_ok=True)
            self._journal = self._lock()
            try:
                if resume:
                    self._resume(mark)
                else:
                    self._begin(mark)
                self._open = self._prepare()
            except BaseException:
                self._journal.close()
                raise

    def __enter__(self) -> Filling:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; what is unfinished stays for another run."""
        for file in (*getattr(self, "_open", {}).values(), self._journal):
            file.close()

    def put(self, group: str, data: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """The bytes of some tensors, which are finished together; they are on the disk afterwards."""
        checksums = {}
        with self._writing():
            touched = set()
            for name, piece in data.items():
                place = self._layout.places[name]
                if piece.nbytes != place.size:
                    raise FivefoldError(
                        f"tensor {shown(name)} has {piece.nbytes} bytes, not {place.size}",
                        where=str(self.target),
                    )
                raw = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
                file = self._open[place.file]
                file.seek(place.offset)
                file.write(raw.data)
                touched.add(place.file)
                checksums[name] = zlib.crc32(raw.data)
            for name in touched:
                self._open[name].flush()
                os.fsync(self._open[name].fileno())
            self._note({"group": group, "tensors": checksums})
        self.finished[group] = tuple(checksums)

    def discard(self) -> None:
        """Throw away what is unfinished: nobody can go on with it."""
        self.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def complete(self, add: Callable[[Path], None] | None = None) -> None:
        """Put the target in place; `add` may write more files into its folder before."""
        held = {name for names in self.finished.values() for name in names}
        missing = self._layout.places.keys() - held
        if missing:
            raise FivefoldError(f"tensor {shown(min(missing))} was never written", where=str(self.target))
        with self._writing():
            if add is not None:
                add(self._files)
            for file in self._open.values():
                file.flush()
                os.fsync(file.fileno())
            made = self._files if self._folder else self._files / next(iter(self._layout.sizes))
            made.replace(self.target)
            _sync_folder(self.target.parent)
        self.discard()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FivefoldError(
                f"cannot be written ({error.strerror or error})", where=str(self.target),
                remedy="check the folder, its permissions and the room on the disk, then run again with "
                f"--resume: what is done lies in {self.work.name}",
            ) from None  # fmt: skip

    def _lock(self) -> BinaryIO:
        journal = (self.work / JOURNAL).open("a+b")
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            journal.close()
            raise InputError(
                "another process is writing this", where=str(self.target), remedy="wait for it or end it"
            ) from None
        return journal

    def _begin(self, mark: str) -> None:
        shutil.rmtree(self._files)
        self._files.mkdir()
        self._journal.truncate(0)
        self._note({"mark": mark})

    def _resume(self, mark: str) -> None:
        """Take over what the journal says, up to the first line that is cut short or not true."""
        self._journal.seek(0)
        lines = self._journal.read().splitlines(keepends=True)
        first = _parsed(lines[0]) if lines else None
        if first is None:
            self._begin(mark)
            return
        if first.get("mark") != mark:
            raise InputError(
                "the unfinished work beside it was begun from another source or with another recipe",
                where=str(self.target),
                remedy="run without --resume, which begins anew, or with what it was begun with",
            )
        kept = len(lines[0])
        for line in lines[1:]:
            entry = _parsed(line)
            if entry is None or not self._true(entry):
                break
            self.finished[str(entry["group"])] = tuple(entry["tensors"])
            kept += len(line)
        self._journal.truncate(kept)
        self._journal.seek(0, os.SEEK_END)

    def _true(self, entry: Mapping[str, Any]) -> bool:
        """Whether the files hold the bytes that a line of the journal speaks of."""
        tensors = entry.get("tensors")
        if not isinstance(tensors, dict) or "group" not in entry:
            return False
        return all(
            name in self._layout.places and self._checksum(self._layout.places[name]) == checksum
            for name, checksum in tensors.items()
        )

    def _checksum(self, place: Place) -> int | None:
        try:
            with (self._files / place.file).open("rb") as file:
                file.seek(place.offset)
                left, checksum = place.size, 0
                while left:
                    piece = file.read(min(left, 1 << 20))
                    if not piece:
                        return None
                    left -= len(piece)
                    checksum = zlib.crc32(piece, checksum)
                return checksum
        except OSError:
            return None

    def _prepare(self) -> dict[str, BinaryIO]:
        """The files, at their full length and with their beginnings, and nothing else."""
        for path in self._files.iterdir():
            if path.name not in self._layout.sizes:
                path.unlink()
        files: dict[str, BinaryIO] = {}
        for name, size in self._layout.sizes.items():
            path = self._files / name
            path.touch()
            files[name] = path.open("r+b")
            files[name].truncate(size)
            files[name].write(self._layout.heads.get(name, b""))
        return files

    def _note(self, entry: Mapping[str, Any]) -> None:
        self._journal.write(json.dumps(entry).encode() + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line of the journal; None if it is cut short."""
    if not line.endswith(b"\n"):
        return None
    with suppress(ValueError):
        entry = json.loads(line)
        return entry if isinstance(entry, dict) else None
    return None


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
