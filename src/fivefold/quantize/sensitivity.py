"""Which matrices deserve more bits: how far each moves the model's answers, and the best choice for a budget.

The distance is the mean KL divergence, in nats a position, of the answers with one matrix quantized from
those of the model as it is, measured on a text. With other formats it is taken to grow as that matrix's
squared error of outputs. Distances of several matrices are taken to add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import InputError
from fivefold.executor import Settings
from fivefold.program import Model, Program

from .moments import Float32
from .stream import Stream

BISECTIONS = 60


@dataclass(frozen=True, slots=True)
class Candidate:
    """A matrix in one format: the bytes it takes, and the distance that it is expected to add."""

    form: str
    size: int
    distance: float


def measure_sensitivity(
    model: Model,
    tensors: Mapping[str, Tensor],
    quantized: Mapping[str, Tensor],
    windows: Sequence[Sequence[int]],
    settings: Settings,
    told: Callable[[str], None] = lambda name: None,
) -> dict[str, float]:
    """The distance that each of the quantized matrices adds when it alone takes its place."""
    main = model.main
    last = main.layers[-1]
    first = _first_layers(main, quantized)
    stream = Stream(model, windows, settings)
    found: dict[str, float] = {}
    plain: list[Float32] | None = None
    for layer in main.layers:
        rest = stream.through(layer, last)
        if plain is None:
            plain = [log_softmax(rows) for rows in rest(tensors.__getitem__)]
        for name in [name for name, begins in first.items() if begins == layer]:
            swapped = {**tensors, name: quantized[name]}
            found[name] = _distance(plain, rest(swapped.__getitem__))
            told(name)
        if layer != last:
            stream.advance(layer, tensors.__getitem__)
    return found


def _first_layers(main: Program, names: Iterable[str]) -> dict[str, int]:
    """The layer from which on each weight matters; what stands before or behind all counts as the next."""
    behind = False
    found: dict[str, int] = {}
    wanted = set(names)
    for node in main.nodes:
        behind = behind or node.layer >= 0
        layer = node.layer if node.layer >= 0 else main.layers[-1 if behind else 0]
        for name in wanted & {weight for weight in node.weights if weight is not None}:
            found.setdefault(name, layer)
    return found


def log_softmax(logits: Float32) -> Float32:
    """Row by row."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    sums = np.exp(shifted).sum(axis=1, dtype=np.float64, keepdims=True)
    found: Float32 = (shifted - np.log(sums)).astype(np.float32)
    return found


def _distance(plain: Sequence[Float32], moved: Iterable[Float32]) -> float:
    total, count = 0.0, 0
    for before, rows in zip(plain, moved, strict=True):
        after = log_softmax(rows)
        total += float(np.einsum("nv,nv->", np.exp(before), before - after, dtype=np.float64))
        count += len(before)
    return total / count


def choose(options: Mapping[str, Sequence[Candidate]], budget: int) -> dict[str, Candidate]:
    """One candidate for each matrix, so that all fit into `budget` bytes and the distances add up to little.

    By a price for bytes, bisected between too dear and too cheap; what is left of the budget then goes to
    whatever gains most for its bytes. InputError if the smallest do not fit.
    """
    least = sum(min(each.size for each in candidates) for candidates in options.values())
    if least > budget:
        raise InputError(
            f"the matrices take {least} bytes at least", where=f"a budget of {budget} bytes",
            remedy="give more, or offer a smaller format",
        )  # fmt: skip

    def at(price: float) -> dict[str, Candidate]:
        return {
            name: min(candidates, key=lambda each: (each.distance + price * each.size, each.size))
            for name, candidates in options.items()
        }

    low, high = 0.0, 1.0
    if _size(at(low)) <= budget:
        return at(low)
    while _size(at(high)) > budget:
        high *= 2
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _size(at(middle)) > budget else (low, middle)
    chosen = at(high)
    left = budget - _size(chosen)
    gains = [
        ((now.distance - each.distance) / (each.size - now.size), name, each)
        for name, now in chosen.items()
        for each in options[name]
        if each.size > now.size and each.distance < now.distance
    ]
    for _, name, each in sorted(gains, key=lambda gain: -gain[0]):
        more = each.size - chosen[name].size
        if 0 < more <= left and each.distance < chosen[name].distance:
            chosen[name] = each
            left -= more
    return chosen


def _size(chosen: Mapping[str, Candidate]) -> int:
    return sum(each.size for each in chosen.values())
