"""More entries for lower layers, fewer for higher ones: PyramidKV (Cai et al., arXiv 2406.02069).

Attention spreads widely in the lower layers and gathers in few entries above. Scores are those of SnapKV.
The numbers fall in a straight line from the first layer to the last, which has a `beta`-th of the mean;
window and sinks are not counted. Their sum is that of equal budgets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fivefold.core.batch import Int32

from .policy import Evidence, Selection
from .scored import Scored
from .selection import Frame, keep_counts


def layer_counts(frame: Frame, layers: int, beta: float) -> Int32:
    """(L,) entries that each layer chooses: falling, and together `frame.chosen` times the layers.

    Where the first would have more than there is, the line is flatter.
    """
    least = frame.chosen / beta
    most = 2 * frame.chosen - least
    if most > frame.count:
        most, least = frame.count, 2 * frame.chosen - frame.count
    line = np.linspace(most, least, layers) if layers > 1 else np.full(1, frame.chosen)
    ends = np.rint(np.cumsum(line)).astype(np.int32)
    return np.diff(ends, prepend=np.int32(0)).astype(np.int32)


@dataclass(frozen=True, slots=True)
class PyramidKV(Scored):
    """SnapKV's scores with layer budgets."""

    name: str = "pyramidkv"
    ragged: bool = True
    beta: float = 20

    def select(self, evidence: Evidence, budget: int) -> Selection:
        """The heads of a layer keep equally many."""
        frame = self.frame(evidence.slots, min(budget, evidence.slots))
        counts = layer_counts(frame, evidence.layers, self.beta)
        spread = np.broadcast_to(counts[:, None], (evidence.layers, evidence.kv_heads))
        scores = self.scores(evidence, frame)
        return keep_counts(self.pooled(scores), scores, frame, spread)


POLICY = PyramidKV()
