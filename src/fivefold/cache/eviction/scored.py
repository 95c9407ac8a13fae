"""What policies with scores have alike: a frame that is kept, scores of candidates, the best of each head.

A policy that scores by attention and keeps equally many entries everywhere is this class with other rows
to observe and other numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, Self

from fivefold.core.batch import Float32

from .policy import Evidence, Observation, Selection
from .pooling import average_pool, max_pool
from .selection import SINKS, Frame, everything, grouped, keep_best

POOLS: Mapping[str, Callable[[Float32, int], Float32]] = MappingProxyType(
    {"max": max_pool, "average": average_pool}
)
"""Ways to pool scores along slots."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Numbers of a policy that scores entries by the attention which rows paid to them.

    window  last entries that are always kept; sinks  first ones.
    pool    slots over which scores are pooled (1: not at all), by the `pooling` "max" or "average".
    """

    name: str = ""
    ragged: bool = False
    window: int = 32
    sinks: int = SINKS
    pool: int = 7
    pooling: Literal["max", "average"] = "max"

    def pooled_over(self, pool: int) -> Self:
        """The same policy with scores pooled over so many slots."""
        return replace(self, pool=pool)

    def observation(self, length: int) -> Observation:
        """The rows of the window."""
        return Observation(window=min(self.window, length))

    def frame(self, slots: int, budget: int) -> Frame:
        """What is kept in any case."""
        return Frame.of(slots, budget, self.sinks, self.window)

    def scores(self, evidence: Evidence, frame: Frame) -> Float32:
        """(L, KV heads, candidates): the mean over the query heads of a KV head, not pooled."""
        return grouped(evidence.observed()[..., frame.candidates])

    def pooled(self, scores: Float32) -> Float32:
        """The same scores pooled along slots."""
        return POOLS[self.pooling](scores, self.pool)

    def select(self, evidence: Evidence, budget: int) -> Selection:
        """(L, KV heads, B) the frame and the best of each head."""
        if evidence.slots <= budget:
            return everything(evidence)
        frame = self.frame(evidence.slots, budget)
        scores = self.scores(evidence, frame)
        return keep_best(self.pooled(scores), scores, frame)
