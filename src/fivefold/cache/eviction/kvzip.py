"""What the model needs to say the prompt once more: KVzip (Kim et al., arXiv 2505.23416).

The prompt is repeated after itself, 2048 tokens at a time, and each entry's score is the highest attention
that any row and any query head of its KV head paid to it. No question is needed, so one choice serves all
of them; it costs two to three times the prompt. The paper lets all heads of all layers compete
(`ragged=True`); by default each keeps equally many here, which needs no other page tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fivefold.core.batch import Float32

from .policy import Evidence, Observation, Repetition, Selection
from .scored import Scored
from .selection import Frame, best_of, keep_best, keep_counts


@dataclass(frozen=True, slots=True)
class KVzip(Scored):
    """A repetition of the prompt observes."""

    name: str = "kvzip"
    window: int = 0
    pool: int = 1
    chunk: int = 2048

    def observation(self, length: int) -> Observation:
        """The rows of the repetition, each entry's highest attention."""
        return Observation(probe=Repetition(self.chunk), reduce="max")

    def scores(self, evidence: Evidence, frame: Frame) -> Float32:
        """(L, KV heads, candidates): the highest of the query heads."""
        highest: Float32 = evidence.observed()[..., frame.candidates].max(axis=2)
        return highest

    def select(self, evidence: Evidence, budget: int) -> Selection:
        """Equally many of each head, or the best of all heads and layers."""
        frame = self.frame(evidence.slots, min(budget, evidence.slots))
        scores = self.scores(evidence, frame)
        pooled = self.pooled(scores)
        if not self.ragged:
            return keep_best(pooled, scores, frame)
        best = best_of(pooled.reshape(-1), frame.chosen * evidence.layers * evidence.kv_heads)
        counts = best.reshape(scores.shape).sum(axis=-1, dtype=np.int32)
        return keep_counts(pooled, scores, frame, counts)


POLICY = KVzip()
