"""More entries for heads that spread their attention: Ada-KV (Feng et al., arXiv 2407.11550).

The best entries of all KV heads of a layer together are kept, over SnapKV's scores. Each head has a
`floor` of its equal share first, so that none is left with its window alone. The layer's sum is that of equal
budgets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fivefold.core.batch import Float32, Int32

from .policy import Evidence, Selection
from .scored import Scored
from .selection import best_of, keep_counts


def head_counts(scores: Float32, chosen: int, floor: float) -> Int32:
    """(L, KV heads) entries that each head chooses, `chosen` on average over the heads of each layer."""
    layers, heads, _ = scores.shape
    safe = int(floor * chosen)
    first = best_of(scores, safe)
    others = np.where(first, np.float32(-np.inf), scores).reshape(layers, -1)
    rest = best_of(others, (chosen - safe) * heads).reshape(scores.shape)
    counts: Int32 = (first | rest).sum(axis=-1, dtype=np.int32)
    return counts


@dataclass(frozen=True, slots=True)
class AdaKV(Scored):
    """SnapKV's scores with head budgets."""

    name: str = "adakv"
    ragged: bool = True
    floor: float = 0.2

    def select(self, evidence: Evidence, budget: int) -> Selection:
        """The heads of a layer keep different numbers."""
        frame = self.frame(evidence.slots, min(budget, evidence.slots))
        scores = self.scores(evidence, frame)
        pooled = self.pooled(scores)
        return keep_counts(pooled, scores, frame, head_counts(pooled, frame.chosen, self.floor))


POLICY = AdaKV()
