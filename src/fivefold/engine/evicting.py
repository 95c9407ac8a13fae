"""A request whose entries are evicted: its decoder, held back where something is to be evicted.

To the engine it is one more decoder. At some points (behind the prompt, and behind every so many tokens of
the answer) rows observe: the last ones before the point, in spans of their own, or learned rows that are
appended and never kept. When such a step is committed, the policy chooses and the cache evicts. Where a
policy wants more steps, for a draft or for a repetition of the prompt, they come between, and the decoder
waits.
What the decoder sees does not change: its tokens are the same rows in the same order. Guesses are let through
as far as nothing observes, for rows that observe are rows that stay.

Points and observing rows depend on the request alone. So a request that begins anew after it was preempted
evicts the same entries again and writes the same text. (Where all rows of a prompt observe, their sum
depends on how the prompt was cut, in the last bits.)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fivefold.cache.eviction import Budget, Draft, LearnedRows, Observation, Policy, Repetition, policy_named
from fivefold.core.batch import Float32, Span
from fivefold.core.decoder import Decision, Decoder, Guessing, Likely
from fivefold.core.lookahead import LookaheadModule

from .observing import Observed, with_learned_rows, with_observers
from .probes import Drafting, Probing, repeating
from .selecting import Evicted


@dataclass(frozen=True, slots=True)
class Eviction:
    """How the entries of one request are evicted.

    every  tokens of the answer after which it is done again; 0: only behind the prompt.
    """

    policy: Policy
    budget: Budget
    every: int = 0
    module: LookaheadModule | None = None


class EvictingDecoder:
    """A decoder of one sequence whose entries are evicted. See `core.decoder.Decoder` for the contract.

    `settle` is to be called when a step with its rows is committed, and `drop` when its sequence is given up.
    `kept` are the entries of each layer and KV head after the last eviction (their mean, where heads keep
    different numbers); None before the first.
    """

    def __init__(
        self, inner: Decoder, sequence: int, points: tuple[int, int], eviction: Eviction, evicted: Evicted
    ) -> None:
        """`points`: the prompt's tokens, and the position behind which something is evicted first."""
        prompt, first = points
        self._inner = inner
        self._guessing = inner if isinstance(inner, Guessing) else None
        self._sequence = sequence
        self._begin = first
        self._eviction = eviction
        self._evicted = evicted
        self._kept = eviction.budget.resolve(prompt)
        self._probing: Probing | None = None
        self._logits: Float32 | None = None
        self._likeliest: dict[int, int] = {}  # the token behind a point of eviction, where drafts begin
        self._done = False
        self.kept: int | None = None
        self._start(first)
        parts = [a - b for a, b in zip((*self._cuts[1:], first), self._cuts, strict=True)]
        together = 1 if self._in_parts else max(1, *parts)
        learned = 0 if self._module is None else self._module.rows
        drafted = self._observation.probe.tokens if isinstance(self._observation.probe, Draft) else 0
        self._least = max(inner.least_rows, together + learned, drafted)

    @property
    def tokens(self) -> Sequence[int]:
        """The decoder's own."""
        return self._inner.tokens

    @property
    def committed(self) -> int:
        """The decoder's own: positions, not slots."""
        return self._inner.committed

    @property
    def least_rows(self) -> int:
        """Rows that observe together, or the rows of a probe."""
        return self._least if self._probing is None else max(self._least, self._probing.rows)

    @property
    def worth(self) -> Sequence[float]:
        """The decoder's own, up to the next place where something observes."""
        free = self._free()
        return self._guessing.worth[: free - 1] if self._guessing is not None and free > 1 else ()

    @property
    def hoped(self) -> Sequence[float]:
        """The decoder's own, up to there."""
        free = self._free()
        return self._guessing.hoped[: free - 1] if self._guessing is not None and free > 1 else ()

    @property
    def wanted(self) -> int:
        """As many as it hopes for."""
        return len(self.hoped)

    def offer(self, guesses: Sequence[Likely]) -> None:
        """For the decoder."""
        if self._guessing is not None:
            self._guessing.offer(guesses)

    def _free(self) -> int:
        """Rows from the next one on of which none observes, and none is the last before a point."""
        if self._probing is not None:
            return 0
        if self._point is None:
            return sys.maxsize
        return min(self._cuts[0], self._point - 1) - self._inner.committed

    def resume(self, cached: int) -> int:
        """Build on what is cached, but for rows that are to observe, and for one before the first eviction at
        least: it is the step of that row which is followed by it."""
        self.drop()
        self.kept = None
        self._start(self._begin)
        return self._inner.resume(min(cached, self._cuts[0], self._begin - 1))

    def propose(self, limit: int) -> Span | None:
        """The decoder's rows up to the next place where something observes, or those of a probe."""
        if self._probing is not None:
            return self._probing.propose(limit)
        if self._point is None:
            return self._inner.propose(limit)
        self._first = self._inner.committed
        rows, module = self._next_rows(self._point, limit)
        span = self._inner.propose(rows) if rows else None
        if span is None:
            return None
        watched = self._first >= self._cuts[0] and self._first < self._point and bool(self._windows)
        self._observing = watched or module is not None
        if watched:
            span = with_observers(span)
        return span if module is None else with_learned_rows(span, module)

    def _next_rows(self, point: int, limit: int) -> tuple[int, LookaheadModule | None]:
        """How many rows of the decoder's are next, 0 if the limit is too low, and what stands behind them.

        Rows that observe together are in one span, so that their sum does not depend on how a prompt is cut.
        """
        stop = next(cut for cut in (*self._cuts, point) if cut > self._first)
        module = self._module if stop == point else None
        more = 0 if module is None else module.rows
        known, room = len(self._inner.tokens) - self._first, stop - self._first
        if known < room:
            return min(max(known, self._free() if known == 1 else 0), limit), None
        if room + more <= limit:
            return room, module
        if self._windows and self._first >= self._cuts[0] and not self._in_parts:
            return 0, None
        return min(limit, room - (1 if more else 0)), None

    def decide(self, logits: Float32) -> Decision:
        """The decoder's decision, or that of a probe, which has no tokens."""
        if self._probing is not None:
            return Decision(self._probing.decide(logits))
        decision = self._inner.decide(logits)
        self._logits, self._done = logits, decision.done is not None
        return decision

    def settle(self) -> int:
        """The rows are committed: take what was observed, and evict where that is due.

        How many entries each layer and KV head has given up. OutOfPagesError if entries cannot be moved; then
        the request has to begin anew.
        """
        if self._done or self._point is None:
            return 0
        if self._probing is not None:
            self._probing.settle(self._seen)
            if not self._probing.finished:
                return 0
            self._probing = None
            return self._evict(self._point)
        if self._observing:
            self._observing = False
            first = self._point if self._module is not None else self._first
            self._seen.add(self._evicted.importance(self._sequence), first)
        if self._inner.committed < self._point:
            return 0
        self._probing = self._probe(self._point)
        return self._evict(self._point) if self._probing is None else 0

    def drop(self) -> None:
        """Give up what a probe holds."""
        if self._probing is not None:
            self._probing.drop()
            self._probing = None

    def _start(self, point: int | None) -> None:
        """Everything that belongs to the next point of eviction; None: there is no more."""
        self._point = point
        if point is None:
            return
        observation = self._observation = self._eviction.policy.observation(point)
        self._module = self._eviction.module if isinstance(observation.probe, LearnedRows) else None
        self._windows = _windows(observation, point)
        self._in_parts = any(size >= point for size in self._windows)
        self._cuts = [max(point - size, 0) for size in self._windows] or [point]
        self._observing = False
        self._first = 0
        self._seen = Observed(point, self._windows, observation.reduce)

    def _probe(self, point: int) -> Probing | None:
        """The steps that a policy wants beside the prompt's own."""
        probe = self._observation.probe
        if isinstance(probe, Draft):
            return self._draft(probe, point)
        if isinstance(probe, Repetition):
            tokens = np.array(self._inner.tokens[:point], np.int32)
            return repeating(self._evicted, self._sequence, tokens, probe.chunk)
        return None

    def _draft(self, probe: Draft, point: int) -> Probing:
        """The fork that a draft is written on, evicted by the draft's own policy."""
        assert self._logits is not None
        if len(self._logits):  # none of a text that is read again: its next token is known
            self._likeliest[point] = int(self._logits[0].argmax())
        by = policy_named(probe.by)
        seen = self._seen.window(by.observation(point).window)
        fork = self._evicted.runner.fork(self._sequence)
        try:
            self._evicted.evict(fork, by, seen, self._kept)
        except BaseException:
            self._evicted.runner.close(fork)
            raise
        draft = (self._likeliest[point], probe.tokens)
        return Drafting(self._evicted, (self._sequence, fork), point, draft)

    def _evict(self, point: int) -> int:
        seen = self._seen.window(self._observation.window)
        gone = self._evicted.evict(self._sequence, self._eviction.policy, seen, self._kept)
        self.kept = self._kept
        every = self._eviction.every
        self._start(point + every if every else None)
        return gone


def _windows(observation: Observation, point: int) -> tuple[int, ...]:
    """Numbers of last rows that observe, each for a purpose of its own: the policy's, and its draft's."""
    wanted = {observation.window}
    if isinstance(observation.probe, Draft):
        wanted.add(policy_named(observation.probe.by).observation(point).window)
    return tuple(sorted(wanted - {0}, reverse=True))
