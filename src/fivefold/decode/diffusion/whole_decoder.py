"""Diffusion with full sight: every row sees every other, so every row of the answer runs in every pass.

LLaDA and Dream. The canvas is the prompt and the whole answer, masks and all; its length is settled at the
beginning, for it changes what is written. Blocks of it are denoised one after the other, from the left
(semi-autoregressive, where the family has blocks), and become final one after the other. Each entry depends
on tokens that are still to come, so in the exact mode nothing stays in the cache, at the full price.

Fast-dLLM (arXiv 2505.22618, NVlabs/Fast-dLLM `llada/generate.py`) takes entries of other rows as good enough
for the length of a block. The first pass of a block runs everything; later ones run the block and what is
behind it against the entries before it (prefix cache), or the block alone against those of both sides, as
they were when it began (dual cache). At its end all of them are forgotten. With shifted logits (Dream) the
first pass gives the first token of the block, whatever it is, and no other. A family whose answer is one
block has blocks of 32 then.

Rows see both sides, so tokens may stand behind the canvas too: then what is between is filled in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fivefold.core.batch import LOGITS, Bool, Commit, Float32, Int32, Span
from fivefold.core.decoder import Decision
from fivefold.core.diffusion import Provisional
from fivefold.core.request import Caching

from .answer import Answer
from .block import Block

_NONE = np.zeros(0, np.int32)
_CACHED_BLOCK = 32
"""Positions of a block in Fast-dLLM, where a family has none of its own and entries are kept."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What was proposed: places of the block that logits are for, and whether it was a block's first pass,
    whose entries are to be kept."""

    places: Int32
    opening: bool


class WholeDecoder:
    """One sequence, all of its rows in each step, or in the first of each block. See `core.decoder.Decoder`
    for the contract."""

    def __init__(self, sequence: int, answer: Answer, caching: Caching = "none") -> None:
        self._sequence = sequence
        self._answer = answer
        self._caching = caching
        self._size = answer.rules.block or (0 if caching == "none" else _CACHED_BLOCK)
        self._length = answer.end + len(answer.suffix)
        self._block: Block | None = None
        self._stored = False
        self._plan: _Plan | None = None

    @property
    def tokens(self) -> Sequence[int]:
        """The prompt and the finished blocks."""
        return self._answer.tokens

    @property
    def committed(self) -> int:
        """Nothing is kept for others: what a block keeps goes with it."""
        return 0

    @property
    def least_rows(self) -> int:
        """All rows or none; with entries of other rows fewer are enough."""
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
        """Build on nothing; the block in flight stays as it is. Entries that it had are made again of what
        they were made of, so that nothing changes by having lost them."""
        if cached < 0:
            raise ValueError(f"{cached} cached entries")
        self._plan, self._stored = None, False
        return 0

    def propose(self, limit: int) -> Span | None:
        """All rows, or those that entries of the others are enough for."""
        first, last = self._rows
        if limit < last - first:
            return None
        opening = self._caching != "none" and not self._stored
        block = self._empty() if opening or self._block is None else self._block
        places = self._answer.asked(block)
        if opening:
            places = self._opening_places(places)
        else:
            self._block = block
        self._plan = _Plan(places, opening)
        wanted = len(self.tokens) - first + places - np.int32(self._answer.rules.shifted)
        positions = np.arange(first, last, dtype=np.int32)
        visible = np.tile(np.array([0, self._length], np.int32), (last - first, 1))
        # entries from behind the block lie before its rows in the cache, so the rows are told by a mask
        mask: Bool | None = np.ones((last - first, last - first), bool) if last < self._length else None
        sets = {LOGITS: wanted.astype(np.int32)}
        return Span(self._sequence, self._canvas(block)[first:last], positions, visible, mask, sets)

    def decide(self, logits: Float32) -> Decision:
        """Denoise the block by (R, V) logits, for a row each that was wanted; keep what later passes need."""
        plan, self._plan = self._plan, None
        if plan is None:
            raise RuntimeError("decide without propose")
        if len(logits) != len(plan.places):
            raise ValueError(f"{len(logits)} rows of logits, {len(plan.places)} were asked for")
        start, block = len(self.tokens), self._block
        if plan.opening and block is None and self._answer.rules.shifted:
            block = self._seeded(self._answer.seed(start, logits[0]))
        elif len(plan.places):
            before = self._empty() if block is None else block
            block = self._answer.denoised(start, before, plan.places, logits)
        assert block is not None
        if self._answer.over(start, block):
            commit = Commit(self._sequence, _NONE, until=0 if self._stored else None)
            self._block, self._stored = None, False
            return self._answer.finish(block.tokens, commit)
        self._block = block
        self._stored = self._stored or plan.opening
        return Decision(Commit(self._sequence, self._others if plan.opening else _NONE))

    @property
    def _rows(self) -> tuple[int, int]:
        """The rows that the next pass runs: the first, and the one behind the last."""
        if not self._stored or self._block is None:
            return 0, self._length
        start = len(self.tokens)
        return start, start + len(self._block.tokens) if self._caching == "dual" else self._length

    @property
    def _others(self) -> Int32:
        """The rows of a whole pass whose entries the block in flight is to see."""
        start, end = len(self.tokens), self._length
        if self._caching == "dual" and self._block is not None:
            end = start + len(self._block.tokens)
            return np.concatenate([np.arange(start), np.arange(end, self._length)]).astype(np.int32)
        return np.arange(start, dtype=np.int32)

    def _opening_places(self, places: Int32) -> Int32:
        """The places whose logits a block's first pass is to give: none where it is run for entries that
        were lost, the first where logits are shifted."""
        if self._block is not None:
            return _NONE
        return np.zeros(1, np.int32) if self._answer.rules.shifted else places

    def _empty(self) -> Block:
        """The next block, as it begins."""
        start = len(self.tokens)
        left = self._answer.end - start
        return self._answer.block(start, min(self._size or left, left), _NONE)

    def _seeded(self, token: int) -> Block:
        """The same with its first token."""
        size = len(self._empty().tokens)
        block = self._answer.block(len(self.tokens), size, np.array([token], np.int32))
        return replace(block, done=size == 1)

    def _canvas(self, block: Block) -> Int32:
        """All tokens: what is known, the block, what is behind it."""
        behind = len(self.tokens) + len(block.tokens)
        rest = self._answer.block(behind, self._answer.end - behind, _NONE).tokens
        known = np.array(self.tokens, np.int32)
        return np.concatenate([known, block.tokens, rest, self._answer.suffix]).astype(np.int32)
