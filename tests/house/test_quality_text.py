"""The program that makes the texts of docs/quality.md: its parts, on made-up packages."""

from __future__ import annotations

import gzip
import importlib.util
import io
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_quality_text", SCRIPTS / "make_quality_text.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tarred(files: dict[str, bytes], how: str = "xz") -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode=f"w:{how}") as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return whole.getvalue()


def debian(files: dict[str, bytes]) -> bytes:
    """A Debian package: three members, the first of an odd length."""
    made = b"!<arch>\n"
    parts = {"debian-binary": b"2.0\n!", "control.tar.xz": tarred({}), "data.tar.xz": tarred(files)}
    for name, content in parts.items():
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
        made += head.encode() + content + b"\n" * (len(content) % 2)
    return made


def zipped(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return whole.getvalue()


FILES = {"doc/b.txt": b"second", "doc/a.txt.gz": gzip.compress(b"first"), "other": b"not asked for"}


@pytest.mark.parametrize("package", [debian(FILES), zipped(FILES), tarred(FILES, "gz")])
def test_files_of_every_kind_of_package(maker: ModuleType, package: bytes) -> None:
    """In the order of the patterns, then of paths; packed ones unpacked."""
    assert list(maker.members(package, ["doc/*"])) == [b"first", b"second"]
    assert list(maker.members(package, ["doc/b*", "doc/a*"])) == [b"second", b"first"]
    with pytest.raises(SystemExit, match="no file of the package fits none"):
        list(maker.members(package, ["none"]))


def test_what_a_page_shows(maker: ModuleType) -> None:
    page = (
        '<html><head><title>no</title></head><body><div id="banner">no</div><ul class="docnav top"><li>no<br>'
        "</li></ul>"
        "<p>One\n  <b>two</b> &amp; three<p>Four</p><pre>a\n  b</pre><script>no</script></body></html>"
    )
    parts = [part.strip("\n") for part in maker.from_html(page).split("\n\n") if part.strip()]
    assert parts == ["One two & three", "Four", "a\n  b"]


def test_paragraphs(maker: ModuleType) -> None:
    """Blanks at ends of lines, control characters and words of a hundred letters go; sayings come apart."""
    text = b"one  \r\n two\n\n\n" + b"x" * 100 + b"\n\n\x00three\x07\n%\nfour\n"
    source: dict[str, Any] = {"files": ["t"], "kind": "fortunes"}
    assert maker.paragraphs(source, zipped({"t": text})) == ["one\n two", "three", "four"]


def test_what_was_said_is_left_out(maker: ModuleType) -> None:
    """A paragraph of which a fifth of the runs of eight words were there before, in whatever text."""
    words = [f"word{number}" for number in range(40)]
    first, beginning = " ".join(words), " ".join([*words[:20], *(f"new{number}" for number in range(20))])
    mostly_new = " ".join([*words[:10], *(f"more{number}" for number in range(60))])
    seen: set[int] = set()
    assert maker.fresh([first, first, beginning, mostly_new, "short", "short"], seen) == [
        first,
        mostly_new,
        "short",
    ]
    assert maker.fresh([first, "short", "other"], seen) == ["other"]


def test_thinned_and_in_turn(maker: ModuleType) -> None:
    """Evenly from the whole length, whole paragraphs; every source lasts to the end."""
    parts = [f"{number} " + "x" * 3000 for number in range(40)]
    pieces = maker.thinned(parts, 60_000)
    assert sum(map(len, pieces)) <= 62_000
    numbers = [int(piece.split()[0]) for piece in pieces]
    assert numbers == sorted(numbers) and numbers[-1] > 35 and numbers[0] < 5
    assert maker.thinned(parts, 10**9) and "".join(maker.thinned(parts, 10**9)).count("x") == 120_000
    assert list(maker.in_turn([["a", "b", "c", "d"], ["1", "2"]])) == ["a", "1", "b", "c", "2", "d"]


def test_a_package_that_is_another_file_is_refused(maker: ModuleType, tmp_path: Path) -> None:
    source = {"package": "pool/x.deb", "sha256": "0" * 64}
    (tmp_path / ("0" * 16)).write_bytes(b"what")
    with pytest.raises(SystemExit, match=r"pool/x\.deb has sha256 .* nothing was written"):
        maker.fetched(source, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_package_is_in_both_texts() -> None:
    table = tomllib.loads((SCRIPTS / "quality_text.toml").read_text())
    named = {name: [source["package"] for source in table[name]] for name in ("eval", "calibration")}
    every = [*named["eval"], *named["calibration"]]
    assert len(every) == len(set(every)) >= 10
    assert set(table["made"]) == {"eval", "calibration"}
    hashes = [source["sha256"] for name in named for source in table[name]] + list(table["made"].values())
    assert all(len(each) == 64 for each in hashes)
