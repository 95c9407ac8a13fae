"""Draws of the next token with checked guesses against plain ones: whether both are of one distribution.

With the same seed both give the same tokens, which the other figures count. Here the seeds are different
ones, so that only the rule of acceptance can make the two alike: a guess x is taken with the model's
probability of x, and what stands in its place otherwise is drawn from the rest (arXiv 2211.17192). Half of
the windows begin with the likeliest token, which is often right, half with one that seldom is. What is
counted is the token behind a prompt, and, where that is the likeliest, the one after it too: so both places
of a window are tested.

Pearson's test of two samples, over the outcomes that are frequent enough; the others count as one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fivefold.core.batch import Float32, Span, Step
from fivefold.core.request import Request, SamplingParams
from fivefold.decode import AutoregressiveDecoder, SpeculativeDecoder
from fivefold.decode.guesses.offered import Offered
from fivefold.engine import LoadedModel, read_prompt

Outcome = tuple[int, ...]
LEAST = 10
"""Draws of an outcome, in both samples together, with which it counts for itself."""
SELDOM = 4
"""The rank of the token that is offered as a guess that is seldom right; 0 is the likeliest."""
TOKENS = 4
_STEPS, _CLOSE, _TINY = 10_000, 1e-14, 1e-300


@dataclass(frozen=True, slots=True)
class Test:
    """Pearson's statistic and its degrees of freedom."""

    statistic: float
    degrees: int

    @property
    def chance(self) -> float:
        """The probability of a statistic at least as large, if both samples are of one distribution."""
        return survival(self.statistic, self.degrees)


def two_samples(some: Mapping[Outcome, int], others: Mapping[Outcome, int]) -> Test:
    """The test of two counts of outcomes."""
    frequent = [one for one in {*some, *others} if some.get(one, 0) + others.get(one, 0) >= LEAST]
    counts = np.array([[each.get(one, 0) for one in frequent] for each in (some, others)], np.float64)
    rest = np.array([[sum(some.values())], [sum(others.values())]]) - counts.sum(axis=1, keepdims=True)
    if rest.sum():
        counts = np.concatenate([counts, rest], axis=1)
    totals = counts.sum(axis=1, keepdims=True)
    expected = totals * counts.sum(axis=0, keepdims=True) / counts.sum()
    return Test(float(((counts - expected) ** 2 / expected).sum()), counts.shape[1] - 1)


def survival(statistic: float, degrees: int) -> float:
    """The share of a chi-square distribution at and above a value: Q(degrees / 2, value / 2), the regularised
    incomplete gamma function, by its series below the mean and by its continued fraction above."""
    if degrees == 0 or statistic <= 0:
        return 1.0
    shape, x = degrees / 2, statistic / 2
    scale = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1:
        term = total = 1 / shape
        for step in range(1, _STEPS):
            term *= x / (shape + step)
            total += term
            if term < total * _CLOSE:
                break
        return 1 - scale * total
    odd = x + 1 - shape
    c, d = 1 / _TINY, 1 / odd
    fraction = d
    for step in range(1, _STEPS):
        even = -step * (step - shape)
        odd += 2
        d = 1 / (even * d + odd or _TINY)
        c = even / c + odd or _TINY
        fraction *= c * d
        if abs(c * d - 1) < _CLOSE:
            break
    return scale * fraction


class Draws:
    """Draws of what stands behind one prompt, whose entries but the last are read once.

    `temperature` is that of all draws. To be closed.
    """

    def __init__(self, loaded: LoadedModel, prompt: tuple[int, ...], temperature: float) -> None:
        self._loaded, self._prompt, self._temperature = loaded, prompt, temperature
        self._begun = loaded.runner.open()
        read_prompt(loaded.runner, self._begun, np.array(prompt[:-1], np.int32))
        first = np.argsort(-self._logits(prompt[-1:]), kind="stable")
        behind = np.argsort(-self._logits((prompt[-1], int(first[0]))), kind="stable")
        self.likeliest, self._seldom = int(first[0]), int(first[min(SELDOM, len(first) - 1)])
        self._behind = int(behind[0])
        self.guessed = self.right = 0

    def close(self) -> None:
        """Give the prompt's pages back."""
        self._loaded.runner.close(self._begun)

    def plain(self, seed: int) -> Outcome:
        """One outcome, token by token."""
        return self._outcome(seed, ())

    def checked(self, seed: int) -> Outcome:
        """One outcome, of a window with two guesses."""
        return self._outcome(seed, (self.likeliest if seed % 2 else self._seldom, self._behind))

    def _outcome(self, seed: int, guesses: Sequence[int]) -> Outcome:
        runner, size = self._loaded.runner, self._loaded.vocabulary.size
        sampling = SamplingParams(
            max_tokens=TOKENS, temperature=self._temperature, seed=seed, ignore_eos=True
        )
        sequence = runner.fork(self._begun)
        try:
            request = Request("drawn", self._prompt, sampling)
            plain = AutoregressiveDecoder.for_request(sequence, request, size, (), self._loaded.context)
            decoder = SpeculativeDecoder(plain, {"offered": Offered()} if guesses else {})
            decoder.resume(len(self._prompt) - 1)
            if guesses:
                decoder.offer([(token, 0.5) for token in guesses])
            found: list[int] = []
            while not found or (found[0] == self.likeliest and len(found) < 2):
                span = decoder.propose(1 + len(guesses))
                assert span is not None
                decision = decoder.decide(runner.run(Step((span,)), copy=False)[:, :size])
                runner.commit([decision.commit])
                found += decision.tokens
                self.guessed += decision.guessed
                self.right += decision.accepted
        finally:
            runner.close(sequence)
        return tuple(found[:2]) if found[0] == self.likeliest else (found[0],)

    def _logits(self, tokens: Sequence[int]) -> Float32:
        """(V,) logits behind these tokens, which follow what is read and are forgotten."""
        runner, size = self._loaded.runner, self._loaded.vocabulary.size
        sequence = runner.fork(self._begun)
        span = Span.causal(sequence, np.array(tokens, np.int32), len(self._prompt) - 1)
        logits: Float32 = runner.run(Step((span,)))[0, :size]
        runner.close(sequence)
        return logits


def chi_square_figures(
    loaded: LoadedModel, prompts: Sequence[tuple[int, ...]], draws: int, temperature: float
) -> dict[str, Any]:
    """Each prompt's test of so many draws each way, and all of them together, for they are independent."""
    each = list(_tests(loaded, prompts, draws, temperature))
    statistic, degrees = sum(one["statistic"] for one in each), sum(one["degrees"] for one in each)
    return {
        "draws": draws, "temperature": temperature, "statistic": round(statistic, 3), "degrees": degrees,
        "chance": round(survival(statistic, degrees), 5), "prompts": each,
    }  # fmt: skip


def _tests(
    loaded: LoadedModel, prompts: Sequence[tuple[int, ...]], draws: int, temperature: float
) -> Iterator[dict[str, Any]]:
    for number, prompt in enumerate(prompts):
        drawn = Draws(loaded, prompt, temperature)
        try:
            first = 2 * number * draws
            plain = Counter(drawn.plain(first + seed) for seed in range(draws))
            checked = Counter(drawn.checked(first + draws + seed) for seed in range(draws))
        finally:
            drawn.close()
        test = two_samples(plain, checked)
        yield {
            "statistic": round(test.statistic, 3), "degrees": test.degrees, "chance": round(test.chance, 5),
            "guessed": drawn.guessed, "right": drawn.right,
        }  # fmt: skip
