"""Diffusion with causal rows: what is filled comes first, what is open last, and the front is kept.

WeDLM (arXiv 2512.22737). A window of open positions lies behind the final tokens. Its rows run in another
order than their positions: first the tokens that are filled, then the masks, each group from the left; a
row sees those that ran before it, wherever they stand in the text. So every mask sees all that is filled,
and a filled token whose predecessors are all filled sees just these: its entry is the one that it will
always have, and is kept. There is no clean pass. Tokens are final as soon as nothing before them is open;
then the window moves on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fivefold.core.batch import LOGITS, Commit, Float32, Int32, Span
from fivefold.core.decoder import Decision
from fivefold.core.diffusion import Provisional

from .answer import Answer
from .block import Block

_NONE = np.zeros(0, np.int32)


class WindowDecoder:
    """One sequence with a moving window. See `core.decoder.Decoder` for the contract."""

    def __init__(self, sequence: int, answer: Answer) -> None:
        self._sequence = sequence
        self._answer = answer
        self._committed = 0
        self._block = self._refilled(answer.block(len(answer.tokens), 0, _NONE))
        self._plan: tuple[int, Int32 | None] | None = None

    @property
    def tokens(self) -> Sequence[int]:
        """The prompt and all tokens before which nothing is open."""
        return self._answer.tokens

    @property
    def committed(self) -> int:
        """Tokens whose entries are in the cache."""
        return self._committed

    @property
    def least_rows(self) -> int:
        """The window is run as a whole."""
        return self._answer.rules.block

    @property
    def reading(self) -> bool:
        """Whether more of the text is left to run than the window has just made final."""
        return len(self.tokens) - self._committed > self._answer.rules.block

    @property
    def apart(self) -> bool:
        """Final tokens are read one after the other, as everywhere."""
        return False

    @property
    def provisional(self) -> Provisional | None:
        """The window."""
        return self._answer.provisional(len(self.tokens), self._block)

    def resume(self, cached: int) -> int:
        """Build on `cached` entries; the window stays as it is."""
        if cached < 0:
            raise ValueError(f"{cached} cached entries")
        self._committed = min(cached, len(self.tokens))
        self._plan = None
        return self._committed

    def propose(self, limit: int) -> Span | None:
        """Final tokens that are not in the cache, and behind them the window if `limit` allows all of it."""
        known, block = len(self.tokens) - self._committed, self._block
        if limit < known + len(block.tokens):
            kept = min(known, limit)
            if kept == 0:
                return None
            self._plan = kept, None
            chunk = np.array(self.tokens[self._committed : self._committed + kept], np.int32)
            return Span.causal(self._sequence, chunk, self._committed, _NONE)
        order = np.concatenate([np.flatnonzero(~block.masked), np.flatnonzero(block.masked)])
        places = self._answer.asked(block)
        self._plan = known, places
        tokens = np.array([*self.tokens[self._committed :], *block.tokens[order]], np.int32)
        positions = np.concatenate([np.arange(known), known + order]).astype(np.int32) + self._committed
        visible = np.tile(np.array([0, self._committed + len(tokens)], np.int32), (len(tokens), 1))
        wanted = known + np.flatnonzero(np.isin(order, places)).astype(np.int32)
        return Span(
            self._sequence, tokens, positions, visible, np.tri(len(tokens), dtype=np.bool_), {LOGITS: wanted}
        )

    def decide(self, logits: Float32) -> Decision:
        """Keep the rows of final tokens; fill the window by (R, V) logits, for a row each that was wanted."""
        if self._plan is None:
            raise RuntimeError("decide without propose")
        (kept, places), self._plan = self._plan, None
        if len(logits) != (0 if places is None else len(places)):
            raise ValueError(f"{len(logits)} rows of logits, {places} were asked for")
        commit = Commit(self._sequence, np.arange(kept, dtype=np.int32))
        self._committed += kept
        if places is None:
            return Decision(commit)
        block = self._answer.denoised(len(self.tokens), self._block, places, logits)
        front = len(block.tokens) if block.done else int(block.masked.argmax())
        decision = self._answer.finish(block.tokens[:front], commit)
        if decision.done is None:
            self._block = self._refilled(_from(block, front))
        return decision

    def _refilled(self, block: Block) -> Block:
        """The window with masks at its end, as many as its size or the answer has room for."""
        start = len(self.tokens) + len(block.tokens)
        more = min(self._answer.rules.block - len(block.tokens), self._answer.end - start)
        fresh = self._answer.block(start, max(more, 0), _NONE)
        masked = np.concatenate([block.masked, fresh.masked])
        return replace(
            block,
            tokens=np.concatenate([block.tokens, fresh.tokens]),
            masked=masked,
            given=np.concatenate([block.given, fresh.given]),
            masks=int(masked.sum()),
            done=False,
        )


def _from(block: Block, place: int) -> Block:
    """What is left of a window behind its front."""
    return replace(block, tokens=block.tokens[place:], masked=block.masked[place:], given=block.given[place:])
