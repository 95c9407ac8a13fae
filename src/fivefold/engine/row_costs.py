"""The seconds of a step by its number of rows, learned while running.

A step that writes is bound by reading the weights, so a second row in it costs little; how little depends
on the machine, the model, its formats and the kernels' tiles. What is wanted is the form of that curve:
what a step of eight rows takes, measured by one of two. Steps also become slower with depth, or when
somebody else uses the machine, and that holds for all numbers of rows alike. So the two are kept apart: a
scale, the median of the newest steps, and for each number of rows a factor on a straight line, corrected
slowly by every step of that number. Between numbers that were measured factors are interpolated; one that
has not been measured for long goes back to the line.

One slow step changes nothing much: the median does not see it, and the factor counts it as twice what was
expected. Nothing here changes any result, only its time.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from statistics import median

ROW = 0.15
"""Of the line: what one more row adds, where a step of one row is 1."""

MOST_ROWS = 64
"""Steps with more rows are not measured: prompts are read there."""

STEPS = 7
"""Newest steps of which the scale is the median."""

OLD = 64
"""After so many steps a number of rows should be measured again."""

_FRESH = 16
"""Steps after which all factors are computed anew; in between those are that a step has moved."""

_WEIGHT = 0.15
_OUTLIER = 2.0
_FORGOTTEN = 0.998


class RowCosts:
    """Seconds of steps by rows; one for each thing that runs rows."""

    def __init__(self) -> None:
        self._scales: deque[float] = deque(maxlen=STEPS)
        self._scale = 0.0
        self._factors: dict[int, float] = {}
        self._measured: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self._last = 1.0
        self._known: list[int] = []
        self._steps = 0
        self._asked: dict[int, float] = {}  # over one row, of what was asked for

    def observe(self, rows: int, seconds: float) -> None:
        """Note a step of so many rows."""
        if not 1 <= rows <= MOST_ROWS or seconds <= 0.0:
            return
        self._steps += 1
        relative = self._relative(rows)
        if rows not in self._factors:
            bisect.insort(self._known, rows)
        expected = (self._scale or seconds / relative) * relative
        error = min(max(seconds / expected, 1 / _OUTLIER), _OUTLIER)
        self._counts[rows] = self._counts.get(rows, 1) + 1
        weight = max(1 / self._counts[rows], _WEIGHT)
        self._last = self._factors[rows] = relative / _line(rows) * error**weight
        self._measured[rows] = self._steps
        self._scales.append(seconds / relative)
        self._scale = median(self._scales)
        self._forget_around(rows)

    def seconds(self, rows: int) -> float:
        """What a step of so many rows would take; 0 before anything was measured."""
        relative = self._asked.get(rows)
        if relative is None:
            relative = self._asked[rows] = self._relative(rows)
        return self._scale * relative

    @property
    def measured(self) -> bool:
        """Whether anything was."""
        return self._steps > 0

    def is_old(self, rows: int) -> bool:
        """Whether a step of exactly so many rows was not measured for long, or never."""
        return self._steps - self._measured.get(rows, -OLD) >= OLD

    def table(self) -> dict[int, float]:
        """Seconds for each number of rows that was measured."""
        return {rows: self.seconds(rows) for rows in self._known}

    def _forget_around(self, rows: int) -> None:
        """Compute anew what lies between the neighbours of a number that was measured; at times, all."""
        if self._steps % _FRESH == 0 or len(self._known) == 1:
            self._asked.clear()
            return
        place = bisect.bisect_left(self._known, rows)
        low = self._known[place - 1] if place else 0
        high = self._known[place + 1] if place + 1 < len(self._known) else math.inf
        for number in [number for number in self._asked if low < number < high]:
            del self._asked[number]

    def _relative(self, rows: int) -> float:
        """Seconds by those of one row on the line."""
        if not self._known:
            return _line(rows)
        after = bisect.bisect_left(self._known, rows)
        high = self._known[min(after, len(self._known) - 1)]
        low = self._known[max(after - 1, 0)] if high > rows else high
        share = 0.0 if high == low else (rows - low) / (high - low)
        factor = (1.0 - share) * self._factor(low) + share * self._factor(high)
        return factor * _line(rows)

    def _factor(self, rows: int) -> float:
        """The factor of a number that was measured, on its way since then to that of the last one."""
        age = self._steps - self._measured[rows] - OLD
        if age <= 0:
            return self._factors[rows]
        return float(self._last * (self._factors[rows] / self._last) ** (_FORGOTTEN**age))


def _line(rows: int) -> float:
    return 1.0 + ROW * (rows - 1)
