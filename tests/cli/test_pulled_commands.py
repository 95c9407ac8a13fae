"""`list`, `rm` and `ps` in a home of their own, where a tiny model stands under the default one's name."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fivefold.cli.app import status
from fivefold.files import default_store, list_models, register, running_folder
from fivefold.files.store import Record, locked, publish

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "engine" / "data" / "tiny.gguf"
NAME = "smollm2-135m"


class Terminal(io.StringIO):
    """Input that a person gives."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one model and one unfinished pull, in a home of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    store = default_store()
    assert store.is_relative_to(tmp_path)
    with locked(store, NAME, lambda: None) as stage:
        ready = stage / "ready"
        ready.mkdir()
        shutil.copy(TINY, ready)
        size = TINY.stat().st_size
        record = Record(NAME, "here", "mit", "tiny.gguf", {"tiny.gguf": size}, {}, "2026-01-02T03:04:05Z")
        publish(store, NAME, ready, record)
    with locked(store, "half", lambda: None) as stage:
        (stage / "half.part").write_bytes(bytes(2_000_000))
    return store


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert status(arguments) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    return output


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert status(arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert "fivefold: " in errors.splitlines()[-1]
    return errors


def test_list_shows_models_and_what_is_unfinished(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = store / NAME / "tiny.gguf"
    heads, row, rest = told(capsys, "list").splitlines()
    assert heads.split() == ["name", "size", "licence", "date", "source", "path"]
    assert row.split() == [NAME, "0.0", "MB", "mit", "2026-01-02T03:04:05Z", "here", str(path)]
    assert rest == "unfinished: half, 2.0 MB; `fivefold rm --partial` frees it"
    assert json.loads(told(capsys, "list", "--json")) == {
        "models": [
            {
                "name": NAME, "size": TINY.stat().st_size, "licence": "mit", "date": "2026-01-02T03:04:05Z",
                "source": "here", "path": str(path),
            }
        ],
        "unfinished": [{"name": "half", "size": 2_000_000, "path": str(store / ".partial" / "half")}],
    }  # fmt: skip


def test_lists_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert json.loads(told(capsys, "list", "--json")) == {"models": [], "unfinished": []}
    assert json.loads(told(capsys, "ps", "--json")) == {"servers": []}
    assert told(capsys, "ps").split() == ["pid", "address", "started", "models"]
    assert told(capsys, "rm", "--partial") == "nothing is unfinished\n"
    assert "shows them: none" in refused(capsys, "rm", NAME, "--yes")


def test_rm_asks(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give --yes" in refused(capsys, "rm", NAME)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert "nothing was deleted" in refused(capsys, "rm", NAME)
    assert len(list_models(store)) == 1
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert status(["rm", NAME, "--json"]) == 0
    output, errors = capsys.readouterr()
    assert re.search(r"delete smollm2-135m, 0\.0 MB, from .*smollm2-135m\?", errors)
    removed = json.loads(output)
    assert removed["removed"] == [NAME]
    assert removed["freed"] > TINY.stat().st_size
    assert list_models(store) == []
    assert (store / ".partial" / "half").exists()


def test_rm_frees_what_is_unfinished_and_only_that(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "rm", "--partial", "--yes") == "deleted half, 2.0 MB\n"
    assert len(list_models(store)) == 1
    assert json.loads(told(capsys, "list", "--json"))["unfinished"] == []


def test_rm_leaves_a_pull_alone(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(store, "half", lambda: None):
        assert told(capsys, "rm", "--partial", "-y") == "what is unfinished is being pulled just now\n"
    assert (store / ".partial" / "half").exists()


def test_rm_names_something(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing is named" in refused(capsys, "rm")
    assert "no pulled model of this name" in refused(capsys, "rm", "../tiny", "--yes")


def test_ps_shows_a_server_and_rm_spares_its_model(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = store / NAME / "tiny.gguf"
    with register(running_folder(), "http://127.0.0.1:8000", {NAME: path, "other": Path("/x")}) as entry:
        heads, row = told(capsys, "ps").splitlines()
        assert heads.split() == ["pid", "address", "started", "models"]
        assert row.split()[1::2] == ["http://127.0.0.1:8000", f"{NAME},"]
        (server,) = json.loads(told(capsys, "ps", "--json"))["servers"]
        assert server["pid"] == int(entry.path.stem)
        assert server["models"][0] == {"name": NAME, "path": str(path)}
        assert "http://127.0.0.1:8000 uses it; end that server first" in refused(capsys, "rm", NAME, "-y")
    assert told(capsys, "rm", NAME, "-y").startswith(f"deleted {NAME}")


def test_serve_is_seen_by_ps_while_it_runs(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "fivefold", "serve", NAME, "--port", "0", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        (server,) = json.loads(told(capsys, "ps", "--json"))["servers"]
        assert server["pid"] == process.pid
        assert server["address"] in said
        assert server["models"] == [{"name": NAME, "path": str(store / NAME / "tiny.gguf")}]
        assert "uses it" in refused(capsys, "rm", NAME, "--yes")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert list(running_folder().iterdir()) == []
