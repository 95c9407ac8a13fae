"""What is to become of a tensor, and of a whole model: choices and recipes, frozen.

A `Choice` is for one tensor; a `Recipe` makes the choices. Recipes come from files and options (`recipe`) or
are made in Python. What a recipe may ask for and nothing here can do yet is listed in `PENDING` and refused
by name: nothing that a recipe says is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from fivefold.core.errors import InputError, UnsupportedError
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
    """A choice for the matrices whose whole names the regular expression matches."""

    match: re.Pattern[str]
    choice: Choice


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
    awq, norm_correction, budget_bits, calibration  what `PENDING` speaks of.
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


PENDING: Mapping[str, Callable[[Recipe], bool]] = MappingProxyType(
    {
        'method = "gptq"': lambda recipe: any(choice.method == "gptq" for choice in recipe.choices),
        "awq = true": lambda recipe: recipe.awq,
        "norm_correction = true": lambda recipe: recipe.norm_correction,
        "budget_bits": lambda recipe: recipe.budget_bits is not None,
        "calibration": lambda recipe: recipe.calibration is not None,
    }
)
"""What recipes may ask for and nobody can do, and how it is seen. Who implements one takes its line out."""


def refuse_pending(recipe: Recipe, where: str = "the recipe") -> None:
    """UnsupportedError for the first thing that the recipe asks for and nobody can do yet."""
    for name, asked in PENDING.items():
        if asked(recipe):
            raise UnsupportedError(
                f"{name} is not implemented yet",
                where=where,
                remedy="leave it out; round and sweep are there",
            )
