"""The table of policies, one row for each module of this package that has a `POLICY`.

Adding a policy is adding a file: nothing is registered by hand.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from fivefold.core.errors import InputError

from .policy import Policy


def _walk() -> dict[str, Policy]:
    package = __name__.rpartition(".")[0]
    rows: dict[str, Policy] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        row = getattr(import_module(f"{package}.{module.name}"), "POLICY", None)
        if row is None:
            continue
        if row.name in rows:
            raise ValueError(f"two eviction policies are named {row.name!r}")
        rows[row.name] = row
    return rows


POLICIES: Mapping[str, Policy] = MappingProxyType(_walk())
"""All policies by name, with their usual numbers; `dataclasses.replace` gives one with others."""


def policy_named(name: str) -> Policy:
    """The policy of that name; InputError if there is none."""
    if name not in POLICIES:
        raise InputError(
            f"there is no eviction policy {name!r}",
            where="eviction",
            remedy=f"choose of {', '.join(POLICIES)}",
        )
    return POLICIES[name]
