"""How a drafter begins: which tokens its head knows, and its first numbers.

It begins as the best guess without any layer: what is known of a token is the model's last state, and two
matrices, which least squares find, bring it and the next token near to the state that the model will have
there. That alone guesses more tokens rightly than hundreds of steps from drawn numbers. What layers add
begins at nothing. Norms begin so that each number of a tapped state and of an embedding counts alike: a few
of them are a hundred times the others, and would hide them for many steps. Other matrices are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fivefold.core.batch import Float32, Int32
from fivefold.core.drafter import DrafterShape

from .conversations import Conversation
from .network import SLOTS, Frame

SPREAD = 0.02
"""Standard deviation of the slots' vectors."""

OTHERS = 0.1
"""What taps but the last count at first."""

RIDGE = 3e-3
"""Of the squares' mean: what the least squares begin with."""

_SMALLEST, _LARGEST = 0.02, 50.0


def frequent_tokens(conversations: Sequence[Conversation], vocabulary: int, count: int) -> Int32:
    """(count,) the tokens that were written most often, ascending; if too few were, low numbers too."""
    seen = np.zeros(vocabulary, np.int64)
    for one in conversations:
        seen += np.bincount(one.tokens[one.prompt :], minlength=vocabulary)
    chosen = np.argsort(-seen, kind="stable")[:count]
    return np.sort(chosen).astype(np.int32)


def begin(
    shape: DrafterShape, frame: Frame, conversations: Sequence[tuple[Int32, Float32]], seed: int
) -> dict[str, Float32]:
    """First numbers by name, from some conversations: tokens (T,) and tapped states (T - 1, taps, hidden)."""
    random = np.random.default_rng([seed, 1])

    def drawn(dimensions: tuple[int, ...], spread: float) -> Float32:
        return (spread * random.standard_normal(dimensions)).astype(np.float32)

    made: dict[str, Float32] = {}
    for name, dimensions in shape.weights().items():
        if len(dimensions) == 1:
            made[name] = np.ones(dimensions, np.float32)
        elif name.endswith((".o", ".down")):
            made[name] = np.zeros(dimensions, np.float32)
        else:
            made[name] = drawn(dimensions, dimensions[1] ** -0.5)
    states = np.concatenate([hidden for _, hidden in conversations])
    for number in range(len(shape.taps)):
        made[f"tap.{number}"] = _evened(_normed(states[:, number], frame.eps))
    last = len(shape.taps) - 1
    made["fc"] *= OTHERS
    made["fc"][:, last * shape.hidden :] += np.eye(shape.hidden, dtype=np.float32)
    made["embed"] = _evened(_normed(frame.table, frame.eps))
    made["norm"] = frame.norm.copy()
    if shape.form == "serial":
        made["feature"] = made[f"tap.{last}"].copy()
    else:
        made[SLOTS] = drawn((shape.slots, shape.hidden), SPREAD)
    made["last"], made["token"] = _solved(made, frame, conversations)
    return made


def _solved(
    made: Mapping[str, Float32], frame: Frame, conversations: Sequence[tuple[Int32, Float32]]
) -> tuple[Float32, Float32]:
    """The two matrices that bring a token and what is known of the one before it nearest to the model's last
    state at that token, by least squares."""
    rows, wanted = [], []
    for tokens, hidden in conversations:
        count = hidden.shape[1]
        taps = [_normed(hidden[:, number], frame.eps) * made[f"tap.{number}"] for number in range(count)]
        context = _normed(np.concatenate(taps, 1) @ made["fc"].T, frame.eps) * made["context"]
        embedded = _normed(frame.table[tokens[1 : len(hidden)]], frame.eps) * made["embed"]
        rows.append(np.concatenate([context[:-1], embedded], 1))
        wanted.append(_normed(hidden[1:, -1], frame.eps))
    x, y = np.concatenate(rows).astype(np.float64), np.concatenate(wanted).astype(np.float64)
    square = x.T @ x
    square += RIDGE * square.diagonal().mean() * np.eye(len(square))
    solved = np.linalg.solve(square, x.T @ y).T.astype(np.float32)
    hidden_size = solved.shape[1] // 2
    return np.ascontiguousarray(solved[:, :hidden_size]), np.ascontiguousarray(solved[:, hidden_size:])


def _normed(rows: Float32, eps: float) -> Float32:
    normed: Float32 = rows / np.sqrt(np.square(rows).mean(1, keepdims=True) + np.float32(eps))
    return normed


def _evened(rows: Float32) -> Float32:
    """(hidden,) factors that give each number of the rows the size 1, within bounds."""
    sizes = np.sqrt(np.square(rows).mean(0, dtype=np.float64))
    factors: Float32 = np.clip(1.0 / np.maximum(sizes, 1e-6), _SMALLEST, _LARGEST).astype(np.float32)
    return factors
