"""Guesses that somebody else makes, for all requests of a step at once: a side drafter of the model.

Who makes them says how probable each is, and guesses that are about as probable are of one class: so a draft
is as long as it is good, and where a drafter is too sure of itself, that is found. They hold for the very
next step: when a token has come, they are gone. Who makes them is not known here; where nobody does, nothing
is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

from fivefold.core.decoder import Likely

from .source import Guess, Source

MOST = 8
"""Guesses that are asked for at once."""

CLASSES = 10
"""Of equal width, by what is said of a guess."""


class Offered(Source):
    """The guesses that were offered last."""

    name = "offered"

    def __init__(self) -> None:
        self._offered: tuple[Likely, ...] = ()
        self._most = MOST

    def extend(self, tokens: Sequence[int]) -> None:
        """Older guesses are of no use any more."""
        self._offered = ()

    def guess(self, most: int) -> Guess:
        """What was offered."""
        chosen = self._offered[:most]
        return Guess(
            tuple(token for token, _ in chosen),
            tuple(min(int(CLASSES * likely), CLASSES - 1) for _, likely in chosen),
        )

    def prior(self, number: int) -> float:
        """What was said of them, as long as nothing else is known."""
        return (number + 0.5) / CLASSES

    def wanted(self, most: int) -> int:
        """Some more guesses, if there are none."""
        return 0 if self._offered else min(most, self._most)

    def offer(self, guesses: Sequence[Likely]) -> None:
        """Guesses of the next tokens."""
        self._offered = tuple(guesses)


SOURCE = Offered
