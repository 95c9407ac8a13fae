"""Folders that are there whole or not at all: what a model was seen to do, kept to train with.

Each lies in a folder of its kind and has a file by which it is known to be whole; it is filled under a hidden
name and named in one step. What is in it, each kind of training knows.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fivefold.core.errors import FileError, FivefoldError, InputError


@contextmanager
def whole_folder(target: Path, what: str) -> Iterator[Path]:
    """The folder to write into, which has the name of `target` at the end; its parents are made if need be.

    InputError if such a thing (`what`) is there already, FivefoldError if it cannot be written.
    """
    if target.exists():
        raise InputError(f"the {what} is there already", where=str(target), remedy="give it another name")
    hidden = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        hidden.mkdir(parents=True)
        yield hidden
        hidden.rename(target)
    except OSError as error:
        raise FivefoldError(
            f"cannot be written ({error.strerror or error})", where=str(target),
            remedy="check the folder and the room on the disk",
        ) from None  # fmt: skip
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def whole_folders(folder: Path, mark: str, missing: str, remedy: str) -> list[Path]:
    """All that have the file `mark`, in the order of their names; FileError tells `missing` if none has."""
    found = sorted(path.parent for path in folder.glob(f"*/{mark}") if not path.parent.name.startswith("."))
    if not found:
        raise FileError(missing, where=str(folder), remedy=remedy)
    return found
