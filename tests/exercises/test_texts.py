"""Texts out of packages: what is fetched, opened, cleaned, left out, and which side it is on."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from fivefold.core.errors import FileError
from fivefold.exercises import catalogue, texts
from fivefold.exercises.catalogue import Form, Package, Side, Taken, parse_catalogue
from fivefold.exercises.cleaning import FORMS, from_html, from_r_strings, from_rst, is_text, joined, tidied
from fivefold.exercises.packages import fetched, members

ENTRY = """
[one]
index = "debian"
version = "1"
sha256 = "00"
side = "held_out"

[[one.take]]
files = ["*.txt"]
kind = "prose"
form = "text"

[two]
index = "pypi-wheel"
version = "2"
sha256 = "11"
side = "training"
take = [{ files = ["a"], kind = "code", form = "code", most = 5 }]
"""


def zipped(files: dict[str, str]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return whole.getvalue()


def tarred(files: dict[str, bytes], how: str) -> bytes:
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
    parts = {
        "debian-binary": b"2.0\n!",
        "control.tar.xz": tarred({}, "xz"),
        "data.tar.xz": tarred(files, "xz"),
    }
    for name, content in parts.items():
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
        made += head.encode() + content + b"\n" * (len(content) % 2)
    return made


def prose(name: str) -> str:
    return "\n".join(f"This is line number {at} of {name}, and there is more to say." for at in range(60))


def laid(
    folder: Path, name: str, side: Side, files: dict[str, str], form: Form = "code", most: int = 0
) -> Package:
    """A package that is already in the folder."""
    content = zipped(files)
    digest = hashlib.sha256(content).hexdigest()
    (folder / f"{name}-{digest[:16]}").write_bytes(content)
    return Package(name, "pypi-wheel", "1", digest, side, (Taken(("*.txt",), "prose", form, most),))


def test_the_catalogue_holds_whole_packages_out() -> None:
    """Both sides have enough packages and every kind of text; training comes first."""
    packages = catalogue()
    assert len({package.name for package in packages}) == len(packages)
    sides = [package.side for package in packages]
    assert sides == sorted(sides, reverse=True)
    assert sides.count("training") >= 12 and sides.count("held_out") >= 8
    for side in ("training", "held_out"):
        kinds = {taken.kind for package in packages if package.side == side for taken in package.take}
        assert kinds == {"prose", "manual", "code", "legal", "talk"}
    assert all(len(package.sha256) == 64 for package in packages)
    assert all(taken.form in FORMS for package in packages for taken in package.take)


def test_a_catalogue_is_read_and_refused_by_key() -> None:
    found = parse_catalogue(ENTRY)
    assert [package.name for package in found] == ["two", "one"]
    assert found[0].take == (Taken(("a",), "code", "code", 5),)
    for wrong, said in (
        (ENTRY.replace("version", "versoin", 1), "unknown key 'versoin'"),
        (ENTRY.replace('version = "1"\n', ""), "'version' is missing"),
        (ENTRY.replace('"held_out"', '"both"'), "'both' is none of training, held_out"),
        (ENTRY.replace('"prose"', '"poem"'), "'poem' is none of"),
        (ENTRY.replace("[one]", "[one"), "catalogue.toml"),
    ):
        with pytest.raises(FileError, match=said):
            parse_catalogue(wrong)


def test_members_of_every_kind_of_package() -> None:
    """Debian's packed files are unpacked; an sdist's own folder is no part of the path."""
    packed = {"./usr/a.txt.gz": gzip.compress(b"first"), "./usr/b": b"second"}
    assert dict(members(debian(packed), "x")) == {"usr/a.txt.gz": b"first", "usr/b": b"second"}
    assert dict(members(tarred({"x-1/docs/a": b"first"}, "gz"), "x")) == {"docs/a": b"first"}
    assert dict(members(zipped({"x/a": "first"}), "x")) == {"x/a": b"first"}
    with pytest.raises(FileError, match="without data"):
        dict(members(b"!<arch>\n", "x"))


def test_a_download_that_is_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("x", "debian", "1", "0" * 64, "training", ())
    monkeypatch.setattr("fivefold.exercises.packages._download", lambda package: b"what")
    with pytest.raises(FileError, match=r"x 1: the download has sha256 .*, not 0000"):
        fetched(package, tmp_path)
    assert not list(tmp_path.iterdir())
    right = Package("x", "debian", "1", hashlib.sha256(b"what").hexdigest(), "training", ())
    assert fetched(right, tmp_path) == b"what"
    monkeypatch.setattr("fivefold.exercises.packages._download", lambda package: b"never called")
    assert fetched(right, tmp_path) == b"what"


def test_texts_of_a_side_in_order_and_none_twice(tmp_path: Path) -> None:
    """What training has is left out of the held-out side, and short files are left out of both."""
    first = laid(tmp_path, "first", "training", {"b.txt": prose("b"), "a.txt": prose("a"), "c.txt": "short"})
    second = laid(tmp_path, "second", "held_out", {"d.txt": prose("a"), "e.txt": prose("e")})
    packages = (first, second)
    training, held_out = (texts(tmp_path, side, packages) for side in ("training", "held_out"))
    assert [(text.package, text.path) for text in training] == [("first", "a.txt"), ("first", "b.txt")]
    assert [(text.package, text.path) for text in held_out] == [("second", "e.txt")]
    assert texts(tmp_path, "training", packages) == training


def test_a_package_gives_no_more_than_is_asked(tmp_path: Path) -> None:
    files = {f"{name}.txt": prose(name) for name in "abcdef"}
    package = laid(tmp_path, "x", "training", files, most=2 * len(prose("a")))
    assert [text.path for text in texts(tmp_path, "training", (package,))] == ["a.txt", "b.txt"]
    nothing = Package(
        package.name, package.index, "1", package.sha256, "training", (Taken(("no",), "code", "code"),)
    )
    with pytest.raises(FileError, match="x 1: no file fits no"):
        texts(tmp_path, "training", (nothing,))


def test_what_a_page_shows() -> None:
    page = b'<head>no</head><p>One\n <b>two</b> &amp; three</p><div class="toc">no</div><pre>a\n  b</pre>'
    assert tidied(from_html(page)) == "One two & three\n\na\n  b"


def test_marks_of_restructured_text_go() -> None:
    source = b"Title\n=====\n\n.. _label:\n\nSee :ref:`the text <there>` and ``code``.\n\n.. note::\n"
    assert tidied(from_rst(source)) == "Title\n\nSee the text and code."


def test_lines_of_a_paragraph_are_joined_where_only_the_width_broke_them() -> None:
    wide = (
        "These are words that fill a line of a terminal nearly,\nand so this is the same paragraph still.\n"
    )
    assert joined(f"{wide}\nshort\nlines\n") == wide.strip().replace("\n", " ") + "\n\nshort\nlines"
    code = "    first = second + third + fourth + fifth + sixth\n    return first"
    assert joined(f"x\n\n{code}") == f"x\n\n{code}"


def test_strings_of_a_database_of_r() -> None:
    lines = [b"A first line of a novel.", b"", b"And a second one."]
    vector = b"X\n\0\0" + b"".join(b"\0\4\0\t" + len(line).to_bytes(4, "big") + line for line in lines)
    database = b"\0\0\0\1z" + zlib.compress(vector) + b"\0\0\0\2z" + zlib.compress(vector)
    assert from_r_strings(database).count("A first line of a novel.\n\nAnd a second one.") == 2


def test_what_is_no_text() -> None:
    assert is_text("Plain words, and some_code(1) = 2.")
    assert not is_text("日本語の文書です。" * 3)
    assert tidied(f"word\n{'x' * 200}\n\n\n\nword ") == "word\n\nword"
