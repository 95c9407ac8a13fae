"""Generation by diffusion as the papers say it, over whole sequences: what decoders must equal.

Greedy, with the rules that these families have by default. Open positions are kept as flags here too, and the
mask token is never chosen. Nothing of fivefold.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from diffusion_models import MASK, Entries, Float32, PlainModel

Fill = Callable[[dict[int, Float32]], dict[int, int]]
"""From logits of open places to tokens of those that are filled."""


def best_token(row: Float32) -> int:
    without = row.copy()
    without[MASK] = -np.inf
    return int(without.argmax())


def confidence(row: Float32) -> float:
    """The model's own probability of the best token that is not the mask."""
    raised = np.exp(row.astype(np.float64) - row.max())
    return float(raised[best_token(row)] / raised.sum())


def drawn_confidence(row: Float32) -> float:
    """Its probability among those that can be drawn, which the mask cannot."""
    wide = np.delete(row.astype(np.float64), MASK)
    raised = np.exp(wide - wide.max())
    return float(raised.max() / raised.sum())


def entropy(row: Float32) -> float:
    raised = np.exp(row.astype(np.float64) - row.max())
    shares = raised / raised.sum()
    return float(-(shares * np.log(np.maximum(shares, 1e-300))).sum())


def above(threshold: float, sureness: Callable[[Float32], float] = confidence) -> Fill:
    """All places that are sure, and the surest in any case."""

    def fill(rows: dict[int, Float32]) -> dict[int, int]:
        surest = max(rows, key=lambda place: sureness(rows[place]))
        chosen = {surest} | {place for place, row in rows.items() if sureness(row) > threshold}
        return {place: best_token(rows[place]) for place in chosen}

    return fill


def one_by_one(rows: dict[int, Float32]) -> dict[int, int]:
    """LLaDA with a step for each token."""
    surest = max(rows, key=lambda place: confidence(rows[place]))
    return {surest: best_token(rows[surest])}


def near_and_low(rows: dict[int, Float32]) -> dict[int, int]:
    """WeDLM: entropy with a penalty for distance below 0.4, or the least."""
    first = min(rows)
    score = {place: entropy(row) + 0.02 * (place - first) for place, row in rows.items()}
    chosen = [place for place in rows if score[place] < 0.4] or [min(rows, key=lambda place: score[place])]
    return {place: best_token(rows[place]) for place in chosen}


def dream_schedule(steps: int) -> Fill:
    """The lowest entropies, as many as the time between steps has; it remembers the step. Steps that fill
    nothing would see the same logits again, so they are gone through at once."""
    times, step = np.linspace(1, 1e-3, steps + 1), [0]

    def fill(rows: dict[int, Float32]) -> dict[int, int]:
        count = 0
        while not count:
            now = step[0]
            count = len(rows) if now == steps - 1 else int(len(rows) * (1 - times[now + 1] / times[now]))
            step[0] += 1
        ranked = sorted(rows, key=lambda place: entropy(np.delete(rows[place], MASK)))
        return {place: best_token(rows[place]) for place in ranked[:count]}

    return fill


def by_blocks(
    model: PlainModel,
    prompt: list[int],
    count: int,
    fill: Fill,
    size: int,
    shifted: bool = False,
    part: int = 0,
) -> list[int]:
    """SDAR and Fast-dLLM v2: rows see their own block and all before; blocks one after the other."""
    text, known = list(prompt), len(prompt)
    while known < len(prompt) + count:
        end = (known // size + 1) * size
        text += [MASK] * (end - known)
        open_ = set(range(known, end))
        block = np.arange(end) // size
        sees = block[None, :] <= block[:, None]
        while open_:
            logits = model.logits(text, list(range(end)), sees)
            rows = {place: logits[place - shifted] for place in open_}
            if shifted and known % size == 0 and known in open_:
                rows = {known: rows[known]}  # the row before it has its final entry already
            elif part:
                first = min(open_) // part
                rows = {place: row for place, row in rows.items() if place // part == first}
            for place, token in fill(rows).items():
                text[place] = token
                open_.remove(place)
        known = end
    return text[len(prompt) :][:count]


def by_whole(
    model: PlainModel, prompt: list[int], count: int, make: Callable[[], Fill], size: int, shifted: bool
) -> list[int]:
    """LLaDA and Dream: every row sees every row; blocks of the answer are filled one after the other."""
    end = len(prompt) + count
    text = [*prompt, *[MASK] * count]
    for begin in range(len(prompt), end, size or count):
        fill, open_ = make(), set(range(begin, min(begin + (size or count), end)))
        while open_:
            logits = model.logits(text, list(range(end)), np.ones((end, end), bool))
            for place, token in fill({place: logits[place - shifted] for place in open_}).items():
                text[place] = token
                open_.remove(place)
    return text[len(prompt) :]


def by_whole_kept(
    model: PlainModel, prompt: list[int], count: int, make: Callable[[], Fill], shape: tuple[int, bool],
    dual: bool, suffix: tuple[int, ...] = (),
) -> list[int]:  # fmt: skip
    """Fast-dLLM's prefix cache and dual cache for LLaDA and Dream (shifted): a whole pass when a block
    begins, then its rows (dual), or those from it on, against keys and values of that pass."""
    (size, shifted), end = shape, len(prompt) + count
    text = [*prompt, *[MASK] * count, *suffix]
    for begin in range(len(prompt), end, size):
        fill, stop, entries = make(), min(begin + size, end), Entries()
        open_, last = set(range(begin, stop)), stop if dual else len(text)
        everything = list(range(len(text)))
        logits = model.logits(text, everything, np.ones((len(text), len(text)), bool), note=entries)
        if shifted:
            found = {begin: best_token(logits[begin - 1])}
        else:
            found = fill({place: logits[place] for place in open_})
        outside = [place for place in everything if not begin <= place < last]
        kept: Entries = {layer: (k[outside], v[outside]) for layer, (k, v) in entries.items()}
        while True:
            for place, token in found.items():
                text[place] = token
                open_.remove(place)
            if not open_:
                break
            rows = range(begin, last)
            sees = np.ones((len(rows), len(rows)), bool)
            logits = model.logits(text[begin:last], list(rows), sees, kept)
            found = fill({place: logits[place - begin - shifted] for place in open_})
    return text[len(prompt) : end]


def by_window(model: PlainModel, prompt: list[int], count: int, size: int) -> list[int]:
    """WeDLM: what is filled runs first, masks last, causally, at the positions of the text."""
    text: dict[int, int] = dict(enumerate(prompt))
    end, front = len(prompt) + count, len(prompt)
    open_ = set(range(front, min(front + size, end)))
    while open_:
        order = [*sorted(text), *sorted(open_)]
        logits = model.logits(
            [text.get(place, MASK) for place in order], order, np.tri(len(order), dtype=bool)
        )
        rows = {place: logits[order.index(place)] for place in open_}
        for place, token in near_and_low(rows).items():
            text[place] = token
            open_.remove(place)
        begin = max([*text, *open_]) + 1
        while front in text:
            front += 1
            if begin < end:
                open_.add(begin)
                begin += 1
    return [text[place] for place in range(len(prompt), end)]
