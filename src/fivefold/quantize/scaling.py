"""Scaling folded into neighbours, before anything is rounded: the model computes the same, and rounds better.

Lin et al., arXiv 2306.00978 (AWQ): the columns of a matrix that meet large inputs are made larger and what
makes those inputs smaller by the same factors, so that they lose less. Folded are: a norm into the matrices
that read it; the up projection into the down projection; the values of attention into its output. For each,
the power of the inputs' mean square that loses least is searched, by the error of the outputs that a plain
rounding would make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.executor import Settings, dequantize
from fivefold.program import Model, Node, Program

from .moments import Float32, Float64, Moments, moments_of
from .stream import Inputs, Stream, as_float, inputs_of

POWERS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Of the root mean square of the inputs; 0 changes nothing."""

Rounding = Callable[[Float32], Float32]
"""A matrix (M, K) -> what plain rounding leaves of it."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the inputs of some matrices come from: a weight whose rows (or numbers) can be divided.

    `repeats`: how many columns each of its rows serves, `width` of them lying side by side before the next
    copy (heads of attention that share keys and values).
    """

    weight: str
    bias: str | None
    repeats: int = 1
    width: int = 0


def fold(
    model: Model,
    tensors: Mapping[str, Tensor],
    windows: Sequence[Sequence[int]],
    settings: Settings,
    rounding: Rounding,
    kept: frozenset[str] = frozenset(),
) -> dict[str, Tensor]:
    """Weights that take the place of the model's own, in float32, by name.

    The others stay as they are, and so do those to be `kept`.
    """
    stream = Stream(model, windows, settings)
    shared = _shared(model.main)
    changed: dict[str, Tensor] = {}

    def current(name: str) -> Tensor:
        return changed.get(name) or tensors[name]

    for layer in model.main.layers:
        program = stream.program(layer)
        for inputs in inputs_of(program):
            source = _source(program, inputs)
            if source is None or (shared | kept) & {source.weight, *inputs.weights}:
                continue
            moments = moments_of(stream.buffer(layer, tensors.__getitem__, inputs.buffer))
            factors = _best([dequantize(current(name)) for name in inputs.weights], moments, source, rounding)
            if factors is not None:
                _apply(changed, current, source, inputs, factors)
        if layer != model.main.layers[-1]:
            stream.advance(layer, tensors.__getitem__)
    return changed


def _shared(program: Program) -> set[str]:
    """Weights that more than one node reads."""
    read = [name for node in program.nodes for name in node.weights if name is not None]
    return {name for name in read if read.count(name) > 1}


def _source(program: Program, inputs: Inputs) -> Source | None:
    """The weight that makes a buffer, if only linear ops read that; None where nothing can be folded."""
    readers = [node for node in program.nodes if inputs.buffer in node.inputs]
    maker = next((node for node in program.nodes if inputs.buffer in node.outputs), None)
    if maker is None or any(node.op != "linear" for node in readers):
        return None
    if maker.op == "rms_norm" and maker.attributes.get("groups", 1) == 1 and not maker.attributes["offset"]:
        return Source(str(maker.weights[0]), None)
    if maker.op == "gated":
        return _linear_source(program, maker.inputs[1])
    if maker.op == "attention":
        return _value_source(program, maker)
    return None


def _linear_source(program: Program, buffer: str, repeats: int = 1, width: int = 0) -> Source | None:
    """The linear op that makes a buffer which nothing else reads than its one reader."""
    maker = next((node for node in program.nodes if buffer in node.outputs), None)
    readers = [node for node in program.nodes if buffer in node.inputs]
    if maker is None or maker.op != "linear" or len(readers) != 1:
        return None
    return Source(str(maker.weights[0]), maker.weights[1], repeats, width)


def _value_source(program: Program, attention: Node) -> Source | None:
    """The values that attention mixes: heads of queries share them in groups."""
    group = program.layout.group(str(attention.attributes["group"]))
    heads = attention.attributes["heads"]
    store = next((node for node in program.nodes if node.op == "attention_store"), None)
    if store is None or group.value_in_key or not isinstance(heads, int):
        return None
    return _linear_source(program, store.inputs[1], heads // group.kv_heads, group.value_width)


def _best(matrices: list[Float32], moments: Moments, source: Source, rounding: Rounding) -> Float64 | None:
    """The factors of columns that lose least; None if that is to change nothing."""
    root = np.sqrt(np.diag(moments.own))
    root = _spread(_gather(root, source), source)  # columns of one source have one factor
    if not (root > 0).all():
        root = np.maximum(root, root[root > 0].min(initial=1.0))
    root = root / np.exp(np.mean(np.log(root)))
    found: tuple[float, Float64 | None] = (np.inf, None)
    for power in POWERS:
        factors = root**power
        loss = 0.0
        for values in matrices:
            scaled = (values * factors).astype(np.float32)
            loss += moments.error(values, (rounding(scaled) / factors).astype(np.float32))
        if loss < found[0]:
            found = (loss, factors if power else None)
    return found[1]


def _gather(values: Float64, source: Source) -> Float64:
    """What columns that come from one row of the source have on average."""
    if source.repeats == 1:
        return values
    parts = values.reshape(-1, source.repeats, source.width)
    return np.asarray(np.sqrt((parts**2).mean(axis=1)).reshape(-1))


def _spread(values: Float64, source: Source) -> Float64:
    """The opposite: a number for each row of the source as one for each column."""
    if source.repeats == 1:
        return values
    return np.repeat(values.reshape(-1, 1, source.width), source.repeats, axis=1).reshape(-1)


def _apply(
    changed: dict[str, Tensor],
    current: Callable[[str], Tensor],
    source: Source,
    inputs: Inputs,
    factors: Float64,
) -> None:
    for name in inputs.weights:
        changed[name] = as_float(name, (dequantize(current(name)) * factors).astype(np.float32))
    rows = _gather(factors, source)
    values = dequantize(current(source.weight))
    divided = values / (rows if values.ndim == 1 else rows[:, None])
    changed[source.weight] = as_float(source.weight, divided.astype(np.float32))
    if source.bias is not None:
        bias = dequantize(current(source.bias)) / rows
        changed[source.bias] = as_float(source.bias, bias.astype(np.float32))
