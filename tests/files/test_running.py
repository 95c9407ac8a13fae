"""Which servers run: entries appear whole, end with their process, and are deleted when it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fivefold.core.errors import FivefoldError
from fivefold.files import default_store, list_running, register, running_folder

SERVER = """
import sys, time
from pathlib import Path
from fivefold.files import register
entry = register(Path(sys.argv[1]), "http://127.0.0.1:1", {"default": Path(sys.argv[1]) / "m.gguf"})
print("ready", flush=True)
time.sleep(60)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    """A process with an entry."""
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate(timeout=30)


def test_an_entry_lasts_as_long_as_its_server(tmp_path: Path) -> None:
    assert list_running(tmp_path / "none") == []
    folder = tmp_path / "running"
    with register(folder, "http://127.0.0.1:8000", {"a": Path("x.gguf"), "b": tmp_path}) as entry:
        (server,) = list_running(folder)
        assert (server.pid, server.address) == (os.getpid(), "http://127.0.0.1:8000")
        assert server.models == {"a": Path.cwd() / "x.gguf", "b": tmp_path}
        assert server.started.endswith("Z")
        written = json.loads(entry.path.read_text())
        assert set(written) == {"pid", "address", "models", "started"}
        assert entry.path.name == f"{os.getpid()}.json"
        assert [path.name for path in folder.iterdir()] == [entry.path.name]
    entry.unregister()
    assert list_running(folder) == []
    assert list(folder.iterdir()) == []


def test_servers_of_other_processes_are_seen_and_dead_ones_are_not(tmp_path: Path) -> None:
    first, second = start(tmp_path), start(tmp_path)
    try:
        assert [server.pid for server in list_running(tmp_path)] == sorted([first.pid, second.pid])
        end(first)
        assert (tmp_path / f"{first.pid}.json").exists()
        assert [server.pid for server in list_running(tmp_path)] == [second.pid]
        assert not (tmp_path / f"{first.pid}.json").exists()
    finally:
        end(first)
        end(second)
    assert list_running(tmp_path) == []


def test_an_entry_of_a_living_process_that_is_no_server_is_deleted(tmp_path: Path) -> None:
    """Process numbers come again: only the lock tells."""
    entry = {"pid": os.getpid(), "address": "x", "models": {}, "started": "x"}
    (tmp_path / f"{os.getpid()}.json").write_text(json.dumps(entry))
    assert list_running(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "models": []}', "\udcff"])
def test_what_is_no_entry_is_passed_over(tmp_path: Path, text: str) -> None:
    entry = register(tmp_path, "x", {})
    entry.path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert list_running(tmp_path) == []
    entry.unregister()


def test_a_folder_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "running").write_text("a file")
    with pytest.raises(FivefoldError, match="the folder of running servers cannot be written"):
        register(tmp_path / "running", "x", {})


def test_entries_lie_beside_the_models() -> None:
    assert running_folder() == default_store().with_name("running")
