"""The true answer observes: what no policy can know, and none can do much better.

The ceiling of measurements, and what lookahead rows are trained towards (arXiv 2603.10899).
"""

from __future__ import annotations

from dataclasses import dataclass

from .policy import Observation, TrueAnswer
from .scored import Scored


@dataclass(frozen=True, slots=True)
class Oracle(Scored):
    """Rows of the answer observe; their attention is not pooled, so that as much of it as can be is kept."""

    name: str = "oracle"
    pool: int = 1

    def observation(self, length: int) -> Observation:
        """The answer's rows."""
        return Observation(probe=TrueAnswer())


POLICY = Oracle()
