"""Rows of a text on their way through a model, layer by layer, so that each layer can be changed before the
rows go through it.

A Program is cut into its layers (`Program.slice`); each runs alone on windows of tokens, on the native
executor, with whatever weights it is given. What is between two layers is kept as float32: 4 bytes a number
of the hidden state, for all tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fivefold.cache import PagedCache
from fivefold.core.batch import LOGITS, Commit, Float32, Span, Step
from fivefold.core.checkpoint import Tensor
from fivefold.executor import NativeCache, NativeExecutor, PackedMatrices, Packing, Settings
from fivefold.program import Model, Node, Program

Lookup = Callable[[str], Tensor]


@dataclass(frozen=True, slots=True)
class Inputs:
    """A buffer that matrices of a layer take their rows from, and those matrices' names."""

    buffer: str
    weights: tuple[str, ...]


class Stream:
    """The rows of all windows at one place between two layers. Begins before the first.

    Packed matrices are kept as long as the stream is, so that a layer can run again with one changed.
    """

    def __init__(self, model: Model, windows: Sequence[Sequence[int]], settings: Settings) -> None:
        self._model = model
        self._windows = [np.asarray(window, np.int32) for window in windows]
        self._settings = settings
        self._given: list[Float32 | None] = [None] * len(self._windows)
        self._matrices: PackedMatrices = {}
        longest = max(len(window) for window in self._windows)
        layout = model.layout
        self._pages = {
            group.name: group.tables * -(-longest // group.page_size) + 1 for group in layout.groups
        }

    def program(self, layer: int) -> Program:
        """One layer, with what stands before the first or behind the last."""
        return self._model.main.slice(layer, layer + 1)

    def rows(self, layer: int, tensors: Lookup, taps: Sequence[str]) -> Iterator[dict[str, Float32]]:
        """The buffers `taps` of each window on its way through the layer. The stream stays where it is."""
        return self._run(self.program(layer), tensors, taps)

    def buffer(self, layer: int, tensors: Lookup, name: str) -> Iterator[Float32]:
        """One buffer of each window on its way through the layer."""
        return (found[name] for found in self.rows(layer, tensors, [name]))

    def through(self, layer: int, last: int) -> Callable[[Lookup], Iterator[Float32]]:
        """From where the stream is to the end of layer `last`: what becomes of it with such weights."""
        program = self._model.main.slice(layer, last + 1)

        def run(tensors: Lookup) -> Iterator[Float32]:
            return (found[program.outputs[0]] for found in self._run(program, tensors, program.outputs))

        return run

    def advance(self, layer: int, tensors: Lookup, taps: Sequence[str] = ()) -> list[dict[str, Float32]]:
        """Let the rows go through the layer; the buffers `taps` of each window on the way."""
        out = self.program(layer).outputs[0]
        kept: list[dict[str, Float32]] = []
        after: list[Float32 | None] = []
        for found in self.rows(layer, tensors, [*taps, out]):
            after.append(found[out])
            kept.append({name: found[name] for name in taps})
        self._given = after
        return kept

    def _run(self, program: Program, tensors: Lookup, taps: Sequence[str]) -> Iterator[dict[str, Float32]]:
        storage = NativeCache(program.layout, self._pages, self._settings.cache_format, 1)
        executor = NativeExecutor(
            program, tensors, storage, self._settings, taps=taps, packing=Packing(matrices=self._matrices)
        )
        for window, given in zip(self._windows, self._given, strict=True):
            cache = PagedCache(program.layout, self._pages, storage, slots=1)
            sequence = cache.open()
            parts: list[dict[str, Float32]] = []
            for begin in range(0, len(window), executor.max_rows):
                tokens = window[begin : begin + executor.max_rows]
                every = np.arange(len(tokens), dtype=np.int32)
                span = Span.causal(sequence, tokens, begin, every)
                assert LOGITS in span.row_sets
                if given is not None:
                    span = _with_input(span, program, given[begin : begin + len(tokens)])
                parts.append(dict(executor.run(cache.prepare(Step((span,))), taps).buffers))
                cache.commit((Commit(sequence, every),))
            yield {name: np.concatenate([part[name] for part in parts]) for name in taps}


def inputs_of(program: Program) -> list[Inputs]:
    """The buffers that linear ops of a Program read, in order, with their matrices."""
    found: dict[str, list[str]] = {}
    for node in program.nodes:
        if is_linear(node):
            found.setdefault(node.inputs[0], []).append(str(node.weights[0]))
    return [Inputs(buffer, tuple(dict.fromkeys(weights))) for buffer, weights in found.items()]


def is_linear(node: Node) -> bool:
    """Whether a node multiplies rows with a matrix that a quantizer may change."""
    return node.op == "linear"


def as_float(name: str, values: Float32) -> Tensor:
    """A stored float32 tensor."""
    return Tensor(name, "f32", values.shape, np.ascontiguousarray(values).reshape(-1).view(np.uint8))


def _with_input(span: Span, program: Program, rows: Float32) -> Span:
    (name,) = program.inputs
    return Span(
        span.sequence, span.tokens, span.positions, span.visible, row_sets=span.row_sets,
        inputs={name: rows},
    )  # fmt: skip
