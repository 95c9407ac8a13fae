"""How a drafter begins: which tokens its head knows, and its first numbers.

Norms begin so that each number of a tapped state, of an embedding and of a row of the head counts alike: a
few of them are a hundred times the others, and would hide them for many steps. Rows begin small, as what
layers add to them is, and logits begin with a deviation of about 1. Matrices are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fivefold.core.batch import Float32, Int32
from fivefold.core.drafter import DrafterShape

from .conversations import Conversation
from .network import SLOTS, Frame

SPREAD = 0.02
"""Standard deviation of the matrices of layers."""

BEGUN = 0.1
"""Of rows before the first layer: about what a layer of such matrices adds to them."""

_SMALLEST, _LARGEST = 0.02, 50.0


def frequent_tokens(conversations: Sequence[Conversation], vocabulary: int, count: int) -> Int32:
    """(count,) the tokens that were written most often, ascending; if too few were, low numbers too."""
    seen = np.zeros(vocabulary, np.int64)
    for one in conversations:
        seen += np.bincount(one.tokens[one.prompt :], minlength=vocabulary)
    chosen = np.argsort(-seen, kind="stable")[:count]
    return np.sort(chosen).astype(np.int32)


def begin(shape: DrafterShape, frame: Frame, hidden: Float32, seed: int) -> dict[str, Float32]:
    """First numbers by name; `hidden` (C, taps, hidden) are some tapped states."""
    random = np.random.default_rng([seed, 1])

    def drawn(dimensions: tuple[int, ...], spread: float) -> Float32:
        return (spread * random.standard_normal(dimensions)).astype(np.float32)

    made: dict[str, Float32] = {}
    for name, dimensions in shape.weights().items():
        if len(dimensions) == 1:
            made[name] = np.ones(dimensions, np.float32)
        else:
            inner = dimensions[1] ** -0.5 if name == "fc" else SPREAD
            made[name] = drawn(dimensions, inner)
    for number in range(len(shape.taps)):
        made[f"tap.{number}"] = _evened(_normed(hidden[:, number], frame.eps))
    made["embed"] = BEGUN * _evened(_normed(frame.table, frame.eps))
    made["norm"] = _evened(frame.head) * np.float32(shape.hidden**-0.5)
    if shape.form == "block":
        made[SLOTS] = drawn((shape.slots, shape.hidden), BEGUN / 2)
    return made


def _normed(rows: Float32, eps: float) -> Float32:
    normed: Float32 = rows / np.sqrt(np.square(rows).mean(1, keepdims=True) + np.float32(eps))
    return normed


def _evened(rows: Float32) -> Float32:
    """(hidden,) factors that give each number of the rows the size 1, within bounds."""
    sizes = np.sqrt(np.square(rows).mean(0, dtype=np.float64))
    factors: Float32 = np.clip(1.0 / np.maximum(sizes, 1e-6), _SMALLEST, _LARGEST).astype(np.float32)
    return factors
