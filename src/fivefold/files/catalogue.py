"""The catalogue: short names for models, with the sources they are pulled from.

The entries are data (`catalogue.toml`, in this package), so that adding a model adds no code. What
is in a file is decided by its SHA-256, not by where it was found; several sources of one model are
tried in their order. The catalogue fetches nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from fivefold.core.errors import FileError

CATALOGUE_FILE = "catalogue.toml"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A model that a Python package brings along: one member of one wheel.

    `size` and `sha256` are those of the wheel.
    """

    package: str
    version: str
    member: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """One entry: what the model is called and where it is found. `size` and `sha256`: of the model."""

    name: str
    title: str
    licence: str
    size: int
    sha256: str
    source: tuple[WheelSource, ...]


def catalogue() -> Mapping[str, CatalogueModel]:
    """All entries of the catalogue by name. FileError if the file is not as it should be."""
    return parse_catalogue(files("fivefold.files").joinpath(CATALOGUE_FILE).read_text(encoding="utf-8"))


def parse_catalogue(text: str) -> Mapping[str, CatalogueModel]:
    """The entries of a catalogue's text; FileError names the entry and the key that is wrong."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(str(error), CATALOGUE_FILE) from None
    return MappingProxyType({name: _model(name, table) for name, table in tables.items()})


def _model(name: str, table: Any) -> CatalogueModel:
    where = f"{CATALOGUE_FILE}: {name}"
    values = _checked(table, CatalogueModel, where, without="name")
    sources = values.pop("source")
    if not sources:
        raise _wrong("'source' is empty", where)
    return CatalogueModel(
        name=name,
        source=tuple(_source(one, f"{where}: source {index}") for index, one in enumerate(sources)),
        **values,
    )


def _source(table: Any, where: str) -> WheelSource:
    kind = table.get("kind") if isinstance(table, dict) else None
    if kind != "wheel":
        raise _wrong(f"kind {kind!r} is not known", where)
    values = _checked({key: value for key, value in table.items() if key != "kind"}, WheelSource, where)
    member = PurePosixPath(values["member"])
    if member.is_absolute() or ".." in member.parts or member.suffix != ".gguf":
        raise _wrong("'member' is not the path of a .gguf file inside the wheel", where)
    return WheelSource(**values)


def _checked(
    table: Any, kind: type[CatalogueModel] | type[WheelSource], where: str, without: str = ""
) -> dict[str, Any]:
    """The table, when its keys are exactly the fields of `kind` and of their types."""
    types = {field.name: str(field.type) for field in fields(kind) if field.name != without}
    if not isinstance(table, dict):
        raise _wrong("not a table", where)
    unknown, missing = table.keys() - types.keys(), types.keys() - table.keys()
    if unknown or missing:
        raise _wrong(f"unknown keys {sorted(unknown)}, missing keys {sorted(missing)}", where)
    for key, value in table.items():
        expected = {"str": str, "int": int}.get(types[key], list)
        if not isinstance(value, expected) or isinstance(value, bool):
            raise _wrong(f"{key!r} is not of type {expected.__name__}", where)
    if _SHA256.fullmatch(table["sha256"]) is None:
        raise _wrong("'sha256' is not 64 hexadecimal digits", where)
    if table["size"] < 1:
        raise _wrong("'size' is not a number of bytes", where)
    return table


def _wrong(what: str, where: str) -> FileError:
    return FileError(what, where=where, remedy="repair the catalogue or install fivefold again")
