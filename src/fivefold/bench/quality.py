"""Quality of a model on a text: perplexity, and the distance of its distributions to a reference's.

Windows of a fixed size, each scored alone; the first positions of each may be left out of the figures,
as llama-perplexity leaves out the first half. KL is from the reference to the model, in nats a position;
standard errors are over positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fivefold.core.batch import Float32
from fivefold.core.errors import InputError
from fivefold.core.runner import Runner
from fivefold.engine import score, windows

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of a text; the last four are None without a reference."""

    positions: int
    perplexity: float
    perplexity_error: float
    mean_kl: float | None = None
    mean_kl_error: float | None = None
    top1_agreement: float | None = None
    top1_agreement_error: float | None = None


def measure_quality(
    runner: Runner,
    tokens: Sequence[int],
    size: int,
    reference: Runner | None = None,
    most: int = 0,
    skip: int = 0,
) -> Quality:
    """Score `tokens` in windows of `size` but for their first `skip` positions; at most `most` (0: all)."""
    losses: list[Float64] = []
    distances: list[Float64] = []
    agreements: list[Float64] = []
    for window in _bounded(windows(tokens, size), most, skip):
        logits = log_softmax(score(runner, window)[skip:])
        targets = np.array(window[1 + skip :])
        losses.append(-logits[np.arange(len(targets)), targets])
        if reference is not None:
            against = log_softmax(score(reference, window)[skip:])
            distances.append(np.sum(np.exp(against) * (against - logits), axis=1))
            agreements.append((logits.argmax(axis=1) == against.argmax(axis=1)).astype(np.float64))
    if not losses:
        raise InputError(f"the text has {len(tokens)} tokens, so no position to score", where="--text",
                         remedy="give a longer text")  # fmt: skip
    loss = np.concatenate(losses)
    mean, error = _mean(loss)
    figures = (len(loss), float(np.exp(mean)), float(np.exp(mean)) * error)
    if reference is None:
        return Quality(*figures)
    return Quality(*figures, *_mean(np.concatenate(distances)), *_mean(np.concatenate(agreements)))


def _bounded(parts: Iterator[tuple[int, ...]], most: int, skip: int) -> Iterator[tuple[int, ...]]:
    """Windows with more than `skip` positions, the last one cut so that at most `most` are scored."""
    left = most or 1 << 62
    for part in parts:
        if left < 1:
            return
        window = part[: left + skip + 1]
        if len(window) > skip + 1:
            yield window
            left -= len(window) - skip - 1


def log_softmax(logits: Float32) -> Float64:
    """Row-wise, in float64."""
    wide: Float64 = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return wide


def _mean(values: Float64) -> tuple[float, float]:
    """Mean and its standard error."""
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return float(values.mean()), spread / float(np.sqrt(len(values)))
