"""Choosing by score: what is always kept, the best of the others, and equal scores decided alike everywhere.

The first few entries (sinks: attention goes there when it has nowhere to go) and the last ones (the window)
are kept without asking for their scores. The others are candidates; only they are scored, pooled and chosen,
so no score can be high enough to put the window out. Pooling makes neighbours equal: of these the one that
is important itself is kept before the others, and of truly equal ones the lower slot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fivefold.core.batch import Bool, Float32, Int32

from .policy import Evidence, Selection

SINKS = 4
"""First entries that are always kept (StreamingLLM, arXiv 2309.17453)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What is kept without asking of so many `slots`: the first `sinks` and the last `window` of them.

    The window takes half of the budget at most and the sinks a quarter, so something is left to choose.
    """

    slots: int
    budget: int
    sinks: int
    window: int

    @staticmethod
    def of(slots: int, budget: int, sinks: int, window: int) -> Frame:
        """With sinks and window made to fit; the budget is lower than the slots."""
        return Frame(slots, budget, min(sinks, budget // 4), min(window, budget // 2))

    @property
    def candidates(self) -> slice:
        """The slots to choose from."""
        return slice(self.sinks, self.slots - self.window)

    @property
    def count(self) -> int:
        """How many slots there are to choose from."""
        return self.slots - self.window - self.sinks

    @property
    def chosen(self) -> int:
        """How many of them are kept."""
        return self.budget - self.window - self.sinks

    def around(self, best: Bool) -> Int32:
        """(..., B) ascending slots where `best` (..., candidates) marks equally many in each row."""
        chosen = np.nonzero(best)[-1].reshape(*best.shape[:-1], -1) + self.sinks
        shape = best.shape[:-1]
        first = np.broadcast_to(np.arange(self.sinks), (*shape, self.sinks))
        last = np.broadcast_to(np.arange(self.slots - self.window, self.slots), (*shape, self.window))
        return np.concatenate([first, chosen, last], axis=-1).astype(np.int32)


def everything(evidence: Evidence) -> Int32:
    """(L, KV heads, S): all slots, where there are no more than the budget."""
    shape = (evidence.layers, evidence.kv_heads, evidence.slots)
    return np.broadcast_to(np.arange(evidence.slots, dtype=np.int32), shape).copy()


def best_of(scores: Float32, count: int, own: Float32 | None = None) -> Bool:
    """(..., C) which are the `count` highest of each row.

    Of equal ones those whose `own` score is higher, the same before pooling, and then the first.
    """
    size = scores.shape[-1]
    if count <= 0 or count >= size:
        return np.full(scores.shape, count > 0)
    least = np.partition(scores, size - count, axis=-1)[..., size - count, None]
    best = scores > least
    equal = scores == least
    missing = count - best.sum(axis=-1)
    for row in np.ndindex(missing.shape):
        places = np.flatnonzero(equal[row])
        if own is not None:
            places = places[np.argsort(-own[row][places], kind="stable")]
        best[row][places[: missing[row]]] = True
    return best


def keep_best(pooled: Float32, own: Float32, frame: Frame) -> Int32:
    """(..., B) the frame, and the best candidates by their scores (..., candidates)."""
    return frame.around(best_of(pooled, frame.chosen, own))


def keep_counts(pooled: Float32, own: Float32, frame: Frame, counts: Int32) -> Selection:
    """The frame, and so many best candidates of each layer and KV head as `counts` (L, KV heads) says."""
    layers, heads = counts.shape
    return tuple(
        tuple(
            frame.around(best_of(pooled[layer, head], int(counts[layer, head]), own[layer, head]))
            for head in range(heads)
        )
        for layer in range(layers)
    )


def grouped(observed: Float32) -> Float32:
    """(L, KV heads, S) of (L, KV heads, share, S): the mean over the query heads of each KV head."""
    mean: Float32 = observed.mean(axis=2, dtype=np.float32)
    return mean
