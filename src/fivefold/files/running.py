"""Which servers run on this machine: each writes one file about itself, and takes it away at its end.

    with register(running_folder(), "http://127.0.0.1:8000", {"default": path}):
        ...serve...

The file is `PID.json` in the folder `running` beside the store: pid, address, started (UTC), and the models,
name to path. The server holds a lock on its file as long as it lives, so the file of one that was
killed is known by its free lock, even when its process number belongs to another by then, and the next
reader deletes it. Nothing here talks to servers.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from fivefold.core.errors import FivefoldError
from fivefold.files.store import default_store, now


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server as it wrote about itself. `models` maps the names it serves to what it opened."""

    pid: int
    address: str
    models: Mapping[str, Path]
    started: str


class Registration:
    """A server's entry in the folder. It ends with `unregister`, with the block, or with the process."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self.path = path
        self._file = file

    def unregister(self) -> None:
        """Take the entry away; a second call does nothing."""
        if not self._file.closed:
            self.path.unlink(missing_ok=True)
            self._file.close()

    def __enter__(self) -> Registration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unregister()


def running_folder() -> Path:
    """The folder of entries in the user's home, beside that of the models."""
    return default_store().parent / "running"


def register(folder: Path, address: str, models: Mapping[str, Path]) -> Registration:
    """Write this process's entry; it appears when it is complete. Keep what is returned until the end.

    FivefoldError if the folder cannot be written: a server may run without its entry.
    """
    path = folder / f"{os.getpid()}.json"
    entry = {
        "pid": os.getpid(),
        "address": address,
        "models": {name: str(where.absolute()) for name, where in models.items()},
        "started": now(),
    }
    temporary = path.with_name(f".{path.name}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = temporary.open("w", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(json.dumps(entry, indent=2) + "\n")
            file.flush()
            temporary.replace(path)
        except BaseException:
            file.close()
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FivefoldError(
            f"the folder of running servers cannot be written ({error.strerror or error})",
            where=str(folder),
            remedy="check its permissions and the room on its disk",
        ) from None
    return Registration(path, file)


def list_running(folder: Path) -> list[RunningServer]:
    """The servers that are alive, by process number. Entries of dead ones are deleted on the way."""
    if not folder.is_dir():
        return []
    found = (_alive(path) for path in folder.iterdir() if not path.name.startswith("."))
    return sorted((server for server in found if server is not None), key=lambda server: server.pid)


def _alive(path: Path) -> RunningServer | None:
    """The server of an entry; None, and no entry any more, if its process is gone."""
    try:
        with path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _server(json.loads(file.read(1 << 20)))
            with suppress(OSError):
                if path.stat().st_ino == os.fstat(file.fileno()).st_ino:  # not one that came meanwhile
                    path.unlink()
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return None


def _server(entry: Any) -> RunningServer:
    models = {str(name): Path(where) for name, where in entry["models"].items()}
    return RunningServer(int(entry["pid"]), str(entry["address"]), models, str(entry["started"]))
