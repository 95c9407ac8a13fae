"""Answers: the full cache's greedy one with what its rows look at, and what evicted caches make of it.

An evicted cache is fed the full cache's answer, all rows in one span; rows do not know each other, so that
is what one token after the other would give. Where its own likeliest tokens are those of the answer, it would
have written the same; so for retrieval it goes on only from the first place where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fivefold.bench.quality.distance import Int64, compare
from fivefold.core.batch import LOGITS, OBSERVERS, Commit, Float32, Int32, Span, Step
from fivefold.core.errors import NotFiniteError
from fivefold.core.vocabulary import Vocabulary
from fivefold.engine.selecting import Evicted

ANSWER_TOKENS = 64
Right = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Truth:
    """The greedy answer of the full cache (n tokens, the one that ends it left out).

    logits      (P, V) of the rows that choose a token of the answer, the first one's left out: P is n where
                the answer ended by itself, n - 1 where it was cut.
    importance  (L, H, T) attention of its n rows to the prompt's entries, summed.
    """

    tokens: tuple[int, ...]
    ended: bool
    logits: Float32
    importance: Float32

    @property
    def following(self) -> Int64:
        """(P,) the likeliest token of each of these rows."""
        found: Int64 = self.logits.argmax(axis=1)
        return found


@dataclass(frozen=True, slots=True)
class Fed:
    """An evicted cache that was fed the answer: mean KL in nats, share of rows with the same likeliest token,
    and whether its own answer is right (None: nobody asked)."""

    kl: float
    agreement: float
    right: bool | None


class Answering:
    """Answers of one model. `evicted` has the runner."""

    def __init__(self, evicted: Evicted, vocabulary: Vocabulary, most: int = ANSWER_TOKENS) -> None:
        self._evicted, self._runner, self._vocabulary, self._most = evicted, evicted.runner, vocabulary, most
        self._ends = frozenset(vocabulary.end_tokens)

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say."""
        return self._vocabulary.decode(tokens)

    def truth(self, sequence: int, length: int, logits: Float32) -> Truth | None:
        """The full cache's answer behind a prompt of `length` tokens; None if it says nothing."""
        first = int(self._checked(logits[None])[0].argmax())
        fork = self._runner.fork(sequence)
        try:
            tokens, ended = self._greedy(fork, length, first)
        finally:
            self._runner.close(fork)
        predicted = len(tokens) if ended else len(tokens) - 1
        if predicted < 1:
            return None
        span = _fed(sequence, tokens, length, predicted)
        rows = np.arange(len(tokens), dtype=np.int32)
        observing = replace(span, row_sets={**span.row_sets, OBSERVERS: rows})
        found = self._checked(self._runner.run(Step((observing,))))
        importance = self._evicted.importance(sequence).copy()
        self._runner.commit([Commit(sequence, rows[:0])])
        return Truth(tuple(tokens), ended, found, importance)

    def fed(self, forks: Sequence[int], length: int, truth: Truth, right: Right | None) -> list[Fed]:
        """What evicted forks make of the answer. They are used up: the caller closes them."""
        group = max(1, self._runner.max_rows // len(truth.tokens))
        found: list[Fed] = []
        for first in range(0, len(forks), group):
            found += self._fed_together(forks[first : first + group], length, truth, right)
        return found

    def _fed_together(
        self, forks: Sequence[int], length: int, truth: Truth, right: Right | None
    ) -> list[Fed]:
        count = len(truth.logits)
        spans = tuple(_fed(fork, truth.tokens, length, count) for fork in forks)
        logits = self._checked(self._runner.run(Step(spans)))
        each = [logits[index * count : (index + 1) * count] for index in range(len(forks))]
        compared, _ = compare(each, truth.logits, truth.following)
        same = [one.firsts == truth.following for one in compared]
        kept = [count if one.all() else int(one.argmin()) + 1 for one in same]
        self._runner.commit(
            [Commit(fork, np.arange(rows, dtype=np.int32)) for fork, rows in zip(forks, kept, strict=True)]
        )
        answers: list[bool | None] = [None] * len(forks)
        if right is not None:
            started = [
                (fork, list(truth.tokens[:rows]), None if one.all() else int(own.firsts[rows - 1]))
                for fork, rows, one, own in zip(forks, kept, same, compared, strict=True)
            ]
            answers = [*self._own(started, length, truth, right)]
        return [
            Fed(float(own.distances.mean()), float(one.mean()), answer)
            for own, one, answer in zip(compared, same, answers, strict=True)
        ]

    def _own(
        self, started: Sequence[tuple[int, list[int], int | None]], length: int, truth: Truth, right: Right
    ) -> list[bool]:
        """Whether each fork's answer is right: it has some tokens and the next one; None: it is the truth."""
        results = [
            right(self.text(truth.tokens if following is None else begun)) for _, begun, following in started
        ]
        going = {
            index: following
            for index, (_, _, following) in enumerate(started)
            if following is not None and not results[index]
        }
        while going:
            going = {index: token for index, token in going.items() if token not in self._ends}
            for index, token in going.items():
                begun = started[index][1]
                begun.append(token)
                results[index] = right(self.text(begun))
            going = {
                index: token
                for index, token in going.items()
                if not results[index] and len(started[index][1]) < self._most
            }
            places = {
                started[index][0]: (token, len(started[index][1]) - 1) for index, token in going.items()
            }
            following = self._next(places, length)
            going = dict(zip(going, following, strict=True))
        return results

    def _greedy(self, fork: int, length: int, first: int) -> tuple[list[int], bool]:
        """The answer's tokens, and whether it ended by itself."""
        tokens: list[int] = []
        token = first
        while token not in self._ends:
            tokens.append(token)
            if len(tokens) == self._most:
                return tokens, False
            (token,) = self._next({fork: (token, len(tokens) - 1)}, length)
        return tokens, True

    def _next(self, places: dict[int, tuple[int, int]], length: int) -> list[int]:
        """The likeliest token of each sequence behind a token of its answer, given with its place in that."""
        if not places:
            return []
        spans = tuple(
            Span.causal(sequence, np.array([token], np.int32), length + place)
            for sequence, (token, place) in places.items()
        )
        logits = self._checked(self._runner.run(Step(spans), copy=False))
        found = [int(row.argmax()) for row in logits]
        self._runner.commit([Commit(span.sequence, np.zeros(1, np.int32)) for span in spans])
        return found

    def _checked(self, logits: Float32) -> Float32:
        """Logits of tokens that there are; NotFiniteError if one is NaN or infinite."""
        own = logits[:, : self._vocabulary.size]
        if not np.isfinite(own).all():
            raise NotFiniteError("the logits are not finite")
        return own


def _fed(sequence: int, tokens: Sequence[int], length: int, predicted: int) -> Span:
    """The answer's rows behind a prompt, with the logits of the first `predicted`."""
    ids: Int32 = np.array(tokens, np.int32)
    span = Span.causal(sequence, ids, length, np.arange(predicted, dtype=np.int32))
    assert LOGITS in span.row_sets
    return span
