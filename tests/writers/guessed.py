"""Sources of guesses that tests need: those that know the truth and tell it in part."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from fivefold.core.decoder import Decoder
from fivefold.core.request import Request
from fivefold.decode import AutoregressiveDecoder, SpeculativeDecoder
from fivefold.decode.guesses import Guess, Source


class Truth(Source):
    """Knows the whole text; a guess is right with the probability `share`, else another token.

    Classes are places in the draft. `size` of the vocabulary, without which wrong tokens could be none.
    """

    name = "truth"

    def __init__(self, text: Sequence[int], share: float, size: int, seed: int = 0) -> None:
        self._text = list(text)
        self._share = share
        self._size = size
        self._dice = random.Random(seed)
        self.told: list[int] = []

    def extend(self, tokens: Sequence[int]) -> None:
        self.told += tokens

    def guess(self, most: int) -> Guess:
        first = len(self.told)
        assert self.told == self._text[:first], "the text is not the one that was known"
        tokens = self._text[first : first + most]
        guessed = [
            token if self._dice.random() < self._share else (token + self._dice.randrange(1, self._size))
            % self._size
            for token in tokens
        ]  # fmt: skip
        return Guess(tuple(guessed), tuple(range(len(guessed))))

    def prior(self, number: int) -> float:
        return 0.9


def truth_teller(texts: Mapping[str, Sequence[int]], share: float) -> Callable[..., Decoder]:
    """Makes decoders of requests whose texts are known by their names, prompts and all."""

    def make(
        sequence: int, request: Request, size: int, end: Sequence[int], room: int, **more: object
    ) -> Decoder:
        plain = AutoregressiveDecoder.for_request(sequence, request, size, end, room)
        truth = Truth([*texts[request.identity], *range(20, 40)], share, size, sequence)
        return SpeculativeDecoder(plain, {"truth": truth})

    return make


class Clock:
    """A clock that is one second later at each call: every step takes as long as any other."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now
