"""How often guesses of each class were right: a running mean that begins with what is usual.

The first observations weigh more, so that a request finds its own rate soon, and later ones are forgotten
slowly, for texts change. A guess counts when the token at its place has become known and all guesses
before it were right, whether a row was spent on it or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

FIRST = 4
"""What is usual counts as so many observations."""

MEMORY = 24
"""Observations that the mean reaches back."""


USUAL = 0.5
"""A guess of which nothing is known is right about half of the time."""


LEAST_HOPE = 0.05
"""What a draft's first place may always be worth: else nobody would ever ask for one again."""


class Hope:
    """What drafts of a source were worth lately, by place: so another one is worth about as much. Requests
    share it, so that the next one need not find out anew whether drafts pay."""

    def __init__(self) -> None:
        self._worth: list[tuple[float, int]] = []

    def observe(self, worth: Sequence[float]) -> None:
        """Note the worth of a draft; a place that it did not reach was worth nothing."""
        for place in range(max(len(worth), len(self._worth))):
            if place == len(self._worth):
                self._worth.append((self.worth(place + 1)[place], FIRST))
            mean, count = self._worth[place]
            count = min(count + 1, MEMORY)
            value = worth[place] if place < len(worth) else 0.0
            self._worth[place] = (mean + (value - mean) / count, count)

    def worth(self, count: int) -> list[float]:
        """What so many guesses of the next draft may be worth, never rising."""
        found: list[float] = []
        for place in range(count):
            before = found[-1] if found else 1.0
            known = self._worth[place][0] if place < len(self._worth) else before * USUAL
            found.append(min(known if place else max(known, LEAST_HOPE), before))
        return found


class Acceptance:
    """Running rates by class. `prior` is the rate of a class that has not been seen."""

    def __init__(self, prior: Callable[[int], float]) -> None:
        self._prior = prior
        self._rates: dict[int, tuple[float, int]] = {}

    def rate(self, number: int) -> float:
        """How often guesses of a class are right, 0 to 1."""
        return self._rates[number][0] if number in self._rates else self._prior(number)

    def observe(self, number: int, right: bool) -> None:
        """Note a guess of a class."""
        rate, count = self._rates.get(number, (self._prior(number), FIRST))
        count = min(count + 1, MEMORY)
        self._rates[number] = (rate + (right - rate) / count, count)

    def worth(self, classes: Sequence[int]) -> list[float]:
        """The probability that each guess of a draft brings a token: that it and all before it are right."""
        found: list[float] = []
        product = 1.0
        for number in classes:
            product *= self.rate(number)
            found.append(product)
        return found
