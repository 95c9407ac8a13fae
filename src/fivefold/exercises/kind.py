"""What a kind of exercise is: a name, its phrasings on both sides, and a function that builds one.

The phrasings of a test are never those of training: what was learnt must not be the wording. Kinds are the
files of `kinds/`; this module knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from .catalogue import Side
from .exercise import Exercise
from .passages import Library

P = TypeVar("P")


class UnfitPassage(Exception):  # noqa: N818 (not an error: another passage is drawn)
    """A passage that an exercise cannot be made of: another one has to be drawn."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted: a document of about `size` tokens with so many questions; `needles` where it has them.

    0 needles leaves their number to the kind. Everything that is drawn is drawn from `random`.
    """

    library: Library
    random: Random
    size: int
    questions: int
    needles: int = 0

    @property
    def side(self) -> Side:
        """The side of the texts, and so of the phrasings."""
        return self.library.side

    def tokens(self, *texts: str) -> int:
        """Tokens of these texts together."""
        return sum(map(self.library.count_tokens, texts))


@dataclass(frozen=True, slots=True)
class Phrasings(Generic[P]):
    """The wordings of a kind, those for training and those for tests."""

    training: tuple[P, ...]
    held_out: tuple[P, ...]

    def of(self, side: Side) -> tuple[P, ...]:
        """The wordings of a side."""
        return self.training if side == "training" else self.held_out


@dataclass(frozen=True, slots=True)
class Needle:
    """One way to hide a value and to ask for it: `{key}` and `{value}` stand for what is drawn.

    `questions` has pairs of a question and a prefix of the answer.
    """

    introduction: str
    sentence: str
    questions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Asking:
    """A question and the prefix of its answer; what may stand for what in braces, the kind says."""

    question: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class ExerciseKind:
    """A kind of exercise. `weight` is its usual share; `phrasings` all that it says, by what it is for.

    `build` raises UnfitPassage where the drawn passage does not serve.
    """

    name: str
    weight: float
    phrasings: Mapping[str, Phrasings[str] | Phrasings[Needle] | Phrasings[Asking]]
    build: Callable[[Order], Exercise]
