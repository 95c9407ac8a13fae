"""The attention of all rows added up: H2O, heavy hitters (Zhang et al., arXiv 2306.14048).

Half of the budget is recent entries, half the ones that were attended to most. Entries that came early are
seen by more rows, which favours them; the paper does not divide by that, and neither is it done here.
"""

from __future__ import annotations

from dataclasses import dataclass

from .policy import Observation
from .scored import Scored
from .selection import Frame


@dataclass(frozen=True, slots=True)
class HeavyHitters(Scored):
    """All rows of the prompt observe; `recent` is the share of the budget that the window has."""

    name: str = "h2o"
    pool: int = 1
    recent: float = 0.5

    def observation(self, length: int) -> Observation:
        """All rows."""
        return Observation(window=length)

    def frame(self, slots: int, budget: int) -> Frame:
        """The window is a share of the budget."""
        return Frame.of(slots, budget, self.sinks, int(self.recent * budget))


POLICY = HeavyHitters()
