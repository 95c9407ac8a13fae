"""The table of denoisers, one row for each module of this package that has a `DENOISER`.

Adding a denoiser is adding a file: nothing is registered by hand.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from fivefold.core.errors import InputError

from .denoiser import Denoiser


def _walk() -> dict[str, Denoiser]:
    package = __name__.rpartition(".")[0]
    rows: dict[str, Denoiser] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        row = getattr(import_module(f"{package}.{module.name}"), "DENOISER", None)
        if row is None:
            continue
        if row.name in rows:
            raise ValueError(f"two denoisers are named {row.name!r}")
        rows[row.name] = row
    return rows


DENOISERS: Mapping[str, Denoiser] = MappingProxyType(_walk())
"""All denoisers by name, with their papers' numbers; `with_numbers` gives one with others."""


def denoiser_named(name: str, numbers: Mapping[str, float | str | bool] = MappingProxyType({})) -> Denoiser:
    """The denoiser of that name, with these numbers in place of its own; InputError if there is none."""
    if name not in DENOISERS:
        raise InputError(
            f"there is no denoiser {name!r:.60}", where="denoiser", remedy=f"choose of {', '.join(DENOISERS)}"
        )
    return DENOISERS[name].with_numbers(numbers)
