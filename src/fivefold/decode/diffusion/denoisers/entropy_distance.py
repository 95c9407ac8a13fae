"""Entropy with a penalty for distance: places whose entropy is low enough for how far ahead they are.

WeDLM (arXiv 2512.22737): the penalty grows with the distance to the first open place, so that places at the
front, after which entries can stay in the cache, are filled sooner. 0.4 and 0.02 are the values of its
evaluation. At least one place is filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fivefold.decode.diffusion.block import Block
from fivefold.decode.diffusion.guesses import Guesses

from .denoiser import Denoiser, above_or_surest


@dataclass(frozen=True, slots=True)
class EntropyDistance(Denoiser):
    """Places with entropy + `penalty` * distance below `threshold`, in nats of the model's own shares."""

    name: ClassVar[str] = "entropy_distance"
    threshold: float = 0.4
    penalty: float = 0.02

    def advance(self, block: Block, guesses: Guesses) -> Block:
        """Fill the places that are sure enough for where they are."""
        distance = guesses.places - guesses.places[0]
        chosen = above_or_surest(-(guesses.raw.entropy + self.penalty * distance), -self.threshold, 1)
        return block.filled(guesses.places[chosen], guesses.tokens[chosen])


DENOISER = EntropyDistance()
