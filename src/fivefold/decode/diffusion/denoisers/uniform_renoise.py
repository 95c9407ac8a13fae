"""Uniform noise: a canvas of random tokens, of which the sure ones are taken and the others drawn anew.

DiffusionGemma, as Transformers 5 has it (`generation_diffusion_gemma.py`), with its numbers: 48 steps at
most, the temperature falls evenly from 0.8 to 0.4, places are taken by an entropy bound of 0.1, and no
place is kept: all are guessed again in each step. It ends when the likeliest tokens have been the same for
`stable` more steps and the mean entropy is below `confident`; what is final are the likeliest tokens, not
those that were drawn. What the model is given of its last guess is the decoder's matter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fivefold.core.batch import Bool
from fivefold.decode.diffusion.block import Block
from fivefold.decode.diffusion.guesses import Guesses

from .denoiser import Denoiser, within_bound


@dataclass(frozen=True, slots=True)
class UniformRenoise(Denoiser):
    """`steps` at most, temperatures `warmest` to `coldest`, the entropy `bound` in nats, and when it ends."""

    name: ClassVar[str] = "uniform_renoise"
    noise: ClassVar[bool] = True
    steps: int = 48
    warmest: float = 0.8
    coldest: float = 0.4
    bound: float = 0.1
    stable: int = 1
    confident: float = 0.005

    def asks(self, block: Block) -> Bool:
        """All positions but those that are given."""
        return ~block.given

    def temperature(self, block: Block) -> float:
        """The schedule counts the steps that are left: the last one is just above the coldest."""
        left = self.steps - block.turn
        return self.coldest + (self.warmest - self.coldest) * (left / self.steps)

    def advance(self, block: Block, guesses: Guesses) -> Block:
        """Take the sure tokens, renoise the others; at the end take the likeliest."""
        places, likeliest = guesses.places, guesses.likeliest
        entropy = guesses.drawn.entropy
        same = len(block.history) == self.stable and all(
            np.array_equal(likeliest, earlier) for earlier in block.history
        )
        done = (same and float(entropy.mean()) < self.confident) or block.turn + 1 >= self.steps
        tokens = guesses.noise()
        taken = within_bound(entropy, self.bound)
        tokens[taken] = guesses.tokens[taken]
        best = block.filled(places, likeliest)
        after = best if done else block.filled(places, tokens)
        history = (*block.history, likeliest)[-self.stable :] if self.stable else ()
        return replace(after, history=history, likeliest=best.tokens, done=done)


DENOISER = UniformRenoise()
