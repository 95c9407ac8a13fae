"""The folder of pulled models: one folder for each, which appears when it is complete.

store/<folder>/pulled.json          what it is and where it came from; a folder without it is no model
store/<folder>/...                  the model's files
store/.partial/<folder>/            what an unfinished pull has so far
store/.locks/<folder>.lock          held by the process that pulls or removes it
store/.removed-<number>-<folder>/   what an interrupted removal has left

A finished folder is renamed into its place in one step, so a reader never sees half a model. The
store fetches nothing.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from fivefold.core.errors import FileError, FivefoldError

RECORD = "pulled.json"


@dataclass(frozen=True, slots=True)
class Record:
    """What pulled.json holds.

    `entry` is the file to open, relative to the folder ("." for the folder itself). `files` maps
    each file to its size in bytes and `sha256` those of which it is known; `date` is in UTC.
    """

    name: str
    source: str
    licence: str
    entry: str
    files: dict[str, int]
    sha256: dict[str, str]
    date: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


@dataclass(frozen=True, slots=True)
class PulledModel:
    """A model in the store: what to open, its record, and the folder that holds all of it."""

    path: Path
    record: Record
    folder: Path


def default_store() -> Path:
    """The folder for pulled models in the user's home."""
    return Path.home() / ".cache" / "fivefold" / "models"


def list_models(store: Path) -> list[PulledModel]:
    """All complete models of a store, by name. Folders that are none are passed over."""
    if not store.is_dir():
        return []
    found = (find_model(store, folder.name) for folder in store.iterdir() if not folder.name.startswith("."))
    return sorted((model for model in found if model is not None), key=lambda model: model.record.name)


def find_model(store: Path, folder: str) -> PulledModel | None:
    """The model in that folder of the store; None unless it is there and all its files are."""
    base = store / folder
    try:
        record = _record(json.loads((base / RECORD).read_text(encoding="utf-8")))
        whole = all((base / name).stat().st_size == size for name, size in record.files.items())
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return PulledModel(base / record.entry, record, base) if whole else None


def _record(values: dict[str, Any]) -> Record:
    """The record as it was read; ValueError when it leads out of its folder."""
    record = Record(**values)
    for name in (record.entry, *record.files):
        if not inside(name):
            raise ValueError(name)
    return record


def inside(name: str) -> bool:
    """Whether a relative path with slashes stays in its folder, on every system."""
    parts = name.split("/")
    return (
        bool(name)
        and "\0" not in name
        and "\\" not in name
        and ":" not in name
        and (name == "." or all(part not in ("", ".", "..") for part in parts))
    )


@contextmanager
def locked(store: Path, folder: str, waiting: Callable[[], None]) -> Iterator[Path]:
    """Hold the lock of one model and give its folder for unfinished files.

    `waiting` is called once if another process holds the lock; then this one waits.
    """
    stage = store / ".partial" / folder
    with lock_file(store, folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            stage.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(store, error) from None
        yield stage
        if stage.is_dir() and not any(stage.iterdir()):
            stage.rmdir()


def lock_file(store: Path, folder: str) -> IO[str]:
    """The open file whose lock guards one model; locking it is the caller's matter."""
    locks = store / ".locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        return (locks / f"{folder}.lock").open("w")
    except OSError as error:
        raise _unwritable(store, error) from None


def publish(store: Path, folder: str, ready: Path, record: Record) -> PulledModel:
    """Write the record into the finished folder `ready` and move that into its place."""
    place = store / folder
    try:
        (ready / RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
        if place.exists():  # an incomplete one, or the caller would not be here
            shutil.rmtree(place)
        ready.replace(place)
    except OSError as error:
        raise _unwritable(store, error) from None
    shutil.rmtree(store / ".partial" / folder, ignore_errors=True)
    model = find_model(store, folder)
    if model is None:
        raise FileError("the pulled model is not complete", where=str(place), remedy="pull again")
    return model


def now() -> str:
    """The time in UTC for a record, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unwritable(store: Path, error: OSError) -> FivefoldError:
    return FivefoldError(
        f"the folder for models cannot be written ({error.strerror or error})",
        where=str(store),
        remedy="check its permissions and the room on its disk",
    )
