"""Diffusion with full sight: every row sees every other, so every row of the answer runs in every pass.

LLaDA and Dream. The canvas is the prompt and the whole answer, masks and all; its length is settled at the
beginning, for it changes what is written. Blocks of it are denoised one after the other, from the left
(semi-autoregressive, where the family has blocks), and become final one after the other. Nothing stays in
the cache, since each entry depends on tokens that are still to come: this is the exact mode, at its full
price.

Rows see both sides, so tokens may stand behind the canvas too: then what is between is filled in.

Fast-dLLM's prefix cache and dual cache keep entries of other rows for the length of a block and then make
all of them anew. A decoder can only add entries to the cache, and take none back, so they are not there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fivefold.core.batch import LOGITS, Commit, Float32, Int32, Span
from fivefold.core.decoder import Decision
from fivefold.core.diffusion import Provisional

from .answer import Answer
from .block import Block


class WholeDecoder:
    """One sequence, all of its rows in each step. See `core.decoder.Decoder` for the contract."""

    def __init__(self, sequence: int, answer: Answer) -> None:
        self._sequence = sequence
        self._answer = answer
        self._length = answer.end + len(answer.suffix)
        self._block: Block | None = None
        self._places: Int32 | None = None

    @property
    def tokens(self) -> Sequence[int]:
        """The prompt and the finished blocks."""
        return self._answer.tokens

    @property
    def committed(self) -> int:
        """Nothing is ever kept."""
        return 0

    @property
    def least_rows(self) -> int:
        """All rows or none."""
        return self._length

    @property
    def reading(self) -> bool:
        """It writes from its first step on."""
        return False

    @property
    def apart(self) -> bool:
        """Nothing of it is kept, nor anything found."""
        return True

    @property
    def provisional(self) -> Provisional | None:
        """The block in flight, if there is one."""
        return None if self._block is None else self._answer.provisional(len(self.tokens), self._block)

    def resume(self, cached: int) -> int:
        """Build on nothing; the block in flight stays as it is."""
        if cached < 0:
            raise ValueError(f"{cached} cached entries")
        self._places = None
        return 0

    def propose(self, limit: int) -> Span | None:
        """All rows."""
        if limit < self._length:
            return None
        start = len(self.tokens)
        if self._block is None:
            left = self._answer.end - start
            size = min(self._answer.rules.block or left, left)
            self._block = self._answer.block(start, size, np.zeros(0, np.int32))
        next_start = start + len(self._block.tokens)
        behind = self._answer.block(next_start, self._answer.end - next_start, np.zeros(0, np.int32)).tokens
        known = np.array(self.tokens, np.int32)
        tokens = np.concatenate([known, self._block.tokens, behind, self._answer.suffix])
        self._places = self._answer.asked(self._block)
        wanted = start + self._places - np.int32(self._answer.rules.shifted)
        visible = np.tile(np.array([0, self._length], np.int32), (self._length, 1))
        positions = np.arange(self._length, dtype=np.int32)
        return Span(self._sequence, tokens, positions, visible, row_sets={LOGITS: wanted})

    def decide(self, logits: Float32) -> Decision:
        """Denoise the block by (R, V) logits, for a row each that was wanted; keep nothing."""
        places, self._places = self._places, None
        if places is None or self._block is None:
            raise RuntimeError("decide without propose")
        if len(logits) != len(places):
            raise ValueError(f"{len(logits)} rows of logits, {len(places)} were asked for")
        commit = Commit(self._sequence, np.zeros(0, np.int32))
        self._block = self._answer.denoised(len(self.tokens), self._block, places, logits)
        if not self._answer.over(len(self.tokens), self._block):
            return Decision(commit)
        fresh, self._block = self._block.tokens, None
        return self._answer.finish(fresh, commit)
