"""What is to become of a tensor, and of a whole model: choices and recipes, frozen.

A `Choice` is for one tensor; a `Recipe` makes the choices. Recipes come from files and options (`recipe`) or
are made in Python.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fivefold.core.errors import InputError
from fivefold.quantize.targets import KEEP, target_of

Method = Literal["round", "sweep", "gptq"]
Factor = Literal["own", "power", "one"]

METHODS: tuple[Method, ...] = ("round", "sweep", "gptq")
FACTORS: tuple[Factor, ...] = ("own", "power", "one")
ALL_CODES = 126
WINDOW = ALL_CODES
"""Codes of E4M3 that a sweep tries to each side of the rounding's: all."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How one tensor is stored.

    format   a name of `targets`, or "keep".
    method   "round": the format's rounding. "sweep": the scales of least weighted squared error. "gptq":
             codes that make up for each other's errors, which needs a calibration.
    window   codes to each side of the rounding's that a sweep of nvfp4 tries, 126 for all.
    factor   of nvfp4's tensor: "own" is the method's (`nvfp4.tensor_factor`), "power" a power of two, "one"
             none.
    largest  a magnitude that the factor has room for even if the tensor has none so large: what tensors that
             share their factor are given.
    """

    format: str
    method: Method = "round"
    window: int = WINDOW
    factor: Factor = "own"
    largest: float = 0.0

    def check(self, where: str) -> None:
        """InputError unless there is such a format, and it has that method."""
        if not 1 <= self.window <= ALL_CODES:
            raise InputError(f"a window of {self.window}", where=where, remedy=f"give 1 to {ALL_CODES}")
        if self.factor not in FACTORS:
            raise InputError(f"factor {self.factor!r}", where=where, remedy=f"choose {', '.join(FACTORS)}")
        if self.method not in METHODS:
            raise InputError(
                f"method {self.method!r} is not known", where=where, remedy=f"choose {', '.join(METHODS)}"
            )
        if self.format == KEEP:
            return
        known = target_of(self.format, where).methods
        if self.method not in known:
            raise InputError(
                f"{self.format} has no method {self.method!r}",
                where=where, remedy=f"it has {', '.join(sorted(known))}",
            )  # fmt: skip


def best_choice(form: str) -> Choice:
    """What a format is given where no method is named: a sweep if it has one."""
    swept = form != KEEP and "sweep" in target_of(form).methods
    return Choice(form, "sweep" if swept else "round")


@dataclass(frozen=True, slots=True)
class Rule:
    """A choice for the matrices whose whole names the regular expression matches, and where that is said."""

    match: re.Pattern[str]
    choice: Choice
    where: str = "[[tensor]]"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Text that is run through the model before: a file, how many of its tokens, and how many a window."""

    text: Path
    tokens: int = 0
    window: int = 512


@dataclass(frozen=True, slots=True)
class Recipe:
    """The choices for a model's matrices: the first rule that matches, else the role's, else the default.

    head, embedding  None: the output decides (`Output.usual`).
    fallback         the format of matrices whose K does not fill whole blocks of theirs; "" is the output's.
    awq, norm_correction  scaling folded into neighbours, and norms that make up for what is lost.
    budget_bits      of a number of the whole model, which the matrices are chosen to fit.
    calibration      the text that these, and gptq, need.
    """

    default: Choice
    head: Choice | None = None
    embedding: Choice | None = None
    rules: tuple[Rule, ...] = ()
    fallback: str = ""
    awq: bool = False
    norm_correction: bool = False
    budget_bits: float | None = None
    calibration: Calibration | None = None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """All that it may make."""
        own = [self.default, self.head, self.embedding, *(rule.choice for rule in self.rules)]
        return tuple(choice for choice in own if choice is not None)


def needs_calibration(recipe: Recipe) -> bool:
    """Whether a recipe asks for something that only a text can tell."""
    asked = recipe.awq or recipe.norm_correction or recipe.budget_bits is not None
    return asked or recipe.calibration is not None or any(each.method == "gptq" for each in recipe.choices)


def check_calibration(recipe: Recipe) -> None:
    """InputError for a recipe that needs a text and names none, or none that is there."""
    text = None if recipe.calibration is None else recipe.calibration.text
    if needs_calibration(recipe) and text in (None, Path()):
        raise InputError(
            "the recipe needs a text to calibrate with", where="--calibrate",
            remedy="name one: a few hundred thousand characters of what the model is for",
        )  # fmt: skip
    if text is not None and not text.is_file():
        raise InputError("no such file", where=str(text), remedy="name a text to calibrate with")
