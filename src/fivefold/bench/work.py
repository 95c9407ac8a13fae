"""What one round of a speed measurement does, and how its figures follow from when tokens came.

All engines are asked for the same: some prompts at once, and so many tokens for each. What a tool of a
peer does not report as a rate is reported as a timeline, and all rates of timelines are worked out here, so
that every side is counted alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fivefold.core.errors import FivefoldError

Kind = Literal["decode", "prefill", "batch", "depth"]


@dataclass(frozen=True, slots=True)
class Work:
    """One measurement: `requests` prompts of `prompt` tokens, `tokens` tokens written for each.

    decode   tokens a second of one sequence from its beginning; its prompt is one token.
    prefill  prompt tokens a second until the first token.
    batch    tokens a second of all requests together.
    depth    tokens a second of one sequence that has `prompt` entries in the cache already.
    """

    kind: Kind
    requests: int
    prompt: int
    tokens: int

    @property
    def entries(self) -> int:
        """Cache entries of one request at its end."""
        return self.prompt + self.tokens

    def prompts(self, vocabulary: int, seed: int | Sequence[int]) -> list[list[int]]:
        """Random token ids below `vocabulary`, the same for the same seed; no two requests begin alike."""
        low = min(100, vocabulary // 2)
        generator = np.random.default_rng(seed)
        drawn = generator.integers(low, vocabulary, (self.requests, max(self.prompt, 1)))
        return [[int(token) for token in row] for row in drawn]


@dataclass(frozen=True, slots=True)
class Reading:
    """A round's figure in tokens a second; `whole` is that of a batch with the reading of its prompts."""

    rate: float
    whole: float = 0.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """When tokens came: seconds since the prompts were given, and how many each request had by then."""

    seconds: Sequence[float]
    written: Sequence[Sequence[int]]

    def reading(self, work: Work) -> Reading:
        """The figure of this work. FivefoldError if the tokens are not those that were asked for."""
        if not self.seconds or any(count < work.tokens for count in self.written[-1]):
            raise FivefoldError(
                "fewer tokens came than were asked for",
                remedy="check that the engine can ignore the end token",
            )
        if work.kind == "decode":
            return Reading(sum(self.written[-1]) / self.seconds[-1])
        if work.kind == "prefill":
            return Reading(work.requests * work.prompt / self.seconds[self._first()])
        whole = sum(self.written[-1]) / self.seconds[-1]
        return Reading(self._together(), whole)

    def _first(self) -> int:
        """The step after which each request has a token."""
        return next(step for step, counts in enumerate(self.written) if min(counts) > 0)

    def _together(self) -> float:
        """Tokens a second while all requests write: from the last one's first token to the first one's last.

        This is what a static batch shows, where nobody reads while others write.
        """
        first, final = self._first(), self.written[-1]
        last = next(
            step for step, counts in enumerate(self.written)
            if any(count >= most for count, most in zip(counts, final, strict=True))
        )  # fmt: skip
        if last <= first:
            raise FivefoldError(
                "the first request had ended before the last one began to write", remedy="give more --tokens"
            )
        came = sum(self.written[last]) - sum(self.written[first])
        return came / (self.seconds[last] - self.seconds[first])
