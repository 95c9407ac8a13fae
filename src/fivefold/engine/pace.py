"""How many rows of prompts a step may carry beside sequences that are writing.

Whoever reads an answer sees the gaps between its tokens, and each row of a prompt in the same step makes the
gap longer. A step that only writes is bound by memory, so some rows are nearly free; how many, depends on
the machine, the model and the depth. So it is measured while running: the time of steps that only write,
by their rows, and what each row of a prompt has added. Nothing here changes any result, only its time.

Where more requests read than write, most people wait for a first token, so the bound grows with their number.

The bound follows the idea of chunked prefill in Sarathi-Serve (arXiv 2403.02310), with a time in place of
its fixed budget of tokens.
"""

from __future__ import annotations

STRETCH = 1.75
"""A step with prompts beside writers may take this many times what the writers alone take."""

FIRST_GUESS = 32
"""Rows before anything has been measured."""

LEAST_ROWS = 2

_WEIGHT = 0.25
"""Of the newest measurement in a moving mean."""


class Pace:
    """Moving means of step times; one for each engine."""

    def __init__(self, stretch: float = STRETCH) -> None:
        self._stretch = stretch
        self._writing: dict[int, float] = {}
        self._row: float | None = None

    def observe(self, writing: int, reading: int, seconds: float) -> None:
        """Note a step of `writing` rows of writers and `reading` rows of prompts that took `seconds`."""
        if reading == 0:
            size = _size(writing)
            self._writing[size] = _mean(self._writing.get(size), seconds)
            return
        alone = self._alone(writing) if writing else 0.0
        if alone is not None:
            self._row = _mean(self._row, max(seconds - alone, 0.0) / reading)

    def reading_rows(self, writing: int, most: int, crowd: float = 1.0) -> int:
        """Rows of prompts that the next step may carry beside `writing` rows of writers.

        `crowd`: how many read for each that writes.
        """
        if writing == 0:
            return most
        alone = self._alone(writing)
        if alone is None or not self._row:
            return min(FIRST_GUESS, most)
        rows = int((self._stretch * max(crowd, 1.0) - 1.0) * alone / self._row)
        return max(min(rows, most), min(LEAST_ROWS, most))

    def _alone(self, writing: int) -> float | None:
        """Seconds of a step of so many writers, by the nearest size that was measured."""
        if not self._writing:
            return None
        wanted = _size(writing)
        return self._writing[min(self._writing, key=lambda size: abs(size - wanted))]


def _size(rows: int) -> int:
    """Steps of similar numbers of rows are counted together: powers of two."""
    return rows.bit_length()


def _mean(before: float | None, now: float) -> float:
    return now if before is None else before + _WEIGHT * (now - before)
