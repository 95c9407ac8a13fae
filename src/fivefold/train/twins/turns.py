"""Which records are learned from together, and when: whole records of about one length, in epochs.

A part is as many records as fill so many rows, one record a line, from its position 0 as it is when it is
written later; lines are filled up to the longest of the part, which is little since parts are cut from
records in the order of their lengths. That order, and which part comes when, is drawn anew in each epoch.
Part n is the same whatever came before it, so a run that was stopped goes on with the right one.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fivefold.core.batch import Int32

SPREAD = 6.0
"""Tokens by which a record's place in the order of lengths is moved, at random."""


class Turns:
    """The parts of a run over records of these rows each, `room` rows a part."""

    def __init__(self, rows: Int32, room: int, seed: int) -> None:
        self._rows, self._room, self._seed = rows, max(room, int(rows.max())), seed
        self.epoch = lru_cache(maxsize=2)(self._epoch)
        self._ends = [len(self.epoch(0))]

    def part(self, number: int) -> Int32:
        """The records of part `number`, from 0."""
        while number >= self._ends[-1]:
            self._ends.append(self._ends[-1] + len(self.epoch(len(self._ends))))
        epoch = int(np.searchsorted(self._ends, number, side="right"))
        return self.epoch(epoch)[number - (self._ends[epoch - 1] if epoch else 0)]

    def reaching(self, budget: int) -> int:
        """Parts until so many rows have been run, filling left out."""
        done = parts = 0
        while done < budget:
            done += int(self._rows[self.part(parts)].sum())
            parts += 1
        return parts

    def _epoch(self, epoch: int) -> list[Int32]:
        random = np.random.default_rng([self._seed, epoch])
        order = np.argsort(self._rows + SPREAD * random.standard_normal(len(self._rows)), kind="stable")
        parts: list[Int32] = []
        begun = longest = 0
        for place, rows in enumerate(self._rows[order]):
            longest = max(longest, int(rows))
            if longest * (place + 1 - begun) > self._room:
                parts.append(order[begun:place].astype(np.int32))
                begun, longest = place, int(rows)
        parts.append(order[begun:].astype(np.int32))
        return [parts[place] for place in random.permutation(len(parts))]
