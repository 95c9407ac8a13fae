"""A draft of the answer observes: Lookahead Q-Cache (Wang et al., arXiv 2505.20334).

The model itself writes eight tokens on a copy of the cache that SnapKV has evicted. These tokens and the last
eight rows of the prompt then look at the full cache, and what they attend to is kept. Good, and costly: the
draft is written one token after the other. Rows see what their positions say; the authors' code hides some
entries from draft rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from .policy import Draft, Observation
from .scored import Scored


@dataclass(frozen=True, slots=True)
class LookaheadQueries(Scored):
    """`tokens` drafted tokens observe, and so many `last` rows of the prompt beside them."""

    name: str = "laq"
    window: int = 8
    last: int = 8
    tokens: int = 8
    by: str = "snapkv"

    def observation(self, length: int) -> Observation:
        """The last rows and a draft."""
        return Observation(window=min(self.last, length), probe=Draft(self.tokens, self.by))


POLICY = LookaheadQueries()
