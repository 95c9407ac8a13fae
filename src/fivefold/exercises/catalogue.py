"""The catalogue of packages that texts are taken from, and the side that each is on.

The entries are data (`catalogue.toml`, in this package), so that another package adds no code. A whole
package is either for training or held out, never a part of it: what a measure reads has not only not been
seen, its neighbours have not been seen either. The catalogue fetches nothing and opens no package.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any, Literal, get_args

from fivefold.core.errors import FileError

Side = Literal["training", "held_out"]
"""What a text may be used for: to learn from, or to measure with."""
Kind = Literal["prose", "manual", "code", "legal", "talk"]
"""What a text is: prose; technical documentation; source code; licences and law; letters, changes, talk."""
Index = Literal["debian", "pypi-sdist", "pypi-wheel"]
Form = Literal["text", "html", "rst", "sayings", "code", "dialogues", "r-strings"]

CATALOGUE_FILE = "catalogue.toml"
SIDES: tuple[Side, ...] = get_args(Side)


@dataclass(frozen=True, slots=True)
class Taken:
    """Some files of a package: patterns of paths, what their text is, and how they are read.

    `most` bounds the characters that are taken in all; 0 takes everything.
    """

    files: tuple[str, ...]
    kind: Kind
    form: Form
    most: int = 0


@dataclass(frozen=True, slots=True)
class Package:
    """One package: where it is had, exactly which one, what is taken. `sha256` is the download's."""

    name: str
    index: Index
    version: str
    sha256: str
    side: Side
    take: tuple[Taken, ...]


def catalogue() -> tuple[Package, ...]:
    """All packages, training first, in the order of the file. FileError if it is not as it should be."""
    return parse_catalogue(files("fivefold.exercises").joinpath(CATALOGUE_FILE).read_text(encoding="utf-8"))


def parse_catalogue(text: str) -> tuple[Package, ...]:
    """The packages of a catalogue's text, training first; FileError names the entry and the key."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(str(error), CATALOGUE_FILE) from None
    found = [_package(name, table) for name, table in tables.items()]
    return tuple(sorted(found, key=lambda package: SIDES.index(package.side)))


def _package(name: str, table: Any) -> Package:
    where = f"{CATALOGUE_FILE}: {name}"
    values = _checked(table, Package, where) | {"name": name}
    _one_of(values["index"], get_args(Index), f"{where}: index")
    _one_of(values["side"], SIDES, f"{where}: side")
    take = tuple(_taken(one, f"{where}: take {number}") for number, one in enumerate(values["take"]))
    if not take:
        raise _wrong("'take' is empty", where)
    return Package(**values | {"take": take})


def _taken(table: Any, where: str) -> Taken:
    values = _checked(table, Taken, where)
    _one_of(values["kind"], get_args(Kind), f"{where}: kind")
    _one_of(values["form"], get_args(Form), f"{where}: form")
    return Taken(**values | {"files": tuple(values["files"])})


def _checked(table: Any, made: type[Package | Taken], where: str) -> dict[str, Any]:
    """The table as it is, if its keys are those of `made`."""
    if not isinstance(table, dict):
        raise _wrong("not a table", where)
    known = {field.name for field in fields(made)}
    for key in sorted(set(table) - known | set(table) & {"name"}):
        raise _wrong(f"unknown key {key!r}", where)
    for key in sorted(known - set(table) - {"name", "most"}):
        raise _wrong(f"{key!r} is missing", where)
    return dict(table)


def _one_of(value: Any, known: tuple[str, ...], where: str) -> None:
    if value not in known:
        raise _wrong(f"{value!r} is none of {', '.join(known)}", where)


def _wrong(what: str, where: str) -> FileError:
    return FileError(what, where=where, remedy="mend the catalogue, which is part of this package")
