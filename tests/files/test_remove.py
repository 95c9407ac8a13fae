"""Taking models out of the store: all of one or nothing, and never under a pull or a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fivefold.core.errors import FivefoldError, InputError
from fivefold.files import (
    RunningServer,
    leftovers,
    list_models,
    pulled_model,
    remove_leftovers,
    remove_model,
)
from fivefold.files.store import PulledModel, Record, locked, publish

Put = Callable[..., PulledModel]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Puts a model into the store."""

    def one(folder: str, name: str = "", entry: str = "a.gguf") -> PulledModel:
        with locked(tmp_path, folder, lambda: None) as stage:
            ready = stage / "ready"
            file = ready / ("a.gguf" if entry == "." else entry)
            file.parent.mkdir(parents=True)
            file.write_bytes(bytes(1000))
            sizes = {str(file.relative_to(ready)): 1000}
            record = Record(name or folder, "here", "mit", entry, sizes, {}, "2026-01-01T00:00:00Z")
            return publish(tmp_path, folder, ready, record)

    return one


def left(store: Path) -> set[str]:
    return {path.name for path in store.iterdir()} - {".locks", ".partial"}


@pytest.mark.parametrize("entry", ["a.gguf", "sub/a.gguf", "."])
def test_a_model_is_removed_whole(tmp_path: Path, put: Put, entry: str) -> None:
    put("keep")
    put("gone", "hf:o/gone", entry)
    for name in ("hf:o/gone", "gone"):
        model = pulled_model(name, tmp_path)
        assert model.folder == tmp_path / "gone"
    assert remove_model(model, []) >= 1000
    assert left(tmp_path) == {"keep"}
    assert [one.record.name for one in list_models(tmp_path)] == ["keep"]
    with pytest.raises(InputError, match="no pulled model of this name; `fivefold list` shows them: keep"):
        pulled_model("gone", tmp_path)


def test_a_name_that_leads_elsewhere_is_no_model(tmp_path: Path, put: Put) -> None:
    put("a")
    for name in ("../a", "/etc", ".", "", str(tmp_path / "a")):
        with pytest.raises(InputError, match="no pulled model"):
            pulled_model(name, tmp_path)


def test_a_model_that_a_server_uses_stays(tmp_path: Path, put: Put) -> None:
    model, other = put("used", entry="sub/a.gguf"), put("other")
    (tmp_path / "link").symlink_to(model.folder)
    for path in (model.path, model.folder, tmp_path / "link" / "sub" / "a.gguf"):
        servers = [RunningServer(7, "http://127.0.0.1:8000", {"x": other.path, "default": path}, "")]
        with pytest.raises(
            InputError, match=r"used: the server of process 7 at http://127.0.0.1:8000 uses it"
        ):
            remove_model(model, servers)
    assert model.path.exists()
    assert remove_model(model, [RunningServer(7, "x", {"default": other.path}, "")])


def test_a_model_that_is_being_pulled_stays(tmp_path: Path, put: Put) -> None:
    model = put("a")
    with locked(tmp_path, "a", lambda: None), pytest.raises(InputError, match="it is being pulled"):
        remove_model(model, [])
    assert model.path.exists()


def test_what_a_process_has_mapped_stays_readable(tmp_path: Path, put: Put) -> None:
    model = put("a")
    with model.path.open("rb") as file:
        remove_model(model, [])
        assert file.read() == bytes(1000)


def test_leftovers_are_found_and_freed(tmp_path: Path, put: Put) -> None:
    assert leftovers(tmp_path / "none") == []
    put("whole")
    with locked(tmp_path, "interrupted", lambda: None) as stage:
        (stage / "a.part").write_bytes(bytes(70))
    damaged = put("damaged")
    damaged.path.unlink()
    (tmp_path / ".removed-1-x").mkdir()
    (tmp_path / ".removed-1-x" / "a").write_bytes(bytes(9))
    found = {one.name: one.size for one in leftovers(tmp_path)}
    assert found.keys() == {"interrupted", "damaged", ".removed-1-x"}
    assert (found["interrupted"], found[".removed-1-x"]) == (70, 9)
    with locked(tmp_path, "interrupted", lambda: None):
        assert {one.name for one in remove_leftovers(tmp_path)} == {"damaged", ".removed-1-x"}
    assert [one.name for one in remove_leftovers(tmp_path)] == ["interrupted"]
    assert leftovers(tmp_path) == []
    assert left(tmp_path) == {"whole"}
    assert [one.record.name for one in list_models(tmp_path)] == ["whole"]


def test_a_disk_that_does_not_let_go_is_one_line(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = put("a")

    def failing(*given: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(FivefoldError, match="cannot be deleted"):
        remove_model(model, [])
    assert list_models(tmp_path) == [model]
