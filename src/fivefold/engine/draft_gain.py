"""Whether drafts of a side drafter make writers faster, found by leaving them out at times.

What a draft costs is more than its own seconds: it moves weights through the caches that the next step would
have found there, and so does what looks after it. That is seen only in tokens a second, of steps with drafts
and of steps without. The machine may be slow or fast by turns, so what is compared are parts of the work that
follow each other. Nothing here changes any token, only when they come.
"""

from __future__ import annotations

import math

PART, LEAST = 24, 6
"""Rows of writers of one part, and its steps at least."""

FIRST, CYCLE, SELDOM = 2, 8, 32
"""Of so many parts the last is done the other way: as long as little is known, then, and where one way is
clearly faster."""

SOME, KNOWN, CLEAR = 2, 4, 0.1
"""Comparisons from which on a gain can be clear, and from which on something is known; and a gain, of either
sign, that is clear."""

ALIKE = 1.3
"""Numbers of writers within this factor are compared, by the tokens of one."""

_WEIGHT = 0.25
_BEGIN = 0.01


class DraftGain:
    """`wanted`: whether drafts are to be made now. `drafts` counts those of this part: one in which none was
    worth making is as one without, and says nothing."""

    def __init__(self) -> None:
        self.wanted = True
        self.gain = _BEGIN  # the logarithm of tokens a second with drafts over those without
        self._part = self._compared = 0
        self._before = 0.0
        self._writers = 1
        self._begin()

    def note(self, writers: int, tokens: int, seconds: float) -> None:
        """A step of so many writers has brought so many tokens in `seconds`, with the drafts before it.

        A part whose number of writers changes much says nothing."""
        if not self._writers / ALIKE <= writers <= self._writers * ALIKE:
            self._writers, self._before = writers, 0.0
            self._begin()
        self._steps += 1
        self._rows += writers
        self._tokens += tokens / writers
        self._seconds += seconds
        if self._rows >= PART and self._steps >= LEAST:
            self._end()

    def _begin(self) -> None:
        self._steps = self._rows = self.drafts = 0
        self._tokens = self._seconds = 0.0

    def _end(self) -> None:
        """Compare a part that was done the other way with the one before it; choose how the next is done."""
        rate = self._tokens / max(self._seconds, 1e-9)
        preferred = self.gain > 0
        told = bool(self.drafts) or not self.wanted
        if self.wanted != preferred and told and self._before > 0 and rate > 0:
            found = math.log(rate / self._before)
            self._compared += 1
            weight = max(1 / (self._compared + 1), _WEIGHT)
            self.gain += weight * ((found if self.wanted else -found) - self.gain)
        self._before = rate if told else 0.0
        self._part += 1
        self._begin()
        preferred = self.gain > 0
        clear = self._compared >= SOME and abs(self.gain) > CLEAR
        cycle = SELDOM if clear else CYCLE if self._compared >= KNOWN else FIRST
        self.wanted = preferred if self._part % cycle else not preferred
