"""The attention of the last row, one choice for a layer: TOVA (Oren et al., arXiv 2401.06104).

The mean over all heads of the layer decides, so an entry which one head needs stays in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fivefold.core.batch import Float32

from .policy import Evidence, Observation
from .scored import Scored
from .selection import Frame


@dataclass(frozen=True, slots=True)
class LayerShared(Scored):
    """The last row observes; the last entry is always kept."""

    name: str = "tova"
    window: int = 1
    pool: int = 1

    def observation(self, length: int) -> Observation:
        """The last row."""
        return Observation(window=min(1, length))

    def scores(self, evidence: Evidence, frame: Frame) -> Float32:
        """(L, KV heads, candidates), the same for all KV heads of a layer."""
        observed = evidence.observed()[..., frame.candidates]
        shared = observed.mean(axis=(1, 2), dtype=np.float32)
        return np.broadcast_to(shared[:, None], (evidence.layers, evidence.kv_heads, frame.count))


POLICY = LayerShared()
