"""Passages of wanted lengths, out of the texts of one side.

A passage begins at a paragraph and ends at one where it can. Kinds of text are drawn by their shares, then
packages alike, so that a large package does not fill the exercises; the place in a package is drawn evenly.
A file that ends too early is followed by the next of its package. Tokens are counted by a function of the
caller's.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from random import Random
from types import MappingProxyType

from fivefold.core.errors import InputError

from .catalogue import Kind, Side
from .texts import Text

CountTokens = Callable[[str], int]
PROSE: tuple[Kind, ...] = ("prose", "manual", "legal", "talk")
ANY: tuple[Kind, ...] = (*PROSE, "code")
SHARES: Mapping[Kind, int] = MappingProxyType({"prose": 3, "manual": 3, "code": 2, "legal": 1, "talk": 1})
"""How often each kind of text is drawn, beside the others that may be drawn."""
MOST_CHARACTERS = 6
"""Characters of a token at most, as a mean over a passage: so much text is looked at for each."""
CLOSE = 0.94
"""A passage has at least this share of the tokens that were wanted, and never more than wanted."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Some text, the package it is of, and a title."""

    text: str
    package: str
    title: str


class Library:
    """The texts of one side, to draw passages from."""

    def __init__(self, texts: Sequence[Text], count_tokens: CountTokens) -> None:
        """InputError if there are no texts, or if they are of two sides."""
        sides = {text.side for text in texts}
        if len(sides) != 1:
            raise InputError(f"texts of {len(sides)} sides", remedy="give the texts of one side")
        self.side: Side = sides.pop()
        self.count_tokens = count_tokens
        shelves: dict[tuple[Kind, str], list[Text]] = defaultdict(list)
        for text in texts:
            shelves[text.kind, text.package].append(text)
        self._shelves = dict(shelves)
        self._ends = {
            key: list(itertools.accumulate(len(text.text) for text in shelf))
            for key, shelf in shelves.items()
        }

    def passage(self, random: Random, kinds: Sequence[Kind], tokens: int) -> Passage:
        """A passage of at most so many tokens, and hardly less. InputError if no package has as many."""
        enough = [key for key, ends in self._ends.items() if ends[-1] > tokens * MOST_CHARACTERS]
        found = sorted({kind for kind, _ in enough if kind in kinds})
        if not found:
            raise InputError(
                f"no package has {tokens} tokens of {', '.join(kinds)}", remedy="ask for shorter documents"
            )
        kind = random.choices(found, [SHARES[kind] for kind in found])[0]
        key = random.choice([key for key in enough if key[0] == kind])
        place = random.randrange(self._ends[key][-1])
        number = bisect.bisect_right(self._ends[key], place)
        first = self._shelves[key][number]
        start = _paragraph_before(first.text, place - self._ends[key][number] + len(first.text))
        text = self._from(key, number, start, tokens * MOST_CHARACTERS)
        title = f"{first.package}, {_title(first.path)}"
        return Passage(self.cut(text, tokens), first.package, title)

    def _from(self, key: tuple[Kind, str], number: int, start: int, characters: int) -> str:
        """So much text of a package from a place on, its next files too, after the last the first."""
        shelf = self._shelves[key]
        parts = [shelf[number].text[start:]]
        while sum(map(len, parts)) < characters:
            number = (number + 1) % len(shelf)
            parts.append(shelf[number].text)
        return "\n\n".join(parts)[:characters]

    def cut(self, text: str, tokens: int) -> str:
        """The beginning of the text with at most so many tokens, to the end of a paragraph, line or word."""
        if tokens < 1:
            raise InputError("a document too short for its questions", remedy="ask for longer documents")
        characters = min(len(text), tokens * 4)
        low, high = 0, len(text) + 1
        best = ""
        for _ in range(8):
            piece = _whole(text[:characters])
            found = self.count_tokens(piece)
            if found <= tokens:
                best, low = max(best, piece, key=len), characters
            else:
                high = characters
            if CLOSE * tokens <= found <= tokens or high - low < 2:
                break
            characters = min(max(int(characters * 0.975 * tokens / max(1, found)), low + 1), high - 1)
        return best


def _title(path: str) -> str:
    """The file's name in words."""
    name = re.sub(r"(\.(html|rst|txt|gz|dz|rdb|yml|py|dict|en))+$", "", PurePosixPath(path).name)
    return re.sub(r"[-_.]+", " ", name).removeprefix("sect ").strip()


def _paragraph_before(text: str, place: int) -> int:
    """Where the paragraph begins that has the place, or the line if the paragraph is long."""
    found = text.rfind("\n\n", 0, place)
    if found >= 0 and place - found < 3000:
        return found + 2
    found = text.rfind("\n", 0, place)
    return found + 1


def _whole(text: str) -> str:
    """The text to the end of its last paragraph, line, sentence or word, whichever loses little."""
    for mark, kept in (("\n\n", 0.98), ("\n", 0.97), (". ", 0.96), (" ", 0.0)):
        end = text.rfind(mark)
        if end >= kept * len(text) and end > 0:
            return text[: end + (1 if mark == ". " else 0)]
    return text
