"""Low confidence, static steps: in each step the surest masked places of a fixed number are filled.

LLaDA (arXiv 2502.09992) remasks what it is least sure of. Its noise schedule is linear, so as many places
become known in each step; where they do not divide evenly the first steps fill one more. Confidence is the
model's own probability of the token, whatever temperature it was drawn at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fivefold.decode.diffusion.block import Block
from fivefold.decode.diffusion.guesses import Guesses

from .denoiser import Denoiser, surest


@dataclass(frozen=True, slots=True)
class LowConfidence(Denoiser):
    """`steps`: of each block, at most as many as it has places; 0 is one for each place, LLaDA's best quality
    (128 steps for 128 tokens)."""

    name: ClassVar[str] = "low_confidence"
    steps: int = 0

    def advance(self, block: Block, guesses: Guesses) -> Block:
        """Fill the surest places, as many as the schedule has for this step."""
        steps = min(self.steps, block.masks) if self.steps else block.masks
        count = block.masks // steps + (block.turn < block.masks % steps)
        chosen = surest(guesses.confidence(drawn=False), count)
        return block.filled(guesses.places[chosen], guesses.tokens[chosen])


DENOISER = LowConfidence()
