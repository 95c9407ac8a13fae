"""A prompt is read once, and everything that policies want to see of its own rows is noted on the way.

The last rows are cut into spans where windows of policies begin, so each window has a sum of its own. Where a
policy wants all rows, all of them observe. Policies then share the sequence: each evicts a fork.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fivefold.core.batch import LOGITS, Commit, Float32, Int32, Span, Step
from fivefold.engine.observing import with_observers
from fivefold.engine.selecting import Evicted


@dataclass(frozen=True, slots=True)
class Read:
    """A prompt in the cache (T tokens, L layers, H query heads).

    logits   (V,) behind its last token.
    windows  importance (L, H, T) by the number of last rows that observed; T stands for all rows.
    """

    sequence: int
    tokens: Int32
    logits: Float32
    windows: dict[int, Float32]

    @property
    def length(self) -> int:
        """T."""
        return len(self.tokens)


class Reader:
    """Reads prompts into sequences of a runner. `windows` are numbers of last rows, `all_rows` one more."""

    def __init__(self, evicted: Evicted, windows: Sequence[int], all_rows: bool) -> None:
        self._evicted, self._runner = evicted, evicted.runner
        self._windows = sorted({one for one in windows if one})
        self._all = all_rows

    @property
    def reach(self) -> int:
        """Last rows that observe apart from the others."""
        return max(self._windows, default=1)

    def beginning(self, tokens: Int32) -> tuple[int, Float32 | None]:
        """A new sequence with what several prompts begin with, and what all of its rows have seen."""
        sequence = self._runner.open()
        try:
            _, seen = self._run(sequence, tokens, 0, self._all)
        except BaseException:
            self._runner.close(sequence)
            raise
        return sequence, seen

    def read(self, beginning: tuple[int, Float32 | None], first: int, tokens: Int32) -> Read:
        """The prompt `tokens` on a fork of a beginning of `first` tokens, which ends before all windows."""
        count = len(tokens)
        sequence = self._runner.fork(beginning[0])
        try:
            starts = [max(count - window, first) for window in reversed(self._windows)]
            cuts = sorted({first, count, *starts})
            seen: list[tuple[int, Float32]] = [] if beginning[1] is None else [(0, beginning[1])]
            logits: Float32 = np.zeros(0, np.float32)
            for start, stop in pairwise(cuts):
                observes = self._all or start in starts
                logits, part = self._run(sequence, tokens[start:stop], start, observes)
                if part is not None:
                    seen.append((start, part))
        except BaseException:
            self._runner.close(sequence)
            raise
        windows = {window: _together(seen, count - window, count) for window in self._windows}
        if self._all:
            windows[count] = _together(seen, 0, count)
        return Read(sequence, tokens, logits, windows)

    def _run(
        self, sequence: int, tokens: Int32, start: int, observes: bool
    ) -> tuple[Float32, Float32 | None]:
        """Run tokens from a position on: the last one's logits, and what rows have seen if they observe."""
        runner, most = self._runner, self._runner.max_rows
        logits: Float32 = np.zeros(0, np.float32)
        seen: list[tuple[int, Float32]] = []
        for first in range(0, len(tokens), most):
            part = tokens[first : first + most]
            last = first + len(part) == len(tokens)
            span = Span.causal(
                sequence, part, start + first, np.array([len(part) - 1] if last else [], np.int32)
            )
            assert LOGITS in span.row_sets
            found = runner.run(Step((with_observers(span) if observes else span,)))
            runner.commit([Commit(sequence, np.arange(len(part), dtype=np.int32))])
            logits = found[0] if last else logits
            if observes:
                seen.append((start + first, self._evicted.importance(sequence)))
        return logits, _together(seen, start, start + len(tokens)) if seen else None


def _together(seen: Sequence[tuple[int, Float32]], first: int, slots: int) -> Float32:
    """(L, H, slots): the sum over what was seen from position `first` on; later slots were paid nothing."""
    parts = [importance for start, importance in seen if start >= first]
    total = np.zeros((*parts[0].shape[:2], slots), np.float32)
    for part in parts:
        total[..., : part.shape[-1]] += part
    return total
