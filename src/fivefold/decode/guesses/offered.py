"""Guesses that somebody else makes, for all requests of a step at once: a side drafter of the model.

Their class is their place in the draft. They hold for the very next step: when a token has come, they are
gone. Who makes them is not known here; where nobody does, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

from .source import Guess, Source

MOST = 8
"""Guesses that are asked for at once."""


class Offered(Source):
    """The guesses that were offered last."""

    name = "offered"

    def __init__(self) -> None:
        self._offered: tuple[int, ...] = ()
        self._most = MOST

    def extend(self, tokens: Sequence[int]) -> None:
        """Older guesses are of no use any more."""
        self._offered = ()

    def guess(self, most: int) -> Guess:
        """What was offered."""
        tokens = self._offered[:most]
        return Guess(tokens, tuple(range(len(tokens))))

    def prior(self, number: int) -> float:
        """A trained drafter is right about half of the time."""
        return 0.5

    def hoped(self, most: int) -> tuple[int, ...]:
        """Some more guesses, if there are none."""
        return () if self._offered else tuple(range(min(most, self._most)))

    def offer(self, tokens: Sequence[int]) -> None:
        """Guesses of the next tokens. Who gives fewer than was asked for has no more to give."""
        self._offered = tuple(tokens)
        if self._offered:
            self._most = min(self._most, len(self._offered))


SOURCE = Offered
