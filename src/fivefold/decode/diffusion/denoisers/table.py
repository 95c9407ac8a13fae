"""The table of denoisers, one row for each module of this package that has a `DENOISER`.

Adding a denoiser is adding a file: nothing is registered by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fivefold.core.errors import InputError
from fivefold.core.walking import walked

from .denoiser import Denoiser

DENOISERS: Mapping[str, Denoiser] = walked(__name__.rpartition(".")[0], "DENOISER")
"""All denoisers by name, with their papers' numbers; `with_numbers` gives one with others."""


def denoiser_named(name: str, numbers: Mapping[str, float | str | bool] = MappingProxyType({})) -> Denoiser:
    """The denoiser of that name, with these numbers in place of its own; InputError if there is none."""
    if name not in DENOISERS:
        raise InputError(
            f"there is no denoiser {name!r:.60}", where="denoiser", remedy=f"choose of {', '.join(DENOISERS)}"
        )
    return DENOISERS[name].with_numbers(numbers)
