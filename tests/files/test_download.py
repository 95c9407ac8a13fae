"""Downloading: continuing, verifying, and saying what went wrong."""

from __future__ import annotations

import hashlib
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fivefold.core.errors import FivefoldError
from fivefold.files import download as module
from fivefold.files.download import Remote, UnreachableError, check_room, download

if TYPE_CHECKING:
    from conftest import Web

BODY = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)


@pytest.fixture
def web(serve: Callable[[], Web]) -> Web:
    web = serve()
    web.bodies["/file"] = BODY
    return web


def quiet(stage: str, done: int, total: int | None) -> None:
    del stage, done, total


def starts(web: Web) -> list[str]:
    return [headers.get("range", "") for headers in web.gets("fivefold")]


def test_a_file_arrives_with_progress(web: Web, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    download(
        Remote(web.address + "/file", len(BODY), SHA256), tmp_path / "f", lambda *what: told.append(what)
    )
    assert (tmp_path / "f").read_bytes() == BODY
    assert told[0] == ("downloading f", 0, len(BODY))
    assert told[-1] == ("downloading f", len(BODY), len(BODY))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert list(tmp_path.iterdir()) == [tmp_path / "f"]


def test_a_broken_connection_is_continued(web: Web, tmp_path: Path) -> None:
    web.cut = [100_000, 50_000]
    download(Remote(web.address + "/file", len(BODY), SHA256), tmp_path / "f", quiet)
    assert (tmp_path / "f").read_bytes() == BODY
    assert starts(web) == ["", "bytes=100000-", "bytes=150000-"]


def test_a_later_call_continues_what_an_earlier_one_left(web: Web, tmp_path: Path) -> None:
    web.cut = [100_000, *[0] * module.ATTEMPTS]
    remote = Remote(web.address + "/file", len(BODY), SHA256)
    with pytest.raises(FivefoldError, match=r"broke off after 0\.1 MB .*pull again: it goes on") as caught:
        download(remote, tmp_path / "f", quiet)
    assert caught.value.status == 1
    assert (tmp_path / "f.part").read_bytes() == BODY[:100_000]
    web.asked.clear()
    download(remote, tmp_path / "f", quiet)
    assert starts(web) == ["bytes=100000-"]
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_server_without_ranges_sends_all_again(web: Web, tmp_path: Path) -> None:
    web.ranges = False
    web.cut = [100_000]
    download(Remote(web.address + "/file", len(BODY), SHA256), tmp_path / "f", quiet)
    assert (tmp_path / "f").read_bytes() == BODY


@pytest.mark.parametrize("size", [len(BODY), None])
def test_wrong_content_is_discarded(web: Web, tmp_path: Path, size: int | None) -> None:
    (tmp_path / "f.part").write_bytes(b"x" * 1000)
    remote = Remote(web.address + "/file", size, SHA256)
    with pytest.raises(FivefoldError, match=r"SHA-256 is .* and should be .*discarded; pull again"):
        download(remote, tmp_path / "f", quiet)
    assert not list(tmp_path.iterdir())
    download(remote, tmp_path / "f", quiet)
    assert (tmp_path / "f").read_bytes() == BODY


@pytest.mark.parametrize("promised", [len(BODY) - 1, 10])
def test_more_bytes_than_promised_are_discarded(web: Web, tmp_path: Path, promised: int) -> None:
    with pytest.raises(FivefoldError, match=f"{promised} were promised"):
        download(Remote(web.address + "/file", promised, SHA256), tmp_path / "f", quiet)
    assert not list(tmp_path.iterdir())


def test_a_part_that_is_too_long_starts_over(web: Web, tmp_path: Path) -> None:
    for size in (len(BODY), None):
        (tmp_path / "f.part").write_bytes(bytes(len(BODY) + 1))
        download(Remote(web.address + "/file", size, SHA256), tmp_path / "f", quiet)
        assert (tmp_path / "f").read_bytes() == BODY


def test_a_file_of_unknown_hash_is_never_continued(web: Web, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(b"something else")
    download(Remote(web.address + "/file"), tmp_path / "f", quiet)
    assert (tmp_path / "f").read_bytes() == BODY
    assert starts(web) == [""]


def test_an_empty_file_arrives(web: Web, tmp_path: Path) -> None:
    web.bodies["/empty"] = b""
    download(Remote(web.address + "/empty", 0), tmp_path / "f", quiet)
    assert (tmp_path / "f").read_bytes() == b""


def test_no_server_and_no_file_are_told_apart_from_a_break(web: Web, tmp_path: Path) -> None:
    for url, says in ((web.address + "/no?key=secret", "status 404"), ("http://127.0.0.1:1/f", "refused")):
        with pytest.raises(UnreachableError, match=says) as caught:
            download(Remote(url, 10, SHA256), tmp_path / "f", quiet)
        assert "secret" not in str(caught.value)


def test_credentials_do_not_follow_to_another_host(
    web: Web, serve: Callable[[], Web], tmp_path: Path
) -> None:
    other = serve()
    other.bodies["/file"] = BODY
    web.redirect = {"/here": "/file", "/away": other.address + "/file"}
    for name in ("/here", "/away"):
        remote = Remote(web.address + name, len(BODY), SHA256, {"Authorization": "Bearer secret"})
        download(remote, tmp_path / "f", quiet)
    assert [headers.get("authorization") for headers in web.gets("fivefold")] == ["Bearer secret"] * 3
    assert [headers.get("authorization") for headers in other.gets("fivefold")] == [None]


def test_a_full_disk_is_said_before_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(100, 90, 20_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    check_room(tmp_path, 1_000_000)
    with pytest.raises(FivefoldError, match=r"27 MB are needed and the disk has 20 MB left; make room"):
        check_room(tmp_path, 10_000_000)


def test_a_disk_that_fills_up_keeps_what_came(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *what: object) -> None:
            del what

        def write(self, chunk: bytes) -> None:
            raise OSError(28, "No space left on device")

    (tmp_path / "f.part").write_bytes(BODY[:1000])
    monkeypatch.setattr(module, "_opened", lambda part, mode: Full())
    with pytest.raises(FivefoldError, match="the disk is full; make room and pull again"):
        download(Remote(web.address + "/file", len(BODY), SHA256), tmp_path / "f", quiet)
    assert (tmp_path / "f.part").read_bytes() == BODY[:1000]
