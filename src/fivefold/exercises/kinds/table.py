"""The table of kinds, one row for each module of this package that has a `KIND`."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from fivefold.exercises.kind import ExerciseKind


def _walk() -> dict[str, ExerciseKind]:
    package = __name__.rpartition(".")[0]
    rows: dict[str, ExerciseKind] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name == "table":
            continue
        row = import_module(f"{package}.{module.name}").KIND
        if row.name in rows:
            raise ValueError(f"two kinds of exercises are named {row.name!r}")
        rows[row.name] = row
    return rows


KINDS: Mapping[str, ExerciseKind] = MappingProxyType(_walk())
"""All kinds of exercises by name."""
