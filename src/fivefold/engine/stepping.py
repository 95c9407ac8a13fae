"""One step: the rows of the running requests, run together, and every decoder's decision.

Writers are asked for their rows first, then the prompts for theirs, under the pace's budget. Writers that
can use more rows than one, for guesses, are given as many as pay by the measured seconds of steps. When the
cache has no page for a row, guesses give way first; then the request that came last is preempted and the
step goes on without it. After a step a model's drafter, if it has one, guesses for those who want it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from fivefold.cache import OutOfPagesError
from fivefold.core.batch import LOGITS, Float32, Span, Step
from fivefold.core.decoder import Decision
from fivefold.core.errors import FivefoldError
from fivefold.core.request import TokenEvent
from fivefold.core.runner import Runner

from .admission import Admission
from .figures import EngineOptions, Totals
from .guessing import Guesswork
from .pace import Pace
from .schedule import shares
from .task import Task

_LOG = logging.getLogger("fivefold.engine")
_FAULT = "the request failed by a fault of its decoder"


@dataclass(slots=True)
class Outcome:
    """What a step brought: events in the order of its spans, and requests that failed on their own."""

    events: list[tuple[Task, TokenEvent]] = field(default_factory=list)
    failed: list[tuple[Task, FivefoldError]] = field(default_factory=list)


class Stepping:
    """Steps of one engine. After an exception the cache holds nothing certain of the running requests."""

    def __init__(
        self,
        runner: Runner,
        width: int,
        admission: Admission,
        options: EngineOptions,
        totals: Totals,
        clock: Callable[[], float],
    ) -> None:
        """`width`: the tokens there are; a model may have more logits than that, to fill its last tile."""
        self._runner = runner
        self._width = width
        self._admission = admission
        self._share_prefixes = options.prefix_cache
        self._pace = Pace(options.stretch)
        self._totals = totals
        self._clock = clock
        self._reading = 0
        self.guesswork = Guesswork(runner, clock)

    def step(self) -> Outcome:
        """Run one step of the running requests, if there are any."""
        if not self._admission.running:
            return Outcome()
        began = self._clock()
        proposed, logits = self._run()
        reading = sum(len(span.tokens) for task, span in proposed if task.reading)
        outcome, decided = self._decide(proposed, logits)
        self._runner.commit([decision.commit for _, decision in decided])
        going_on: list[Task] = []
        for task, decision in decided:
            self._publish(task)
            self._settle(task)
            event = task.event(decision)
            if event is None or event.finish_reason is None:
                going_on.append(task)
            if event is not None:
                self._totals.output_tokens += len(event.tokens)
                self._totals.guessed(decision.guessed, min(decision.accepted, len(event.tokens)))
                outcome.events.append((task, event))
        rows = sum(len(span.tokens) for _, span in proposed)
        tokens = sum(len(decision.tokens) for _, decision in decided)
        self._note(rows, reading, self._clock() - began, (len(proposed), tokens))
        self.guesswork.draft(going_on)
        return outcome

    def _run(self) -> tuple[list[tuple[Task, Span]], Float32]:
        """The spans and their logits."""
        extra = self._runner.max_rows
        proposed, given = self._propose(extra)
        while True:
            try:
                step = Step(tuple(span for _, span in proposed))
                return proposed, self._runner.run(step, copy=False)
            except OutOfPagesError:
                if given:
                    extra = given // 2
                    proposed, given = self._propose(extra)
                    continue
                if len(self._admission.running) == 1:
                    raise
                victim = self._admission.preempt_last()
                proposed = [(task, span) for task, span in proposed if task is not victim]
                if not proposed:
                    proposed, given = self._propose(extra)

    def _propose(self, extra: int) -> tuple[list[tuple[Task, Span]], int]:
        """The spans of the next step: writers, then shares of prompts; and the rows given to guesses, at most
        `extra`.
        """
        running = self._admission.running
        writers = [task for task in running if not task.reading]
        readers = [task for task in running if task.reading]
        most = left = self._runner.max_rows
        reading = min(self._reading, sum(task.backlog for task in readers))
        given = self.guesswork.rows(writers, reading, min(extra, most - len(writers)))
        proposed: list[tuple[Task, Span]] = []
        for place, task in enumerate(writers):
            guesses = given[place]
            share = max(left // (len(writers) - place), min(task.decoder.least_rows, left))
            span = task.decoder.propose(share if guesses is None else min(1 + guesses, left))
            if span is not None:
                proposed.append((task, span))
                left -= len(span.tokens)
        crowd = len(readers) / max(len(writers), 1)
        budget = min(left, self._pace.reading_rows(most - left, left, crowd))
        for index, rows in shares([task.backlog for task in readers], budget).items():
            decoder = readers[index].decoder
            span = decoder.propose(min(max(rows, decoder.least_rows), left)) if left else None
            if span is not None:
                proposed.append((readers[index], span))
                left -= len(span.tokens)
        if not proposed:
            raise FivefoldError("no decoder can use the rows of a step", remedy="raise max_rows")
        return proposed, sum(count or 0 for count in given)

    def _decide(
        self, proposed: list[tuple[Task, Span]], logits: Float32
    ) -> tuple[Outcome, list[tuple[Task, Decision]]]:
        """Every decoder's decision on its own rows of the logits."""
        outcome = Outcome()
        decided: list[tuple[Task, Decision]] = []
        first = 0
        for task, span in proposed:
            last = first + len(span.row_sets.get(LOGITS, ()))
            try:
                decided.append((task, task.decoder.decide(logits[first:last, : self._width])))
            except FivefoldError as error:
                outcome.failed.append((task, error))
            except Exception:  # of all requests of the step only this one is in doubt
                _LOG.exception("a decoder failed")
                outcome.failed.append((task, FivefoldError(_FAULT, remedy="the engine's log says more")))
            first = last
        return outcome, decided

    def _settle(self, task: Task) -> None:
        """Let it evict; a request for which there is no page to move entries into begins anew."""
        try:
            gone = task.settle()
        except OutOfPagesError:
            if len(self._admission.running) == 1:
                raise
            self._admission.preempt(task)
            return
        self._totals.evictions += gone > 0
        self._totals.evicted_entries += gone

    def _publish(self, task: Task) -> None:
        """Offer the pages that have become whole to others."""
        if not self._share_prefixes:
            return
        count = task.newly_whole()
        if count is not None:
            self._runner.publish(task.sequence, task.decoder.tokens[:count], task.request.salt)

    def _note(self, rows: int, reading: int, seconds: float, wrote: tuple[int, int]) -> None:
        """A step of so many rows, of which so many read prompts, has taken `seconds`; `wrote`: its requests,
        and the tokens that came."""
        writers, tokens = wrote
        self._pace.observe(rows - reading, reading, seconds)
        self._reading = reading
        if reading == 0:
            self.guesswork.costs.observe(rows, seconds)
            self.guesswork.wrote(writers, tokens, seconds)
        self._totals.steps += 1
        self._totals.last_step_rows = rows
        self._totals.last_step_seconds = seconds
