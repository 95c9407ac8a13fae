"""Sentences of a text: where they are, which of them a question can name, where another may stand between.

Sentences are found by their marks alone. That is enough here: an exercise takes those which have an ordinary
length and a beginning of their own, and leaves the rest alone.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from random import Random

from .exercise import plain

BEGINNING_WORDS = 5
FEWEST_WORDS, MOST_WORDS = 9, 40
_BREAK = re.compile(r"(?<=[a-z)][.!?])[ \n]+(?=[A-Z])|\n{2,}")
_SENTENCE = re.compile(r"[A-Z][^\n|{}<>=\\]*[a-z)][.!?]")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, its first words, and where in the text it begins, 0 to 1."""

    text: str
    beginning: str
    depth: float

    @property
    def rest(self) -> str:
        """What follows the first words."""
        return self.text[len(self.beginning) :].strip()


def breaks(text: str) -> list[int]:
    """Places between sentences and paragraphs, ascending: another sentence can stand there."""
    return [found.end() for found in _BREAK.finditer(text)]


def named_sentences(text: str) -> list[Sentence]:
    """Sentences that a question can name: whole, of ordinary length, with a beginning found only once."""
    places = [0, *breaks(text), len(text)]
    whole = plain(text)
    found = []
    for start, end in itertools.pairwise(places):
        sentence = text[start:end].strip()
        words = sentence.split(" ")
        if not FEWEST_WORDS <= len(words) <= MOST_WORDS or not _SENTENCE.fullmatch(sentence):
            continue
        beginning = " ".join(words[:BEGINNING_WORDS])
        if whole.count(plain(beginning)) == 1:
            found.append(Sentence(sentence, beginning, start / len(text)))
    return found


def hidden(text: str, sentences: list[str], random: Random) -> tuple[str, list[float]]:
    """The text with other sentences in it, each at a place drawn evenly, and how deep each one stands.

    A sentence goes to the break between sentences that is nearest to its place, not two to one break while
    there are more. In a text without breaks it stands at a blank.
    """
    places = breaks(text) or [found.end() for found in re.finditer(r"\s+", text)] or [0]
    taken: dict[int, str] = {}
    for sentence in sentences:
        wanted = random.random() * len(text)
        free = [place for place in places if place not in taken] or places
        place = min(free, key=lambda at: abs(at - wanted))
        taken[place] = f"{taken[place]} {sentence}" if place in taken else sentence
    whole, at = [], 0
    for place in sorted(taken):
        after = "\n\n" if text[:place].endswith("\n\n") else " "
        whole += [text[at:place], taken[place], after]
        at = place
    made = "".join([*whole, text[at:]])
    return made, [made.find(sentence) / len(made) for sentence in sentences]
