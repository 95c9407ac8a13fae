"""Confidence threshold: every masked place that the model is sure enough of is filled, and at least one.

Fast-dLLM (arXiv 2505.22618) with 0.9; Fast-dLLM v2 (arXiv 2509.26328), SDAR as "low_confidence_dynamic" and
LLaDA2.0 (arXiv 2512.15745) fill by the same rule with thresholds of their own. Fast-dLLM looks at the model's
own probability of a token, SDAR and LLaDA2.0 at the one that it was drawn with; they differ where the
temperature is not 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fivefold.decode.diffusion.block import Block
from fivefold.decode.diffusion.guesses import Guesses

from .denoiser import Denoiser, above_or_surest


@dataclass(frozen=True, slots=True)
class ConfidenceThreshold(Denoiser):
    """Places with a probability above `threshold`, the surest `least` if there are fewer.

    as_drawn  the probability is that of the distribution after temperature and filters, not the model's own.
    """

    name: ClassVar[str] = "confidence_threshold"
    threshold: float = 0.9
    least: int = 1
    as_drawn: bool = False

    def advance(self, block: Block, guesses: Guesses) -> Block:
        """Fill all places that are sure."""
        chosen = above_or_surest(guesses.confidence(self.as_drawn), self.threshold, self.least)
        return block.filled(guesses.places[chosen], guesses.tokens[chosen])


DENOISER = ConfidenceThreshold()
