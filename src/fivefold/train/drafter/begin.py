"""How a drafter begins: which tokens its head knows, and its first numbers.

Norms of the taps begin so that each number of a tapped state has about the same size: a few of them are a
hundred times the others, and would hide them for many steps. Rows begin small, as what layers add to them is.
The last norm is the model's own, for so is the head. All else is drawn.
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
        states = hidden[:, number]
        normed = states / np.sqrt(np.square(states).mean(1, keepdims=True) + frame.eps)
        sizes = np.sqrt(np.square(normed).mean(0))
        made[f"tap.{number}"] = np.clip(1.0 / np.maximum(sizes, 1e-6), _SMALLEST, _LARGEST).astype(np.float32)
    made["embed"] = np.full(shape.hidden, BEGUN, np.float32)
    made["norm"] = frame.norm.astype(np.float32)
    if shape.form == "block":
        made[SLOTS] = drawn((shape.slots, shape.hidden), BEGUN / 2)
    return made
