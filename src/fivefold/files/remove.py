"""Taking models out of the store, and what unfinished pulls have left there.

A model vanishes in one step: its folder is renamed, then deleted, so a reader never sees half of it. What
a process has mapped stays readable for it. Nothing is taken away under a pull that is still running, nor
under a server that says it uses it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fivefold.core.errors import FivefoldError, InputError
from fivefold.files.running import RunningServer
from fivefold.files.store import PulledModel, find_model, list_models, lock_file

_REMOVED = ".removed-"


@dataclass(frozen=True, slots=True)
class Leftover:
    """What is in the store and is no model: of an unfinished pull, a damaged one, or a removal."""

    name: str
    path: Path
    size: int


def pulled_model(name: str, store: Path) -> PulledModel:
    """The model in the store of that name; InputError if there is none."""
    models = list_models(store)
    for model in models:
        if name in (model.record.name, model.folder.name):
            return model
    listed = ", ".join(model.record.name for model in models) or "none"
    raise InputError(
        "no pulled model of this name", where=ascii(name), remedy=f"`fivefold list` shows them: {listed}"
    )


def remove_model(model: PulledModel, servers: Sequence[RunningServer]) -> int:
    """Delete a model of the store; the bytes that were freed.

    InputError while a server of `servers` uses it or a pull is under way, FivefoldError if the disk
    does not let it go.
    """
    folder, name = model.folder, model.record.name
    for server in servers:
        if any(_within(path, folder) for path in server.models.values()):
            raise InputError(
                f"the server of process {server.pid} at {server.address} uses it", where=name,
                remedy="end that server first",
            )  # fmt: skip
    size = _size(folder)
    with _unpulled(folder.parent, folder.name) as free:
        if not free:
            raise InputError("it is being pulled", where=name, remedy="wait until that is done, or end it")
        _delete(folder, folder.parent)
    return size


def leftovers(store: Path) -> list[Leftover]:
    """What unfinished pulls and removals have left, and folders that hold no whole model."""
    found: list[Leftover] = []
    partial = store / ".partial"
    if partial.is_dir():
        found += [Leftover(path.name, path, _size(path)) for path in sorted(partial.iterdir())]
    for path in sorted(store.iterdir()) if store.is_dir() else []:
        broken = not path.name.startswith(".") and path.is_dir() and find_model(store, path.name) is None
        if broken or path.name.startswith(_REMOVED):
            found.append(Leftover(path.name, path, _size(path)))
    return found


def remove_leftovers(store: Path) -> list[Leftover]:
    """Delete them, except what a running pull is at; those that were deleted."""
    removed: list[Leftover] = []
    for leftover in leftovers(store):
        with _unpulled(store, leftover.name) as free:
            if free:
                _delete(leftover.path, store)
                removed.append(leftover)
    return removed


@contextmanager
def _unpulled(store: Path, folder: str) -> Iterator[bool]:
    """Hold a model's lock; False where a pull holds it."""
    with lock_file(store, folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _delete(folder: Path, store: Path) -> None:
    """Rename it out of sight, then delete it."""
    aside = folder
    try:
        if not folder.name.startswith(_REMOVED):
            aside = store / f"{_REMOVED}{os.getpid()}-{folder.name}"
            folder.rename(aside)
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
    except OSError as error:
        raise FivefoldError(
            f"cannot be deleted ({error.strerror or error})",
            where=str(folder),
            remedy="check its permissions",
        ) from None


def _within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _size(path: Path) -> int:
    """Bytes of all files below."""
    if not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
