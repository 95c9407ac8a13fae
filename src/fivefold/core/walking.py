"""Tables made by walking a folder: a row for each module of a package that has one.

So adding a thing is adding a file, and nothing is registered by hand. A module says what its row is by a
name in capitals, as `FORMAT = ...`; modules without it are no rows.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any


def walked(package: str, attribute: str) -> Mapping[str, Any]:
    """By each row's own name what the modules of a package have under `attribute`, in the order of files.

    ValueError if two rows have one name.
    """
    rows: dict[str, Any] = {}
    for module in pkgutil.iter_modules(import_module(package).__path__):
        row = getattr(import_module(f"{package}.{module.name}"), attribute, None)
        if row is None:
            continue
        if row.name in rows:
            raise ValueError(f"{package}: two rows are named {row.name!r}")
        rows[row.name] = row
    return MappingProxyType(rows)
