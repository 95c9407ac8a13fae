"""How well records were completed: fields that are right to the letter, and what two writers differ by.

What counts was written down before anything was trained, in decision 16
(docs/decisions/0016-twins-and-how-they-are-compared.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .questions import Question
from .writing import Answer

SAMPLES = 10_000
MARGIN = 0.01
"""How much worse is still equal, in F1 and in the share of whole answers."""
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Score:
    """Of one record: its fields, those that were written and those of them that are right; whether the answer
    is whole."""

    source: str
    there: int
    written: int
    right: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and where the bootstrap has 95 % of it."""

    value: float
    low: float
    high: float


def fields(text: str) -> dict[str, str]:
    """The values of lines `Field: value`; other lines are left out, and the first of a name counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(": ")
        if colon:
            found.setdefault(name, value)
    return found


def score(question: Question, answer: Answer) -> Score:
    """How an answer did. It is whole if it ended by itself, and each of its lines is a field of its own."""
    there, written = fields(question.written), fields(answer.text)
    right = sum(there.get(name) == value for name, value in written.items())
    lines = answer.text.removeprefix("\n").splitlines()
    whole = answer.ended and bool(lines) and len(written) == len(lines)
    return Score(question.source, len(there), len(written), right, whole)


def f1(scores: Sequence[Score]) -> float:
    """Twice the right fields, over those of the records and those that were written."""
    all_of = sum(one.there + one.written for one in scores)
    return 2 * sum(one.right for one in scores) / all_of


def difference(scores: Sequence[Score], less: Sequence[Score]) -> Interval:
    """F1 of `scores` less that of others of the same records; the bootstrap draws source packages."""
    sources = sorted({one.source for one in scores})
    place = {source: number for number, source in enumerate(sources)}
    drawn = _draws(len(sources))

    def each(of: Sequence[Score]) -> Float64:
        parts = np.zeros((len(sources), 2))
        for one in of:
            parts[place[one.source]] += 2 * one.right, one.there + one.written
        summed = drawn @ parts
        found: Float64 = summed[:, 0] / summed[:, 1]
        return found

    low, high = np.quantile(each(scores) - each(less), (0.025, 0.975))
    return Interval(f1(scores) - f1(less), float(low), float(high))


def rates_ratio(tokens: tuple[Float64, Float64], seconds: tuple[Float64, Float64]) -> Interval:
    """Tokens a second of the first over those of the second; the bootstrap draws records, whose numbers and
    times (of all rounds) are given."""
    drawn = _draws(len(tokens[0]))
    rates = [(drawn @ count) / (drawn @ time) for count, time in zip(tokens, seconds, strict=True)]
    plain = [count.sum() / time.sum() for count, time in zip(tokens, seconds, strict=True)]
    low, high = np.quantile(rates[0] / rates[1], (0.025, 0.975))
    return Interval(float(plain[0] / plain[1]), float(low), float(high))


def _draws(count: int) -> Float64:
    """(SAMPLES, count): how often each of them is drawn."""
    found: Float64 = (
        np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), SAMPLES).astype(np.float64)
    )
    return found
