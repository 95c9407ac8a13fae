"""Entropy bound: the most masked places of the lowest entropies whose tokens hardly depend on each other.

The bound is that of EB-Sampler (arXiv 2505.24857): sum H - max H <= bound. 0.1 is what DiffusionGemma uses;
SDAR offers 0.35. (SDAR's script compares the whole sum, the last place included; here it is the paper's
rule.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fivefold.decode.diffusion.block import Block
from fivefold.decode.diffusion.guesses import Guesses

from .denoiser import Denoiser, within_bound


@dataclass(frozen=True, slots=True)
class EntropyBound(Denoiser):
    """`bound` in nats, of the distributions that tokens are drawn from."""

    name: ClassVar[str] = "entropy_bound"
    bound: float = 0.1

    def advance(self, block: Block, guesses: Guesses) -> Block:
        """Fill the places within the bound."""
        chosen = within_bound(guesses.drawn.entropy, self.bound)
        return block.filled(guesses.places[chosen], guesses.tokens[chosen])


DENOISER = EntropyBound()
