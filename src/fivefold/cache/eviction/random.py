"""Any entries: the floor of measurements, as kvpress has one (github.com/NVIDIA/kvpress). No paper.

The same seed chooses the same slots of as many layers, heads and slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fivefold.core.batch import Float32

from .policy import Evidence, Observation
from .scored import Scored
from .selection import Frame


@dataclass(frozen=True, slots=True)
class Random(Scored):
    """Scores are dice."""

    name: str = "random"
    pool: int = 1
    seed: int = 0

    def observation(self, length: int) -> Observation:
        """Nothing observes."""
        return Observation()

    def scores(self, evidence: Evidence, frame: Frame) -> Float32:
        """(L, KV heads, candidates)."""
        shape = (evidence.layers, evidence.kv_heads, frame.count)
        return np.random.default_rng(self.seed).random(shape, np.float32)


POLICY = Random()
