"""What the model says of the positions of a block: a token for each, and how sure it is of it.

Tokens are chosen as everywhere (bias, penalties, bans, temperature, top-k, top-p), but each draw is a
function of the seed, the position and the step, so what else runs in the engine does not matter. Penalties
know the tokens that are final, not those of the block in flight. The mask token is never chosen: it is not
text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fivefold.core.batch import Float32, Int32
from fivefold.decode.filters import Float64, Indices
from fivefold.decode.sampling import Sampler, uniform
from fivefold.executor import likeliest_tokens

_STEP, _PLACES, _NOISE = 1 << 64, 1 << 160, 1 << 161
"""Counters: positions lie below a step's; other streams begin higher."""


class Spread:
    """`shares` (R, V), probabilities of R positions, and what follows from them."""

    def __init__(self, shares: Float64) -> None:
        self.shares = shares

    def of(self, tokens: npt.NDArray[np.integer]) -> Float64:
        """(R,) the probability of one token at each position."""
        return np.asarray(self.shares[np.arange(len(tokens)), tokens])

    @cached_property
    def entropy(self) -> Float64:
        """(R,) in nats."""
        logs = np.log(self.shares, out=np.zeros_like(self.shares), where=self.shares > 0)
        return np.asarray(-(self.shares * logs).sum(axis=1))

    @cached_property
    def margin(self) -> Float64:
        """(R,) by how much the likeliest token is above the second."""
        best = np.partition(self.shares, -2, axis=1)[:, -2:]
        return np.asarray(best[:, 1] - best[:, 0])


@dataclass(frozen=True, slots=True)
class Greedy:
    """The likeliest `tokens` (R,), the mask token left out, and their probabilities (R,): `drawn` where it is
    left out, `raw` where it is not."""

    tokens: Int32
    drawn: Float64
    raw: Float64


class Guesses:
    """The model's guesses for R positions of a block.

    places     (R,) positions within the block, ascending.
    tokens     (R,) the token chosen for each.
    likeliest  (R,) the token that is greedily best, whatever was drawn.
    logits     (R, V) raw.
    """

    def __init__(
        self, places: Indices, logits: Float32, guesser: Guesser, numbers: Int32, turn: int,
        temperature: float | None,
    ) -> None:  # fmt: skip
        self.places, self.logits = places, logits
        self._guesser, self._numbers, self._turn = guesser, numbers, turn
        self._temperature = temperature
        self._greedy = guesser.greedy(logits, numbers, temperature)
        self.tokens = self._chosen[0] if self._greedy is None else self._greedy.tokens

    def confidence(self, drawn: bool) -> Float64:
        """(R,) the probability of each chosen token: the one that it was drawn with, or the model's own."""
        if self._greedy is not None:
            return self._greedy.drawn if drawn else self._greedy.raw
        return (self.drawn if drawn else self.raw).of(self.tokens)

    @cached_property
    def _chosen(self) -> tuple[Int32, list[Float32]]:
        """The tokens, and the logits that they were chosen by."""
        found = [
            self._guesser.choose(row, int(number), self._turn, self._temperature)
            for row, number in zip(self.logits, self._numbers, strict=True)
        ]
        return np.array([token for token, _ in found], np.int32), [row for _, row in found]

    @property
    def _adjusted(self) -> list[Float32]:
        return self._chosen[1]

    @cached_property
    def likeliest(self) -> Int32:
        """(R,) the best token of each position."""
        return np.array([int(row.argmax()) for row in self._adjusted], np.int32)

    @cached_property
    def drawn(self) -> Spread:
        """The distributions that tokens are drawn from."""
        sampler, temperature = self._guesser.sampler, self._temperature
        return Spread(np.array([sampler.shares(row, temperature) for row in self._adjusted]))

    @cached_property
    def raw(self) -> Spread:
        """The model's own distributions."""
        raised = np.exp(self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True))
        return Spread(raised / raised.sum(axis=1, keepdims=True))

    def randoms(self) -> Float64:
        """(R,) a random number in [0, 1) for each place."""
        return self._guesser.randoms(_PLACES, self._numbers, self._turn)

    def noise(self) -> Int32:
        """(R,) a token for each place, all that there are equally likely."""
        return self._guesser.noise(self._numbers, self._turn)


class Guesser:
    """Makes guesses of one request's logits.

    sampler     chooses tokens.
    vocabulary  V.
    mask        the token that is never chosen, if the family has one.
    """

    def __init__(self, sampler: Sampler, vocabulary: int, mask: int | None) -> None:
        self.sampler = sampler
        self._vocabulary = vocabulary
        self._mask = mask if mask is not None and mask < vocabulary else None

    def choose(
        self, logits: Float32, number: int, turn: int, temperature: float | None
    ) -> tuple[int, Float32]:
        """The token for output token `number` in a step, and (V,) logits that it was chosen by."""
        if self._mask is not None:
            logits = logits.copy()
            logits[self._mask] = -np.inf
        return self.sampler.guess(logits, number, turn * _STEP + number, temperature)

    def greedy(self, logits: Float32, numbers: Int32, temperature: float | None) -> Greedy | None:
        """What all of `choose` comes to for (R, V) logits of ascending numbers, if the likeliest tokens are
        taken as they are; None where something else is asked for, or where logits fail."""
        if not len(numbers) or not self.sampler.is_greedy(int(numbers[0]), temperature):
            return None
        mask = -1 if self._mask is None else self._mask
        tokens, drawn, raw = likeliest_tokens(np.ascontiguousarray(logits), mask)
        if min(tokens) < 0:
            return None
        return Greedy(np.array(tokens, np.int32), np.array(drawn), np.array(raw))

    def randoms(self, stream: int, numbers: Int32, turn: int) -> Float64:
        """A random number in [0, 1) for each output token of a step."""
        seed = self.sampler.seed
        return np.array([uniform(seed, stream + turn * _STEP + int(number)) for number in numbers])

    def noise(self, numbers: Int32, turn: int) -> Int32:
        """A token for each output token of a step, all that there are equally likely."""
        return (self.randoms(_NOISE, numbers, turn) * self._vocabulary).astype(np.int32)
