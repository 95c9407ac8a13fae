"""What a source of guesses is: from the tokens so far, guesses of those that come next.

A source guesses and does not judge itself. With each guess it names a class, a small number of its own
choosing (the place in the draft, or how long a match is), and whoever uses the guesses keeps count of how
often those of a class were right. `prior` is where that count begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fivefold.core.decoder import Likely


@dataclass(frozen=True, slots=True)
class Guess:
    """Guessed tokens in order, and the class of each."""

    tokens: tuple[int, ...] = ()
    classes: tuple[int, ...] = ()


NOTHING = Guess()


class Source:
    """Guesses for one text. Each has a file here that ends with `SOURCE`, by which it is found."""

    name = ""

    def extend(self, tokens: Sequence[int]) -> None:
        """These tokens came behind those that were there before; first of all the prompt."""
        raise NotImplementedError

    def guess(self, most: int) -> Guess:
        """Guesses of the next tokens, at most so many; nothing where there is no reason for any."""
        raise NotImplementedError

    def prior(self, number: int) -> float:
        """How often a guess of this class is right, as long as nothing is known: 0 to 1."""
        raise NotImplementedError

    def wanted(self, most: int) -> int:
        """How many guesses it would like to be offered, at most so many."""
        return 0

    def offer(self, guesses: Sequence[Likely]) -> None:
        """Guesses that somebody else has made of the next tokens."""
