"""Rows that observe: spans with them, and what they found, added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from fivefold.core.batch import LOOKAHEAD, OBSERVERS, Float32, Span
from fivefold.core.lookahead import LookaheadModule


def with_observers(span: Span, row_set: str = OBSERVERS) -> Span:
    """The span with all its rows observing."""
    return replace(span, row_sets={**span.row_sets, row_set: np.arange(len(span.tokens), dtype=np.int32)})


def with_learned_rows(span: Span, module: LookaheadModule) -> Span:
    """The span with a module's rows behind its own, causal among themselves, which observe.

    They are not to be committed.
    """
    more = learned_rows(span.sequence, int(span.positions[-1]) + 1, module)
    rows = more.row_sets[LOOKAHEAD] + np.int32(len(span.tokens))
    observing = np.concatenate([span.row_sets.get(OBSERVERS, rows[:0]), rows])
    return replace(
        span,
        tokens=np.concatenate([span.tokens, more.tokens]),
        positions=np.concatenate([span.positions, more.positions]),
        visible=np.concatenate([span.visible, more.visible]),
        row_sets={**span.row_sets, LOOKAHEAD: rows, OBSERVERS: observing},
        inputs={**span.inputs, **more.inputs},
    )


def learned_rows(sequence: int, start: int, module: LookaheadModule) -> Span:
    """A module's rows alone, behind `start` tokens."""
    rows = np.arange(module.rows, dtype=np.int32)
    span = Span.causal(sequence, np.zeros(module.rows, np.int32), start, rows[:0])
    sets = {**span.row_sets, LOOKAHEAD: rows, OBSERVERS: rows}
    return replace(span, row_sets=sets, inputs={LOOKAHEAD: module.embeddings})


_PROBE = 0


class Observed:
    """Importance (L layers, H query heads, S slots) before a point of eviction, for several windows of rows.

    `windows` are numbers of last rows before the point; each has a sum of its own, and so have probes.
    """

    def __init__(self, point: int, windows: Sequence[int], reduce: Literal["sum", "max"]) -> None:
        self._point = point
        self._windows = windows
        self._reduce = reduce
        self._sums: dict[int, Float32] = {}

    def add(self, importance: Float32, first: int) -> None:
        """What rows from position `first` on have found; those from the point on are a probe's."""
        if first >= self._point:
            self._merge(_PROBE, importance)
            return
        for window in self._windows:
            if first >= self._point - window:
                self._merge(window, importance)

    def window(self, window: int) -> Float32 | None:
        """What the rows of a window and of probes have found together; None if nothing has."""
        found = [self._sums[one] for one in (window, _PROBE) if one in self._sums]
        if not found:
            return None
        total = found[0]
        for other in found[1:]:
            total = self._joined(total, other)
        return total

    def _merge(self, window: int, importance: Float32) -> None:
        before = self._sums.get(window)
        self._sums[window] = importance.copy() if before is None else self._joined(before, importance)

    def _joined(self, a: Float32, b: Float32) -> Float32:
        """Both together; slots that one of them did not have yet were paid nothing."""
        if a.shape[-1] < b.shape[-1]:
            a, b = b, a
        result = a.copy()
        part = result[..., : b.shape[-1]]
        if self._reduce == "sum":
            part += b
        else:
            np.maximum(part, b, out=part)
        return result
