"""Guesses by repetition: what came after the same few tokens the last time goes on now.

The last four, three and two tokens are looked up in what was read and written before, the longest first
and its most recent place first, at the cost of three entries in a table for each new token, however long
the text is. A place that has guessed right stays a candidate, for it matches at one token more; of the
two the longer match wins. So a text that is copied is followed through parts that occur in many places.

Prompt lookup decoding, as vLLM's n-gram proposer and the lookup of llama.cpp have it, searches the text
anew for each token; suffix trees (SuffixDecoding, arXiv 2411.04975) count all continuations. How far to
trust a match by its length is the paper's idea: here the length is the class of a guess, and past guesses
of that class tell.
"""

from __future__ import annotations

from collections.abc import Sequence

from .source import NOTHING, Guess, Source

SIZES = (4, 3, 2)
"""Numbers of last tokens that are looked up, longest first."""

LONGEST = 16
"""Matches of this length and longer are one class."""


class Repeats(Source):
    """The index of one text."""

    name = "repeats"

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._places: dict[int, dict[tuple[int, ...], int]] = {size: {} for size in SIZES}
        self._place: int | None = None
        self._length = 0

    @property
    def match(self) -> tuple[int, int] | None:
        """The place whose tokens are guessed next, and how many tokens before it are those of the end."""
        return None if self._place is None else (self._place, self._length)

    def extend(self, tokens: Sequence[int]) -> None:
        """Take new tokens into the index."""
        for token in tokens:
            self._append(token)

    def _append(self, token: int) -> None:
        text = self._tokens
        going_on: int | None = None
        if self._place is not None and text[self._place] == token:
            going_on = self._place + 1
        length = self._length + 1
        text.append(token)
        end = len(text)
        latest: int | None = None
        for size in SIZES:
            if size > end:
                continue
            last = tuple(text[end - size :])
            place = self._places[size].get(last)
            self._places[size][last] = end
            if latest is None:
                latest = place
        self._place, self._length = going_on, length if going_on is not None else 0
        if latest is not None and latest != going_on:
            common = self._common(latest)
            if going_on is None or common >= self._length:
                self._place, self._length = latest, common
        self._length = min(self._length, LONGEST)

    def _common(self, place: int) -> int:
        """How many tokens before a place are those of the end, up to the longest that counts."""
        text, count = self._tokens, min(SIZES[-1], place)
        most = min(place, LONGEST)
        while count < most and text[place - count - 1] == text[-count - 1]:
            count += 1
        return count

    def guess(self, most: int) -> Guess:
        """What follows the match; a match that overlaps the end goes on with its own guesses."""
        if self._place is None or most < 1:
            return NOTHING
        place, text = self._place, self._tokens
        found = text[place : place + most]
        period = len(found)
        while len(found) < most:
            found.append(found[-period])
        classes = tuple(min(self._length + step, LONGEST) for step in range(most))
        return Guess(tuple(found), classes)

    def prior(self, number: int) -> float:
        """Longer matches are right more often."""
        return min(0.15 * number, 0.9)


SOURCE = Repeats
