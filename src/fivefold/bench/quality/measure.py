"""One pass over a text: each window scored by the reference once, and by every model.

Windows of a fixed size, each scored alone; the first positions of each may be left out of the figures,
as llama-perplexity leaves out the first half. All models read a window in the same chunks, so that what
is held of it is one chunk's logits, whatever the window's size and the number of models.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing

import numpy as np

from fivefold.core.batch import Float32
from fivefold.core.errors import InputError, NotFiniteError
from fivefold.core.runner import Runner
from fivefold.engine import score_in_chunks, windows

from .distance import compare
from .sums import Quality, Tallies, Tally

Window = tuple[int, ...]
Named = tuple[str, Runner]


def measure_quality(
    runner: Runner,
    tokens: Sequence[int],
    size: int,
    reference: Runner | None = None,
    most: int = 0,
    skip: int = 0,
) -> Quality:
    """Score `tokens` in windows of `size` but for their first `skip` positions; at most `most` (0: all)."""
    tallies = Tallies([Tally()])
    against = None if reference is None else ("", reference)
    go_on(tallies, [("", runner)], text_windows(tokens, size, most, skip), skip, against)
    return tallies.models[0].figures(tallies.reference)


def text_windows(tokens: Sequence[int], size: int, most: int = 0, skip: int = 0) -> list[Window]:
    """Windows with more than `skip` positions, the last one cut so that at most `most` (0: all) are scored.

    InputError if there is none.
    """
    found = list(_bounded(windows(tokens, size), most, skip))
    if not found:
        raise InputError(f"the text has {len(tokens)} tokens, so no position to score", where="--text",
                         remedy="give a longer text")  # fmt: skip
    return found


def _bounded(parts: Iterator[Window], most: int, skip: int) -> Iterator[Window]:
    left = most or 1 << 62
    for part in parts:
        if left < 1:
            return
        window = part[: left + skip + 1]
        if len(window) > skip + 1:
            yield window
            left -= len(window) - skip - 1


def go_on(
    tallies: Tallies,
    models: Sequence[Named],
    text: Sequence[Window],
    skip: int,
    reference: Named | None = None,
    after: Callable[[Tallies], None] = lambda tallies: None,
) -> None:
    """Score the windows that `tallies` has not seen; `after` is called after each, when they are whole.

    NotFiniteError names the model whose logits are not finite.
    """
    for window in text[tallies.windows :]:
        _score_window(tallies, models, window, skip, reference)
        tallies.windows += 1
        after(tallies)


def _score_window(
    tallies: Tallies, models: Sequence[Named], window: Window, skip: int, reference: Named | None
) -> None:
    named = [*models, *([] if reference is None else [reference])]
    rows = min(runner.max_rows for _, runner in named)
    targets = np.array(window[1:], np.int64)
    with ExitStack() as stack:
        chunks = [stack.enter_context(closing(_chunks(each, window, rows))) for each in named]
        for begin in range(0, len(targets), rows):
            logits = [next(each)[max(skip - begin, 0) :] for each in chunks]
            against = logits.pop() if reference is not None else None
            found, base = compare(logits, against, targets[max(begin, skip) : begin + rows])
            for tally, each in zip(tallies.models, found, strict=True):
                tally.add(each, base if reference is not None else None)
            if reference is not None:
                tallies.reference.add(base.losses)


def _chunks(named: Named, window: Window, rows: int) -> Generator[Float32, None, None]:
    name, runner = named
    try:
        yield from score_in_chunks(runner, window, rows)
    except NotFiniteError as error:
        raise (error.of(name) if name else error) from None
