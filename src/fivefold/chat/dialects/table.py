"""The table of dialects, one row for each module of this package that has a `DIALECT`.

Adding a dialect is adding a file: nothing is registered by hand. Which one a model writes is told by its
chat template, the only thing in a model file that says so.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from fivefold.chat.answer import Dialect

_PLAIN = "plain"


def _walk() -> dict[str, Dialect]:
    package = __name__.rpartition(".")[0]
    rows: dict[str, Dialect] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        row = getattr(import_module(f"{package}.{module.name}"), "DIALECT", None)
        if not isinstance(row, Dialect):
            continue
        if row.name in rows:
            raise ValueError(f"two dialects are named {row.name!r}")
        rows[row.name] = row
    return rows


DIALECTS: Mapping[str, Dialect] = MappingProxyType(_walk())
"""All dialects by name."""


def dialect_for(template: str | None) -> Dialect:
    """The dialect of a model, by marks in its chat template; plain where none is known.

    A template that says nothing of tools leaves the choice open: then a dialect counts that such
    models take from the words of a system message.
    """
    if template is None:
        return DIALECTS[_PLAIN]
    for dialect in DIALECTS.values():
        if any(mark in template for mark in dialect.template_marks):
            return dialect
    if "tool" not in template:
        for dialect in DIALECTS.values():
            if any(mark in template for mark in dialect.taught_marks):
                return dialect
    return DIALECTS[_PLAIN]
