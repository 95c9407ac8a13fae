"""placeholder until the trainer's own is merged"""

from __future__ import annotations
from collections.abc import Mapping
from dataclasses import dataclass
from .batch import Float32


@dataclass(frozen=True, slots=True, eq=False)
class LookaheadModule:
    embeddings: Float32
    pairs: Mapping[str, tuple[Float32, Float32]]
    alpha: float
    rank: int
