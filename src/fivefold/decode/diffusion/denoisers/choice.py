"""A denoiser as people choose it, in one line: its name, and numbers where they are to be others.

`confidence_threshold`, or `confidence_threshold:threshold=0.8,least=2`. Numbers are held within bounds in
which each rule comes to an end; what a model can do is not known here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from fivefold.core.diffusion import DiffusionRules
from fivefold.core.errors import InputError

from .denoiser import Denoiser
from .table import denoiser_named

MOST = 1024
"""Of any number: steps, tokens, nats."""


def chosen_denoiser(text: str, rules: DiffusionRules | None = None) -> Denoiser:
    """The denoiser of a line; InputError for a name or a number that it has not.

    Where it is the family's own, numbers that are not given are the family's, else those of its paper.
    """
    name, _, given = text.partition(":")
    own = rules.numbers if rules is not None and rules.denoiser == name else {}
    base = denoiser_named(name, own)
    return base.with_numbers(_numbers(base, given) if given else {})


def _numbers(base: Denoiser, given: str) -> Mapping[str, float | str | bool]:
    """Of KEY=VALUE,KEY=VALUE, each of the type that the denoiser has."""
    found: dict[str, float | str | bool] = {}
    types = {field.name: type(field.default) for field in dataclasses.fields(base)}
    for pair in given.split(","):
        key, _, value = pair.partition("=")
        found[key] = _value(base, key, value, types.get(key, str))
    return found


def _value(base: Denoiser, key: str, value: str, kind: type) -> float | str | bool:
    if kind is str:
        return value
    if kind is bool and value in ("true", "false"):
        return value == "true"
    try:
        number = float(value) if kind is float else int(value) if kind is int else math.nan
    except ValueError:
        number = math.nan
    least = 1 if kind is int and getattr(denoiser_named(base.name), key) else 0
    if not least <= number <= MOST:
        bounds = "true or false" if kind is bool else f"{'a number' if kind is float else 'a whole number'} "
        bounds += "" if kind is bool else f"from {least} to {MOST}"
        raise InputError(
            f"{key} of denoiser {base.name!r} is {value!r:.40}", where="denoiser", remedy=f"give {bounds}"
        )
    return number
