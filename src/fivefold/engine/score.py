"""Reading a text outside of an engine: into a sequence, or to score it, which is the model's distribution at
each position, in windows that fit its context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fivefold.core.batch import LOGITS, Commit, Float32, Int32, Span, Step
from fivefold.core.errors import NotFiniteError
from fivefold.core.runner import Runner


def windows(tokens: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """Consecutive windows of `size` tokens; a last one of a single token is left out."""
    for begin in range(0, len(tokens) - 1, size):
        part = tuple(tokens[begin : begin + size])
        if len(part) > 1:
            yield part


def read_prompt(runner: Runner, sequence: int, tokens: Int32, start: int = 0) -> Float32:
    """Run tokens into a sequence in chunks, from position `start` on; the logits of the last, (1, V)."""
    logits: Float32 = np.zeros((0, 0), np.float32)
    for first in range(0, len(tokens), runner.max_rows):
        part = tokens[first : first + runner.max_rows]
        logits = runner.run(Step((Span.causal(sequence, part, start + first),)))
        runner.commit([Commit(sequence, np.arange(len(part), dtype=np.int32))])
    return logits


def score(runner: Runner, window: Sequence[int]) -> Float32:
    """Logits (T - 1, V) after each token of the window but the last, in chunks the runner takes.

    NotFiniteError if one is NaN or infinite.
    """
    return np.concatenate([chunk.copy() for chunk in score_in_chunks(runner, window, runner.max_rows)])


def score_in_chunks(runner: Runner, window: Sequence[int], rows: int) -> Iterator[Float32]:
    """The same, `rows` rows at a time; what is given lasts until the next is asked for.

    Close the iterator if it is not read to its end: it holds a sequence of the runner.
    """
    sequence = runner.open()
    try:
        tokens = np.array(window[:-1], np.int32)
        for begin in range(0, len(tokens), rows):
            part = tokens[begin : begin + rows]
            wanted = np.arange(len(part), dtype=np.int32)
            span = Span.causal(sequence, part, begin, wanted)
            assert LOGITS in span.row_sets
            logits = runner.run(Step((span,)), copy=False)
            if not np.isfinite(logits).all():
                raise NotFiniteError("the logits are not finite")
            yield logits
            runner.commit((Commit(sequence, wanted),))
    finally:
        runner.close(sequence)
