"""Rows for guesses, step by step: how many each writer gets, and when the model's drafter is asked.

Both are weighed by measured seconds: guesses are worth what their decoders say, and a row or a draft
costs what it has cost lately. Nothing here knows what a guess is, or changes which tokens come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fivefold.cache import OutOfPagesError
from fivefold.core.runner import DraftingRunner, Runner

from .extra_rows import LEAST_GAIN, extra_rows
from .row_costs import MOST_ROWS, RowCosts
from .task import Task

SUREST = 0.9
"""A guess is seldom worth more: where rows as good as that would not pay, none is looked for."""


class Guesswork:
    """Rows and drafts for guesses in one engine. `costs` are those of steps that only write."""

    def __init__(self, runner: Runner, clock: Callable[[], float]) -> None:
        self.costs = RowCosts()
        self._draft_costs = RowCosts()
        self._most = runner.max_rows
        self._drafter: DraftingRunner | None = None
        if isinstance(runner, DraftingRunner) and runner.drafting is not None:
            self._drafter = runner
        self._clock = clock

    def rows(self, writers: Sequence[Task], reading: int, room: int) -> list[int | None]:
        """For each writer how many guesses it may run, at most `room` together; None if it has none to run.

        `reading`: rows of prompts that are expected in the same step.
        """
        rows = len(writers) + reading
        room = min(room, _measured_room(rows))
        if all(task.decoder.least_rows == 1 for task in writers) and not self._may_pay(
            len(writers), rows, room
        ):
            return [None if task.guessing is None else 0 for task in writers]
        worth = [_worth(task) for task in writers]
        if not any(worth):
            return [None] * len(writers)
        # What guesses are weighed against must have been measured, or there is nothing to weigh by.
        known = self.costs.measured if reading else not self.costs.is_old(rows)
        given = extra_rows(worth, rows, room, self.costs.seconds)[0] if known else [0] * len(writers)
        return [count if each else None for count, each in zip(given, worth, strict=True)]

    def _may_pay(self, writers: int, rows: int, room: int) -> bool:
        """Whether rows would pay if all were good ones. To ask writers for guesses costs them some time."""
        least = writers / max(self.costs.seconds(rows), 1e-9) * LEAST_GAIN
        return any(
            writers + SUREST * more > least * self.costs.seconds(rows + more) for more in range(1, room + 1)
        )

    def draft(self, running: Sequence[Task]) -> None:
        """Ask the model's drafter for all who want guesses, if these promise more than they cost."""
        if self._drafter is None:
            return
        writers = [task for task in running if not task.reading]
        room = min(self._most - len(writers), _measured_room(len(writers)))
        if not writers or not self._may_pay(len(writers), len(writers), room):
            return
        hoped = [() if task.guessing is None else task.guessing.hoped for task in writers]
        asking = [(task, len(each)) for task, each in zip(writers, hoped, strict=True) if each]
        rows = sum(count + 1 for _, count in asking)
        if not asking or not self._pays(writers, hoped, rows, room):
            return
        began = self._clock()
        try:
            drafts = self._drafter.draft(
                [(task.sequence, task.decoder.tokens[-1], count) for task, count in asking]
            )
        except OutOfPagesError:
            return
        self._draft_costs.observe(rows, self._clock() - began)
        for (task, _), guesses in zip(asking, drafts, strict=True):
            assert task.guessing is not None
            task.guessing.offer(guesses)

    def _pays(self, writers: Sequence[Task], hoped: Sequence[Sequence[float]], rows: int, room: int) -> bool:
        """Whether the tokens of a second rise by a draft of so many rows; yes, until one was measured."""
        if self._draft_costs.is_old(rows):
            return True
        more = self._draft_costs.seconds(rows)
        have = [_worth(task) for task in writers]
        then = [new or old for new, old in zip(hoped, have, strict=True)]
        _, without = extra_rows(have, len(writers), room, self.costs.seconds)
        _, drafted = extra_rows(then, len(writers), room, lambda count: self.costs.seconds(count) + more)
        return drafted > without


def _measured_room(rows: int) -> int:
    """Further rows of a step of so many; beyond that no step is measured."""
    return max(MOST_ROWS - rows, 0)


def _worth(task: Task) -> Sequence[float]:
    return () if task.guessing is None else task.guessing.worth
