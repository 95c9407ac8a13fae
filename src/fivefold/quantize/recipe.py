"""Reading recipes: a TOML file and the options of the command become a `Recipe`.

Every key is known or an error that names it and its table. Options win over the file. docs/quantize.md has
the keys for people.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fivefold.core.errors import InputError
from fivefold.quantize.choice import Calibration, Choice, Recipe, Rule, best_choice
from fivefold.quantize.targets import KEEP, target_of

_TOP = (
    "default", "head", "embedding", "tensor", "calibration", "fallback", "awq", "norm_correction",
    "budget_bits",
)  # fmt: skip
_CHOICE = ("format", "method", "window", "factor")
_CALIBRATION = ("text", "tokens", "window")
_SIZE = 1 << 20
_WORDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", dict: "a table"}


def read_recipe(
    path: Path | None = None, form: str = "", head: str = "", calibrate: Path | None = None
) -> Recipe:
    """The recipe of a file and of the options --format, --head and --calibrate; "" or None are not given.

    InputError for an unknown key, a value of another type, or a recipe without any format.
    """
    where = str(path) if path is not None else "--format"
    table = _Table(_parsed(path) if path is not None else {}, where)
    table.only(_TOP)
    default = table.choice("default", form, "--format")
    if default is None:
        raise InputError(
            "no format is given", where=where, remedy="give --format, or a recipe with [default] format"
        )
    recipe = Recipe(
        default,
        table.choice("head", head, "--head"),
        table.choice("embedding"),
        tuple(table.rules()),
        _fallback(table),
        table.value("awq", bool, False),
        table.value("norm_correction", bool, False),
        _budget(table),
        table.calibration(),
    )
    return recipe if calibrate is None else replace(recipe, calibration=_named(recipe.calibration, calibrate))


def _parsed(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
        if len(data) > _SIZE:
            raise InputError(
                f"the recipe has more than {_SIZE} bytes", where=str(path), remedy="name a recipe"
            )
        return tomllib.loads(data.decode())
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", where=str(path), remedy="name a recipe in TOML"
        ) from None
    except (ValueError, RecursionError) as error:  # of UTF-8 and of TOML
        raise InputError(f"no TOML: {error}", where=str(path), remedy="repair the recipe") from None


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of the recipe, and where it stands."""

    values: Mapping[str, Any]
    where: str

    def only(self, known: Iterable[str]) -> None:
        """InputError for the first key that is not among them."""
        for key in self.values:
            if key not in known:
                raise InputError(
                    f"key {key!r} is not known", where=self.where, remedy=f"known are {', '.join(known)}"
                )

    def value(self, key: str, kind: type[Any], default: Any) -> Any:
        """A value of that type, or the default if it is not there."""
        value = self.values.get(key, default)
        fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if key in self.values and not fits and not (kind is float and type(value) is int):
            raise InputError(
                f"key {key!r} is {type(value).__name__}", where=self.where, remedy=f"give {_WORDS[kind]}"
            )
        return value

    def table(self, key: str) -> _Table | None:
        """The table under a key."""
        value = self.value(key, dict, None)
        return None if value is None else _Table(value, f"{self.where}: [{key}]")

    def choice(self, key: str, form: str = "", option: str = "") -> Choice | None:
        """The choice of a table, its format that of an option if there is one; None without both."""
        table = self.table(key)
        if table is None:
            return _checked(best_choice(_known(form, option)), option) if form else None
        table.only(_CHOICE)
        return table.made(form, option)

    def made(self, form: str = "", option: str = "") -> Choice:
        """The choice that this table is."""
        if not form and "format" not in self.values:
            raise InputError("it says no format", where=self.where, remedy="give it one")
        where = option if form else self.where
        usual = best_choice(_known(form or self.value("format", str, ""), where))
        self._refuse_idle(usual.format)
        made = replace(
            usual, method=self.value("method", str, usual.method),
            window=self.value("window", int, usual.window),
            factor=self.value("factor", str, usual.factor),
        )  # fmt: skip
        return _checked(made, self.where)

    def _refuse_idle(self, form: str) -> None:
        """InputError for a key that changes nothing for that format."""
        idle = {KEEP: ("method", "window", "factor"), "nvfp4": ()}.get(form, ("window", "factor"))
        for key in idle:
            if key in self.values:
                raise InputError(
                    f"key {key!r} changes nothing for {form}", where=self.where, remedy="leave it out"
                )

    def rules(self) -> Iterable[Rule]:
        """The [[tensor]] tables, in their order."""
        tables = self.values.get("tensor", [])
        if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
            raise InputError("key 'tensor' is no list of tables", where=self.where, remedy="write [[tensor]]")
        for number, values in enumerate(tables, 1):
            table = _Table(values, f"{self.where}: [[tensor]] {number}")
            table.only(("match", *_CHOICE))
            text = table.value("match", str, "")
            if not text:
                raise InputError("it has no match", where=table.where, remedy="give it a regular expression")
            try:
                match = re.compile(text)
            except (re.error, RecursionError, OverflowError) as error:
                raise InputError(
                    f"match {text!r} is no regular expression ({error})",
                    where=table.where,
                    remedy="repair it",
                ) from None
            yield Rule(match, table.made(), table.where)

    def calibration(self) -> Calibration | None:
        """The [calibration] table. A path in it is relative to the recipe."""
        table = self.table("calibration")
        if table is None:
            return None
        table.only(_CALIBRATION)
        text = table.value("text", str, "")
        tokens, window = table.value("tokens", int, 0), table.value("window", int, 512)
        if tokens < 0 or window < 2:
            raise InputError(f"{tokens} tokens in windows of {window}", where=table.where, remedy="give more")
        return Calibration(Path(self.where).parent / text if text else Path(), tokens, window)


def _named(calibration: Calibration | None, text: Path) -> Calibration:
    """A calibration with the text of the option."""
    return Calibration(text) if calibration is None else replace(calibration, text=text)


def _known(form: str, where: str) -> str:
    return form if form == KEEP else target_of(form, where).name


def _checked(choice: Choice, where: str) -> Choice:
    choice.check(where)
    return choice


def _fallback(table: _Table) -> str:
    form: str = table.value("fallback", str, "")
    return _known(form, f"{table.where}: fallback") if form else ""


def _budget(table: _Table) -> float | None:
    bits = table.value("budget_bits", float, None)
    if bits is None:
        return None
    if not 1 <= bits <= 32:
        raise InputError(f"budget_bits is {bits}", where=table.where, remedy="give bits of a number, 1 to 32")
    return float(bits)
