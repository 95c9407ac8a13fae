"""Block diffusion: a block sees itself and all before it, and stays in the cache once it is finished.

Blocks lie on a grid from position 0. A whole block of known tokens is run once and kept: those of the
prompt, and each finished one (its clean pass), which is the same to this decoder. The block behind them is
the canvas: its rows run again and again, and nothing of them is kept, until its tokens are final. Where a
step has room for it, the first rows of the next canvas run beside the clean pass before it. A prompt that
ends within a block gives the canvas its first tokens.

With shifted logits (Fast-dLLM v2) the row before a position speaks for it. The first token of a canvas then
comes from the clean pass of the block before, so these two cannot run together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fivefold.core.batch import LOGITS, Commit, Float32, Int32, Span
from fivefold.core.decoder import Decision
from fivefold.core.diffusion import Provisional

from .answer import Answer
from .block import Block


@dataclass(frozen=True, slots=True)
class _Plan:
    """What was proposed: rows to keep, whether the last of them gives the next canvas its first token, and
    the places of the canvas that logits are for, if it is there."""

    kept: int
    seeds: bool
    places: Int32 | None


class BlockDecoder:
    """One sequence, denoised block by block. See `core.decoder.Decoder` for the contract."""

    def __init__(self, sequence: int, answer: Answer) -> None:
        self._sequence = sequence
        self._answer = answer
        self._size = answer.rules.block
        self._committed = 0
        self._block: Block | None = None
        self._plan: _Plan | None = None

    @property
    def tokens(self) -> Sequence[int]:
        """The prompt and the finished blocks."""
        return self._answer.tokens

    @property
    def committed(self) -> int:
        """Tokens whose entries are in the cache; they end with a block."""
        return self._committed

    @property
    def least_rows(self) -> int:
        """A block is run as a whole or not at all."""
        return self._size

    @property
    def reading(self) -> bool:
        """Whether whole blocks of the prompt are left to run, more than a clean pass has."""
        return self._start - self._committed > self._size

    @property
    def apart(self) -> bool:
        """Rows see the whole of their block."""
        return True

    @property
    def provisional(self) -> Provisional | None:
        """The block in flight, if there is one."""
        return None if self._block is None else self._answer.provisional(self._start, self._block)

    @property
    def _start(self) -> int:
        """Where the canvas is: behind the last whole block of known tokens."""
        return len(self.tokens) // self._size * self._size

    def resume(self, cached: int) -> int:
        """Build on the whole blocks among `cached` entries; the block in flight stays as it is.

        The block before a canvas runs again where its logits are needed to begin.
        """
        if cached < 0:
            raise ValueError(f"{cached} cached entries")
        usable = min(cached, self._start) // self._size * self._size
        if self._needs_seed and usable == self._start:
            usable -= self._size
        self._committed = usable
        self._plan = None
        return usable

    def propose(self, limit: int) -> Span | None:
        """Whole blocks that are known, as many as `limit` allows, and behind the last of them the canvas."""
        size, known = self._size, self._start - self._committed
        kept = min(known, limit // size * size)
        if limit < size:
            return None
        seeds = self._needs_seed and kept == known
        canvas = kept == known and not seeds and limit >= kept + size
        if canvas and self._block is None:
            self._block = self._begin(())
        block = self._block if canvas else None
        rows = np.array(self.tokens[self._committed : self._committed + kept], np.int32)
        if block is None:
            self._plan = _Plan(kept, seeds, None)
            return self._span(rows, np.array([kept - 1] if seeds else [], np.int32))
        places = self._answer.asked(block)
        self._plan = _Plan(kept, seeds, places)
        rows = np.concatenate([rows, block.tokens]) if kept else block.tokens
        return self._span(rows, places + np.int32(kept - self._answer.rules.shifted))

    def decide(self, logits: Float32) -> Decision:
        """Keep the rows of known blocks; denoise the canvas by (R, V) logits, a row for each place."""
        plan, self._plan = self._plan, None
        if plan is None:
            raise RuntimeError("decide without propose")
        wanted = int(plan.seeds) if plan.places is None else len(plan.places)
        if len(logits) != wanted:
            raise ValueError(f"{len(logits)} rows of logits, {wanted} were asked for")
        commit = Commit(self._sequence, np.arange(plan.kept, dtype=np.int32))
        start = self._start
        if plan.seeds:
            self._block = self._begin((self._answer.seed(start, logits[0]),))
        self._committed += plan.kept
        if plan.places is None:
            return Decision(commit)
        assert self._block is not None
        self._block = self._answer.denoised(start, self._block, plan.places, logits)
        if not self._answer.over(start, self._block):
            return Decision(commit)
        fresh = self._block.tokens[len(self.tokens) - start :]
        self._block = None
        return self._answer.finish(fresh, commit)

    @property
    def _needs_seed(self) -> bool:
        """Whether the canvas must wait for a token from the row before it."""
        return self._answer.rules.shifted and self._block is None and self._start == len(self.tokens)

    def _begin(self, seed: tuple[int, ...]) -> Block:
        start = self._start
        given = np.array([*self.tokens[start:], *seed], np.int32)
        return self._answer.block(start, self._size, given)

    def _span(self, tokens: Int32, wanted: Int32) -> Span:
        """Rows from the first that is not in the cache; each sees its block and all before."""
        positions = np.arange(self._committed, self._committed + len(tokens), dtype=np.int32)
        visible = np.zeros((len(tokens), 2), np.int32)
        visible[:, 1] = (positions // self._size + 1) * self._size
        return Span(self._sequence, tokens, positions, visible, row_sets={LOGITS: wanted})
