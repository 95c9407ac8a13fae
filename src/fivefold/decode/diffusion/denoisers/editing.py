"""Token editing: masked places are filled as by a confidence threshold, and filled ones are put right.

LLaDA2.1 (arXiv 2602.08676): a token in place gives way to another that the model gives more than
`editing_threshold`. When nothing is masked, steps go on until one edits nothing, or `most` of them are
over. Its quality mode keeps the threshold of 0.95, its speed mode lowers it. Tokens of the prompt stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fivefold.decode.diffusion.block import Block
from fivefold.decode.diffusion.guesses import Guesses

from .denoiser import Denoiser, above_or_surest


@dataclass(frozen=True, slots=True)
class Editing(Denoiser):
    """Thresholds of probabilities as drawn: `threshold` for masked places, of which at least `least` are
    filled, and `editing_threshold` for filled ones. `most` steps after the last mask."""

    name: ClassVar[str] = "editing"
    rereads: ClassVar[bool] = True
    threshold: float = 0.95
    editing_threshold: float = 0.9
    most: int = 16
    least: int = 1

    def advance(self, block: Block, guesses: Guesses) -> Block:
        """Fill what is sure, and put right what surely is another."""
        places, probability = guesses.places, guesses.confidence(drawn=True)
        open_ = np.flatnonzero(block.masked[places])
        edited = np.flatnonzero(
            ~block.masked[places]
            & (probability > self.editing_threshold)
            & (guesses.tokens != block.tokens[places])
        )
        sure = open_[above_or_surest(probability[open_], self.threshold, self.least)]
        chosen = np.concatenate([sure, edited])
        after = block.filled(places[chosen], guesses.tokens[chosen])
        settled = block.settled + (len(open_) == 0)
        still = len(open_) == 0 and len(edited) == 0
        done = not after.masked.any() and (still or settled >= self.most)
        return replace(after, settled=settled, done=done)


DENOISER = Editing()
