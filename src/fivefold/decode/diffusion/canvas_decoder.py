"""Canvas diffusion: what is final is causal, and a canvas behind it is denoised as a whole (DiffusionGemma).

Tokens of the prompt and of finished canvases run once, in parts of any size, as a model runs them that writes
token by token; their entries stay. The canvas begins behind the last of them, wherever that is. Its rows see
all entries and each other, the same entries in layers with a window: those that a row at the canvas's start
would see. They run again and again, and nothing of them is kept; when the canvas is done, its tokens run as
final ones, and where a step has room for it, the next canvas runs beside them.

A model that is conditioned by its last guess is given the probabilities of the step before; in a canvas's
first step there are none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fivefold.core.batch import CANVAS, LOGITS, SHARES, Commit, Float32, Int32, Span
from fivefold.core.decoder import Decision
from fivefold.core.diffusion import Provisional

from .answer import Answer
from .block import Block


class CanvasDecoder:
    """One sequence, denoised canvas by canvas. See `core.decoder.Decoder` for the contract."""

    def __init__(self, sequence: int, answer: Answer) -> None:
        self._sequence = sequence
        self._answer = answer
        self._size = answer.rules.block
        self._committed = 0
        self._block: Block | None = None
        self._proposed: tuple[int, bool] | None = None

    @property
    def tokens(self) -> Sequence[int]:
        """The prompt and the finished canvases."""
        return self._answer.tokens

    @property
    def committed(self) -> int:
        """Tokens whose entries are in the cache."""
        return self._committed

    @property
    def least_rows(self) -> int:
        """A canvas is run as a whole or not at all."""
        return self._size

    @property
    def reading(self) -> bool:
        """Whether more final tokens are left to run than a canvas leaves."""
        return len(self.tokens) - self._committed > self._size

    @property
    def apart(self) -> bool:
        """The entries are those of the same text read token by token."""
        return False

    @property
    def provisional(self) -> Provisional | None:
        """The canvas in flight, if there is one."""
        return None if self._block is None else self._answer.provisional(len(self.tokens), self._block)

    def resume(self, cached: int) -> int:
        """Build on all `cached` entries; the canvas in flight stays as it is."""
        if cached < 0:
            raise ValueError(f"{cached} cached entries")
        self._committed = min(cached, len(self.tokens))
        self._proposed = None
        return self._committed

    def propose(self, limit: int) -> Span | None:
        """Final tokens, as many as `limit` allows, and behind the last of them the canvas."""
        first, start = self._committed, len(self.tokens)
        final = min(start - first, limit)
        canvas = first + final == start and limit >= final + self._size
        if final < 1 and not canvas:
            return None
        self._proposed = final, canvas
        positions = np.arange(first, first + final + canvas * self._size, dtype=np.int32)
        tokens = np.array(self.tokens[first : first + final], np.int32)
        visible = np.zeros((len(positions), 2), np.int32)
        visible[:, 1] = positions + 1
        if not canvas:
            none = np.zeros(0, np.int32)
            return Span(self._sequence, tokens, positions, visible, row_sets={LOGITS: none})
        if self._block is None:
            self._block = self._answer.block(start, self._size, np.zeros(0, np.int32))
        visible[final:, 1] = start + self._size
        rows = np.arange(final, len(positions), dtype=np.int32)
        places = final + self._answer.asked(self._block)
        given, inputs = self._conditioning(self._block, rows)
        return Span(
            self._sequence, np.concatenate([tokens, self._block.tokens]), positions, visible,
            row_sets={LOGITS: places, **given}, inputs=inputs, window_at=np.minimum(positions, start),
        )  # fmt: skip

    def decide(self, logits: Float32) -> Decision:
        """Keep the rows of final tokens; denoise the canvas by (R, V) logits, a row for each place."""
        proposed, self._proposed = self._proposed, None
        if proposed is None:
            raise RuntimeError("decide without propose")
        final, canvas = proposed
        block = self._block if canvas else None
        places = np.zeros(0, np.int32) if block is None else self._answer.asked(block)
        if len(logits) != len(places):
            raise ValueError(f"{len(logits)} rows of logits, {len(places)} were asked for")
        commit = Commit(self._sequence, np.arange(final, dtype=np.int32))
        self._committed += final
        if block is None:
            return Decision(commit)
        start = len(self.tokens)
        self._block = self._answer.denoised(start, block, places, logits)
        if not self._answer.over(start, self._block):
            return Decision(commit)
        fresh = self._block.tokens
        self._block = None
        return self._answer.finish(fresh, commit)

    def _conditioning(self, block: Block, rows: Int32) -> tuple[dict[str, Int32], dict[str, Float32]]:
        """Row sets of the canvas's rows in a span, and the rows of numbers that these are given."""
        if not self._answer.rules.conditioned:
            return {}, {}
        if block.shares is None:
            return {CANVAS: rows}, {}
        return {CANVAS: rows, SHARES: rows}, {SHARES: block.shares}
