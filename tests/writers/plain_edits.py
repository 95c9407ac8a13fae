"""Edits of a span as they are described, over whole sequences: what decoders must equal.

Greedy. Rows see all of the text (LLaDA, Dream: shifted), or their block and what is before it (SDAR,
LLaDA2.x).
Nothing of fivefold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from diffusion_models import MASK, Float32, PlainModel
from plain_diffusion import Fill, best_token, drawn_confidence


@dataclass(frozen=True)
class Span:
    """A text before, what stands in the span, how long the answer may be, and the text behind."""

    prompt: list[int]
    standing: list[int]
    count: int
    suffix: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sight:
    """Blocks of `size`, from the answer's first position where rows see all, else from position 0."""

    size: int
    everything: bool
    shifted: bool = False

    def blocks(self, first: int, end: int) -> list[tuple[int, int, int]]:
        """(first open position, end of the block, end of what its rows see)."""
        if self.everything:
            return [(at, min(at + self.size, end), end) for at in range(first, end, self.size)]
        found, at = [], first
        while at < end:
            stop = (at // self.size + 1) * self.size
            found.append((at, stop, stop))
            at = stop
        return found


def rows_of(
    model: PlainModel, text: list[int], sight: Sight, until: int, wanted: Sequence[int]
) -> dict[int, Float32]:
    """Logits of some positions."""
    end = len(text) if sight.everything else until
    block = np.arange(end) // sight.size
    sees = np.ones((end, end), bool) if sight.everything else block[None, :] <= block[:, None]
    logits = model.logits(text[:end], list(range(end)), sees)
    return {place: logits[place - sight.shifted] for place in wanted}


def _text(span: Span, sight: Sight) -> list[int]:
    text = [*span.prompt, *span.standing, *[MASK] * (span.count - len(span.standing)), *span.suffix]
    return text + [MASK] * (0 if sight.everything else -len(text) % sight.size)


def _likely(row: Float32, token: int) -> float:
    raised = np.exp(row.astype(np.float64) - row.max())
    return float(raised[token] / raised.sum())


def rewritten(
    model: PlainModel, span: Span, sight: Sight, share: float, make: Callable[[], Fill]
) -> list[int]:
    """The least likely of what stands in each block is masked after one pass, and filled as masks are."""
    text, first = _text(span, sight), len(span.prompt)
    standing = range(first, first + len(span.standing))
    for begin, stop, until in sight.blocks(first, first + span.count):
        fill, open_ = make(), {place for place in range(begin, stop) if place not in standing}
        here = [place for place in range(begin, stop) if place in standing]
        if here:
            rows = rows_of(model, text, sight, until, here)
            ranked = sorted(here, key=lambda place: _likely(rows[place], text[place]))
            for place in ranked[: math.ceil(share * len(here))]:
                text[place] = MASK
                open_.add(place)
        while open_:
            for place, token in fill(rows_of(model, text, sight, until, sorted(open_))).items():
                text[place] = token
                open_.remove(place)
    return text[first:][: span.count]


def put_right(
    model: PlainModel, span: Span, sight: Sight, threshold: float, editing: float, most: int = 16
) -> list[int]:
    """LLaDA2.1's editing (arXiv 2602.08676): each pass fills masks that are sure (and one in any case), and
    changes filled places that are surely another; until one changes nothing, or `most` after the last
    mask."""
    text, first = _text(span, sight), len(span.prompt)
    standing = range(first, first + len(span.standing))
    for begin, stop, until in sight.blocks(first, first + span.count):
        open_, settled = {place for place in range(begin, stop) if place not in standing}, 0
        while True:
            rows = rows_of(model, text, sight, until, range(begin, stop))
            sure = {place: drawn_confidence(row) for place, row in rows.items()}
            best = {place: best_token(row) for place, row in rows.items()}
            none_open = not open_
            fills = {place for place in open_ if sure[place] > threshold}
            if open_ and not fills:
                fills = {max(sorted(open_), key=lambda place: sure[place])}
            edits = {
                place for place in range(begin, stop)
                if place not in open_ and sure[place] > editing and best[place] != text[place]
            }  # fmt: skip
            for place in fills | edits:
                text[place] = best[place]
            open_ -= fills
            settled += none_open
            if not open_ and ((none_open and not edits) or settled >= most):
                break
    return text[first:][: span.count]
