"""The table of number formats, one row for each module of this package that has a `FORMAT`.

Adding a format is adding a file: nothing is registered by hand.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from fivefold.core.errors import UnsupportedError
from fivefold.formats.format import Format


def _walk() -> dict[str, Format]:
    package = __name__.rpartition(".")[0]
    rows: dict[str, Format] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        row = getattr(import_module(f"{package}.{module.name}"), "FORMAT", None)
        if not isinstance(row, Format):
            continue
        if row.name in rows:
            raise ValueError(f"two formats are named {row.name!r}")
        rows[row.name] = row
    return rows


FORMATS: Mapping[str, Format] = MappingProxyType(_walk())
"""All number formats by name."""


def format_of(name: str, where: str = "") -> Format:
    """The format of that name; UnsupportedError says where it was found and which formats exist."""
    row = FORMATS.get(name)
    if row is None:
        raise UnsupportedError(
            f"number format {name!r} is not implemented",
            where=where,
            remedy=f"implemented are {', '.join(sorted(FORMATS))}",
        )
    return row
