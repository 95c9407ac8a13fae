"""Sinks and the last entries, whatever they say: StreamingLLM (Xiao et al., arXiv 2309.17453).

Costs nothing and forgets the middle. The paper numbers positions anew; here entries keep theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fivefold.core.batch import Int32

from .policy import Evidence, Observation
from .selection import SINKS, everything


@dataclass(frozen=True, slots=True)
class Window:
    """`sinks` first entries, and the last ones for the rest of the budget."""

    sinks: int = SINKS
    name: str = "window"
    ragged: bool = False

    def observation(self, length: int) -> Observation:
        """Nothing observes."""
        return Observation()

    def select(self, evidence: Evidence, budget: int) -> Int32:
        """(L, KV heads, B) the same slots everywhere."""
        if evidence.slots <= budget:
            return everything(evidence)
        sinks = min(self.sinks, budget // 4)
        last = np.arange(evidence.slots - (budget - sinks), evidence.slots)
        slots = np.concatenate([np.arange(sinks), last]).astype(np.int32)
        return np.broadcast_to(slots, (evidence.layers, evidence.kv_heads, budget)).copy()


POLICY = Window()
