"""Rows for guesses, step by step: how many each writer gets, and when the model's drafter is asked.

Both are weighed by measured seconds: guesses are worth what their decoders say, and a row or a draft
costs what it has cost lately. Nothing here knows what a guess is, or changes which tokens come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fivefold.cache import OutOfPagesError
from fivefold.core.runner import DraftingRunner, Runner

from .draft_gain import DraftGain
from .extra_rows import LEAST_GAIN, extra_rows
from .row_costs import MOST_ROWS, RowCosts
from .task import Task

SUREST = 0.9
"""A guess is seldom worth more: where rows as good as that would not pay, none is looked for."""

SELDOM = 32
"""Where looking for guesses takes more time than they save, it is done once in so many steps."""

LOOKING = 1e-4
"""Seconds that a writer takes to look for guesses, about."""

PATIENCE = 1e-3
"""Seconds that looking in vain may have taken lately, or a fiftieth of a step if that is more. One who writes
alone never comes to that."""

_FIFTIETH = 0.02

_LATELY = 0.9


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
        self._saved = 0.0
        self._left_out = 0
        self._undrafted = 0
        self._gains: dict[int, DraftGain] = {}  # by the binary digits of the number of writers
        self._decided: DraftGain | None = None  # whether there were drafts before the step that comes
        self._drafting = 0.0

    def rows(self, writers: Sequence[Task], reading: int, room: int) -> list[int | None]:
        """For each writer how many guesses it may run, at most `room` together; None if it has none to run.

        `reading`: rows of prompts that are expected in the same step.
        """
        rows = len(writers) + reading
        room = min(room, _measured_room(rows))
        if all(task.decoder.least_rows == 1 for task in writers) and not (
            self._may_pay(len(writers), rows, room) and self._worth_looking(rows)
        ):
            return [None if task.guessing is None else 0 for task in writers]
        worth = [_worth(task) for task in writers]
        if not any(worth):
            return [None] * len(writers)
        # What guesses are weighed against must have been measured, or there is nothing to weigh by.
        known = self.costs.measured if reading else not self.costs.is_old(rows)
        given = [0] * len(writers)
        if known:
            given, rate = extra_rows(worth, rows, room, self.costs.seconds)
            self._note(len(writers), rate, rows, rows + sum(given))
        return [count if each else None for count, each in zip(given, worth, strict=True)]

    def _worth_looking(self, rows: int) -> bool:
        """Whether guesses have lately saved more than looking for them took, or none was looked for long."""
        patience = max(PATIENCE, _FIFTIETH * self.costs.seconds(rows))
        self._left_out = 0 if self._saved >= -patience or self._left_out >= SELDOM else self._left_out + 1
        return not self._left_out

    def _note(self, writers: int, rate: float, rows: int, more: int) -> None:
        """Take what guesses should save at `rate` tokens a second, with `more` rows in place of so many; and
        what it takes to find them."""
        plain = writers / max(self.costs.seconds(rows), 1e-9)
        gain = self.costs.seconds(more) * max(rate / plain - 1.0, 0.0)
        self._saved = _LATELY * self._saved + gain - LOOKING * writers

    def _may_pay(self, writers: int, rows: int, room: int) -> bool:
        """Whether rows would pay if all were good ones. To ask writers for guesses costs them some time."""
        least = writers / max(self.costs.seconds(rows), 1e-9) * LEAST_GAIN
        return any(
            writers + SUREST * more > least * self.costs.seconds(rows + more) for more in range(1, room + 1)
        )

    def wrote(self, writers: int, tokens: int, seconds: float) -> None:
        """A step of so many writers alone has brought so many tokens and taken so long, drafts after it left
        out."""
        if self._decided is not None:
            self._decided.note(writers, tokens, seconds + self._drafting)

    def draft(self, running: Sequence[Task]) -> None:
        """Ask the model's drafter for all who want guesses, if these promise more than they cost, and drafts
        have lately made writers faster."""
        if self._drafter is None:
            return
        began = self._clock()
        writers = [task for task in running if not task.reading]
        if writers:
            self._decided = gain = self._gains.setdefault(len(writers).bit_length(), DraftGain())
            if gain.wanted:
                self._offer(self._drafter, writers, gain)
        self._drafting = self._clock() - began

    def _offer(self, drafter: DraftingRunner, writers: Sequence[Task], gain: DraftGain) -> None:
        """Drafts for all who want them, if these promise more than they cost."""
        room = min(self._most - len(writers), _measured_room(len(writers)))
        if not self._may_pay(len(writers), len(writers), room):
            return
        hoped = [() if task.guessing is None else task.guessing.hoped for task in writers]
        asking = [(task, len(each)) for task, each in zip(writers, hoped, strict=True) if each]
        rows = sum(count + 1 for _, count in asking)
        if not asking or not (self._pays(writers, hoped, rows, room) or self._in_doubt()):
            return
        self._undrafted = 0
        began = self._clock()
        try:
            drafts = drafter.draft(
                [(task.sequence, task.decoder.tokens[-1], count) for task, count in asking]
            )
        except OutOfPagesError:
            return
        if not any(drafts):
            return
        self._draft_costs.observe(rows, self._clock() - began)
        gain.drafts += 1
        for (task, _), guesses in zip(asking, drafts, strict=True):
            if guesses:  # else there was no room for any, which says nothing of their worth
                assert task.guessing is not None
                task.guessing.offer(guesses)

    def _in_doubt(self) -> bool:
        """Whether no draft was worth its cost for so long that one is made to see."""
        self._undrafted += 1
        return self._undrafted > SELDOM

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
