"""Steps between a prompt and its eviction: a draft of the answer, or the prompt once more.

A draft is written on a fork that was evicted by another policy, and then its tokens observe on the full
cache. A repetition runs behind the prompt, part by part, each part seeing the prompt and itself. Neither
leaves anything in the request's own cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fivefold.core.batch import PEAK_OBSERVERS, Commit, Float32, Int32, Span

from .observing import Observed, with_observers
from .selecting import Evicted

_NOTHING: Int32 = np.zeros(0, np.int32)


class Probing:
    """Spans that are run one after the other; those that observe are not kept."""

    def __init__(self, evicted: Evicted, sequence: int, spans: Sequence[Span]) -> None:
        """`spans` are those that observe, of `sequence`."""
        self._evicted = evicted
        self._sequence = sequence
        self._left = list(spans)

    @property
    def finished(self) -> bool:
        """Whether all of it has run."""
        return not self._left

    @property
    def rows(self) -> int:
        """Rows that the next span has."""
        return len(self._left[0].tokens) if self._left else 1

    def propose(self, limit: int) -> Span | None:
        """The next span; None if it has more rows than the limit."""
        return self._left[0] if len(self._left[0].tokens) <= limit else None

    def decide(self, logits: Float32) -> Commit:
        """Nothing stays."""
        return Commit(self._sequence, _NOTHING)

    def settle(self, seen: Observed) -> None:
        """What the span that ran has found."""
        span = self._left.pop(0)
        seen.add(self._evicted.importance(self._sequence), int(span.positions[0]))

    def drop(self) -> None:
        """Give up what it holds."""


class Drafting(Probing):
    """A draft of so many tokens, written greedily on a fork, which then observes."""

    def __init__(
        self, evicted: Evicted, sequences: tuple[int, int], start: int, draft: tuple[int, int]
    ) -> None:
        """`sequences`: the request's and the fork; `draft`: the first token, and how many there shall be."""
        super().__init__(evicted, sequences[0], ())
        self._fork: int | None = sequences[1]
        self._start = start
        self._tokens, self._wanted = [draft[0]], draft[1]
        self._observing = False

    @property
    def finished(self) -> bool:
        """Whether the draft has observed."""
        return self._observing and not self._left

    @property
    def rows(self) -> int:
        """One while it is written, then all of its tokens."""
        return self._wanted if self._fork is None else 1

    def propose(self, limit: int) -> Span | None:
        """The next token of the draft, or all of them to observe."""
        count = len(self._tokens)
        if count < self._wanted:
            token = np.array(self._tokens[-1:], np.int32)
            assert self._fork is not None
            return Span.causal(self._fork, token, self._start + count - 1) if limit else None
        if not self._left:
            self.drop()
            tokens = np.array(self._tokens, np.int32)
            self._left = [with_observers(Span.causal(self._sequence, tokens, self._start, _NOTHING))]
            self._observing = True
        return super().propose(limit)

    def decide(self, logits: Float32) -> Commit:
        """A token of the draft stays in the fork."""
        if self._observing:
            return super().decide(logits)
        self._tokens.append(int(logits[0].argmax()))
        assert self._fork is not None
        return Commit(self._fork, np.zeros(1, np.int32))

    def settle(self, seen: Observed) -> None:
        """What the draft has found, when it has observed."""
        if self._observing:
            super().settle(seen)

    def drop(self) -> None:
        """Close the fork."""
        if self._fork is not None:
            self._evicted.runner.close(self._fork)
            self._fork = None


def repeating(evicted: Evicted, sequence: int, tokens: Int32, chunk: int) -> Probing:
    """The prompt's tokens once more, so many at a time, each part behind the prompt.

    A part is at most half of a step, so that it finds room beside those who write.
    """
    size = max(min(chunk, evicted.runner.max_rows // 2), 1)
    spans = []
    for first in range(0, len(tokens), size):
        span = Span.causal(sequence, tokens[first : first + size], len(tokens), _NOTHING)
        spans.append(with_observers(span, PEAK_OBSERVERS))
    return Probing(evicted, sequence, spans)
