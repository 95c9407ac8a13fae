"""A block while it is denoised: tokens, and beside each whether its position is still open.

A block is a value: a denoiser makes the next one of it and of what the model guesses. It knows positions
within itself only, and no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fivefold.core.batch import Bool, Float32, Int32
from fivefold.decode.filters import Indices


@dataclass(frozen=True, slots=True)
class Block:
    """A block of B positions.

    tokens   (B,) ids. On masked positions the family's mask token, which means nothing.
    masked   (B,) which positions are open; none where a canvas of noise is renoised.
    given    (B,) positions that are not the denoiser's: the end of the prompt, or a token chosen before.
    masks    how many positions were open at the beginning.
    turn     steps of the denoiser's schedule that are behind.
    settled  steps since no position was masked.
    likeliest  (B,) the likeliest tokens of the last step, where the tokens are noise: what can be shown.
    shares   (B, V) the probabilities of the last step, where the model is given them in the next.
    history  what the likeliest tokens were in the last steps, where a denoiser asks for that.
    unread   some of the tokens that stand in it are to be opened, once the model has read them.
    done     nothing changes any more: its tokens are final.
    """

    tokens: Int32
    masked: Bool
    given: Bool
    masks: int
    turn: int = 0
    settled: int = 0
    history: tuple[Int32, ...] = ()
    unread: bool = False
    done: bool = False
    likeliest: Int32 | None = None
    shares: Float32 | None = None

    @staticmethod
    def of(given: Int32, rest: Int32, masked: bool) -> Block:
        """A new block: given tokens, then what stands at the open positions, masked or noise."""
        flags = np.arange(len(given) + len(rest)) >= len(given)
        tokens = np.concatenate([given, rest]).astype(np.int32)
        return Block(tokens, flags & masked, ~flags, len(rest))

    def begun(self, standing: Int32, unread: bool) -> Block:
        """The same with tokens that stand in the first places that are not given."""
        tokens, masked = self.tokens.copy(), self.masked.copy()
        places = np.flatnonzero(~self.given)[: len(standing)]
        tokens[places], masked[places] = standing, False
        return replace(self, tokens=tokens, masked=masked, masks=int(masked.sum()), unread=unread)

    def filled(self, places: Indices, tokens: Int32) -> Block:
        """The same with tokens at some places, which are masked no more; one step later.

        It is done when no position is masked.
        """
        ours, masked = self.tokens.copy(), self.masked.copy()
        ours[places] = tokens
        masked[places] = False
        return replace(self, tokens=ours, masked=masked, turn=self.turn + 1, done=not masked.any())
