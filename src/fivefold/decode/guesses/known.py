"""Guesses by what the model usually writes: a table of n-grams, made of its own answers.

Each guess is the surest that the table knows behind the last few tokens, the guesses before it among them.
Their class is how sure the table is, so that a request finds how far it can be trusted here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fivefold.core.ngrams import CLASSES, NGramTable
from fivefold.executor import guess_tokens

from .source import NOTHING, Guess, Source

LEAST = 0.03
"""Guesses end where all of them together are right less often than that."""


class Known(Source):
    """The end of one text, and the table."""

    name = "known"

    def __init__(self, table: NGramTable) -> None:
        self._keys = np.ascontiguousarray(table.keys)
        self._values = np.ascontiguousarray(table.values)
        self._orders = table.orders
        self._last: list[int] = []

    def extend(self, tokens: Sequence[int]) -> None:
        """Only the last few matter."""
        self._last = [*self._last, *tokens[-self._orders :]][-self._orders :]

    def guess(self, most: int) -> Guess:
        """A chain of guesses, each behind the one before it."""
        tokens, classes = guess_tokens(
            self._keys, self._values, self._orders, CLASSES, self._last, most, LEAST
        )  # fmt: skip
        return Guess(tuple(tokens), tuple(classes)) if tokens else NOTHING

    def prior(self, number: int) -> float:
        """What the table says of guesses of a class."""
        return (number + 0.5) / CLASSES
