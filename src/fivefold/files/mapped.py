"""Model files as mapped memory, and the files that people take for them.

All readers of this room open files here: read-only, without waiting for the other end of a pipe, and
with one line of error for whatever is no file. What the bytes mean is for the readers.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import FileError

_STRANGERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the model", "fetch it with git lfs pull"),
    (b"PK\x03\x04", "a zip archive or PyTorch file, not {kind}", "convert the model to {kind}"),
    (b"GGML", "an old GGML file", "convert the model to GGUF again"),
    (b"lmgg", "an old GGML file", "convert the model to GGUF again"),
    (b"tjgg", "an old GGML file", "convert the model to GGUF again"),
    (b"FUGG", "a big-endian GGUF file", "use the little-endian file of this model"),
    (b"GGUF", "a GGUF file", "name it .gguf"),
    (b"<", "a web page, not {kind}", "fetch the file from its download address"),
)
"""First bytes of files that people take for a model: what it is, and what to do."""


def map_file(path: Path, extension: str) -> mmap.mmap:
    """The bytes of a regular file, read-only. The mapping lives as long as its views.

    FileError when it is missing, empty, no regular file, or may not be read; `extension` is that of
    the files the caller reads, for the remedy.
    """
    try:
        with open_regular(path, extension) as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise FileError("the file is empty", where=str(path), remedy="fetch it again")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise FileError("no such file", where=str(path), remedy="check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(
            f"cannot be opened ({reason})",
            where=str(path),
            remedy="check the path and its permissions",
        ) from None


def give_back(tensors: Iterable[Tensor]) -> None:
    """Let go of the memory that reading mapped tensors has taken; whoever reads again maps it again."""
    maps: dict[int, mmap.mmap] = {}
    for tensor in tensors:
        for part in tensor.parts:
            owner: Any = part
            while isinstance(owner, np.ndarray):
                owner = owner.base
            if isinstance(owner, memoryview):
                owner = owner.obj
            if isinstance(owner, mmap.mmap):
                maps[id(owner)] = owner
    for mapped in maps.values():
        mapped.madvise(mmap.MADV_DONTNEED)  # only files are mapped here, read-only: nothing can be lost


def open_regular(path: Path, extension: str) -> BinaryIO:
    """A file opened for reading: FileError if it is a pipe or a device; OSError if it cannot be opened."""
    file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileError("not a regular file", where=str(path), remedy=f"name a {extension} file")
    return file


def stranger(data: bytes | mmap.mmap, where: str, kind: str) -> FileError | None:
    """The error for a file that is known to be something else than `kind`; None if it is not known."""
    for first, what, remedy in _STRANGERS:
        if data[: len(first)] == first:
            return FileError(
                f"this is {what.format(kind=kind)}", where=where, remedy=remedy.format(kind=kind)
            )
    return None


def _open_without_waiting(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
