"""Needles: sentences with a key and a value, and the questions that ask for the value."""

from __future__ import annotations

from dataclasses import dataclass

from . import words
from .exercise import Exercise, Question
from .kind import Needle, Order
from .passages import PROSE
from .sentences import hidden


@dataclass(frozen=True, slots=True)
class Hidden:
    """A needle that was drawn: its key, its value and its sentence."""

    key: str
    value: str
    sentence: str


def drawn(order: Order, phrasing: Needle, count: int, text: str, between: str = " ") -> list[Hidden]:
    """So many needles of one phrasing, with keys and 7-digit values that are not in the text, nor twice."""
    keys: set[str] = set()
    values: set[str] = set()
    made = []
    for _ in range(count):
        key = words.unused(lambda: words.name(order.random, order.side, between), keys, text)
        value = words.unused(lambda: words.digits(order.random, 7), values, text)
        made.append(Hidden(key, value, phrasing.sentence.format(key=key, value=value)))
    return made


def asked(
    order: Order, phrasing: Needle, needles: list[Hidden], depths: list[float], kind: str
) -> tuple[Question, ...]:
    """As many questions as the order wants, if the phrasing has them: every needle once, then again."""
    turns = list(range(len(needles)))
    order.random.shuffle(turns)
    wordings = list(phrasing.questions)
    order.random.shuffle(wordings)
    made = []
    for number in range(min(order.questions, len(turns) * len(wordings))):
        at = turns[number % len(turns)]
        # each needle has a wording of its own to begin with, and the next ones when it is asked again
        question, prefix = wordings[(at + number // len(turns)) % len(wordings)]
        needle = needles[at]
        text, begun = question.format(key=needle.key), prefix.format(key=needle.key)
        made.append(Question(text, needle.value, begun, kind, depths[at]))
    return tuple(made)


def in_prose(order: Order, name: str, phrasing: Needle, count: int) -> Exercise:
    """An exercise with so many needles in one passage of prose."""
    sample = drawn(order, phrasing, count, "")
    taken = order.tokens(phrasing.introduction, *(needle.sentence for needle in sample)) + 6 * count + 2
    passage = order.library.passage(order.random, PROSE, order.size - taken)
    needles = drawn(order, phrasing, count, passage.text)
    text, _ = hidden(passage.text, [needle.sentence for needle in needles], order.random)
    document = f"{phrasing.introduction}\n\n{text}"
    depths = [document.find(needle.sentence) / len(document) for needle in needles]
    return Exercise(name, document, asked(order, phrasing, needles, depths, name), (passage.package,))
