"""The factor rule: the more places are filled at once, the surer the model must be of the last of them.

Fast-dLLM (arXiv 2505.22618), its second strategy: with confidences in descending order, the largest n with
(n + 1)(1 - confidence_n) < factor, which follows from when greedy parallel decoding gives the likeliest
sequence. At least one place is filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fivefold.decode.diffusion.block import Block
from fivefold.decode.diffusion.guesses import Guesses

from .denoiser import Denoiser, surest


@dataclass(frozen=True, slots=True)
class Factor(Denoiser):
    """`factor`: 1 in the paper's proof and in its code; larger is faster."""

    name: ClassVar[str] = "factor"
    factor: float = 1.0

    def advance(self, block: Block, guesses: Guesses) -> Block:
        """Fill as many of the surest places as the rule allows."""
        confidence = guesses.confidence(drawn=False)
        ordered = -np.sort(-confidence)
        # Both factors grow with n, so those that are allowed come first.
        allowed = (np.arange(len(ordered)) + 2) * (1 - ordered) < self.factor
        chosen = surest(confidence, max(int(allowed.sum()), 1))
        return block.filled(guesses.places[chosen], guesses.tokens[chosen])


DENOISER = Factor()
