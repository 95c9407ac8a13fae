"""Exercises by the stream, and the fixed sets that learned parts of the cache are measured on.

Exercise number n of a seed is the same whatever comes before it, so that a stopped run can go on anywhere.
What an exercise is made of, its side decides: texts of training packages with wordings of training, or texts
of packages that are held out with wordings that training never has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType

from fivefold.core.errors import InputError

from .exercise import Exercise
from .kind import Order, UnfitPassage
from .kinds import KINDS
from .passages import CountTokens, Library
from .texts import Text

TRIES = 60
"""Passages that are drawn for one exercise before it is given up."""
QUESTIONS = 4
WEIGHTS: Mapping[str, float] = MappingProxyType({name: kind.weight for name, kind in KINDS.items()})
"""How often each kind is drawn if nothing else is said."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn: kinds by weight, lengths of documents in tokens (low, high, log-uniform), the seed.

    `questions` on each document; `needles` 0 leaves their number to the kind.
    """

    lengths: tuple[int, int]
    seed: int = 0
    kinds: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)
    questions: int = QUESTIONS
    needles: int = 0


@dataclass(frozen=True, slots=True)
class FixedSet:
    """A set of exercises to measure with: kind, tokens of a document, questions on each, needles."""

    name: str
    kind: str
    tokens: int
    questions: int
    needles: int = 0

    def drawing(self, seed: int = 0) -> Drawing:
        """What is drawn for it."""
        return Drawing((self.tokens, self.tokens), seed, {self.kind: 1.0}, self.questions, self.needles)


_LENGTHS = {"1k": 1000, "2k": 2000, "4k": 4000, "8k": 7600}
"""Tokens of documents: with question and answer they stay below 8192, where the default model ends."""
_PLANS: tuple[tuple[str, str, int, int], ...] = (
    ("needle_noise", "2k 4k 8k", 1, 1),
    ("needle_prose", "1k 2k", 1, 1),
    ("multi_key", "1k 2k 4k", 2, 4),
    ("quote", "2k 4k 8k", 3, 0),
    ("summary", "2k 4k 8k", 2, 0),
    ("multi_document", "2k 4k 8k", 3, 0),
    ("code", "2k 4k 8k", 3, 0),
    ("chat", "2k 4k 8k", 3, 0),
)
FIXED_SETS: Mapping[str, FixedSet] = MappingProxyType(
    {
        f"{kind}_{length}": FixedSet(f"{kind}_{length}", kind, _LENGTHS[length], questions, needles)
        for kind, lengths, questions, needles in _PLANS
        for length in lengths.split()
    }
)
"""The sets for measuring by name, as `multi_key_2k`."""


def exercises(
    texts: Sequence[Text], count_tokens: CountTokens, drawing: Drawing, count: int, first: int = 0
) -> Iterator[Exercise]:
    """Exercises number `first` to `first + count - 1` of what the drawing's seed gives.

    `texts` are those of one side, which the exercises are then of; `count_tokens` gives the tokens of a text.
    InputError if a kind is unknown, lengths are no range, or the texts are too short.
    """
    _check(drawing)
    library = Library(texts, count_tokens)
    for number in range(first, first + count):
        yield one_exercise(library, drawing, number)


def one_exercise(library: Library, drawing: Drawing, number: int) -> Exercise:
    """Exercise number `number` of a drawing."""
    random = Random(f"{library.side} {drawing.seed} {number}")
    names = sorted(drawing.kinds)
    name = random.choices(names, [drawing.kinds[one] for one in names])[0]
    low, high = drawing.lengths
    size = round(math.exp(random.uniform(math.log(low), math.log(high))))
    for _ in range(TRIES):
        try:
            return KINDS[name].build(Order(library, random, size, drawing.questions, drawing.needles))
        except UnfitPassage:
            continue
    raise InputError(f"no text serves for {name} of {size} tokens", remedy="ask for other lengths or kinds")


def _check(drawing: Drawing) -> None:
    for name in drawing.kinds:
        if name not in KINDS:
            raise InputError(f"unknown kind of exercise {name!r}", remedy=f"take some of {', '.join(KINDS)}")
    if not drawing.kinds or min(drawing.kinds.values()) < 0 or not any(drawing.kinds.values()):
        raise InputError("weights of kinds must not be negative, and one must be above 0", where="kinds")
    low, high = drawing.lengths
    if not 0 < low <= high:
        raise InputError(f"lengths {low} to {high} are no range", where="lengths")
