"""Quantizing a model layer by layer on a text, each layer knowing what those before it have lost.

Two streams of the same rows go through the model: one through the weights as they are, one through the
quantized ones. The matrices of a layer that share their inputs are quantized together, in the order of the
layer, each with the moments of the inputs that the quantized model gives it, and with those of both streams,
so that a matrix also makes up for what was lost before it.

A table of embeddings that is the head too is quantized before all else, as a head, for every row begins
there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.executor import Settings, dequantize
from fivefold.program import Model, Program

from .moments import Float32, Moments, moments_of
from .stream import Inputs, Stream, as_float, inputs_of, is_linear

Quantizer = Callable[[str, Float32, Moments], Tensor]
"""A matrix's name, its numbers (M, K) and the moments of its inputs -> the stored matrix."""

LEAST_CORRECTION, MOST_CORRECTION = 0.8, 1.25


@dataclass(frozen=True, slots=True)
class Calibration:
    """The text, and what is done with it.

    windows     of tokens, each read from its beginning.
    settings    how the model runs on them.
    compensate  matrices also make up for what those before them have lost.
    correct     norms and biases are moved so that means and mean products stay what they were.
    kept        names of matrices that stay as they are.
    """

    windows: Sequence[Sequence[int]]
    settings: Settings
    compensate: bool = True
    correct: bool = False
    kept: frozenset[str] = frozenset()


def calibrate(
    model: Model,
    tensors: Mapping[str, Tensor],
    calibration: Calibration,
    quantize: Quantizer,
    told: Callable[[str], None] = lambda name: None,
) -> dict[str, Tensor]:
    """All matrices that layers and head multiply with, quantized in order, and norms and biases if they are
    corrected, by name. `told` is given each matrix's name when it is done."""
    return _Pass(model, tensors, calibration, quantize, told).run()


class _Pass:
    """One pass through a model."""

    def __init__(
        self, model: Model, tensors: Mapping[str, Tensor], calibration: Calibration, quantize: Quantizer,
        told: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._model = model
        self._tensors = tensors
        self._calibration = calibration
        self._quantize = quantize
        self._told = told
        self._done: dict[str, Tensor] = {}

    def run(self) -> dict[str, Tensor]:
        """Everything, in order."""
        self._tied_heads()
        plain, lossy = self._stream(), self._stream()
        layers = self._model.main.layers
        for layer in layers:
            program = plain.program(layer)
            groups = [each for each in inputs_of(program) if self._left(each)]
            before = self._before(plain, layer, [each.buffer for each in groups], layer == layers[-1])
            for inputs in groups:
                self._group(program, inputs, lossy.buffer(layer, self._changed, inputs.buffer), before)
            if layer != layers[-1]:
                lossy.advance(layer, self._changed)
        return self._done

    def _before(
        self, plain: Stream, layer: int, taps: list[str], last: bool
    ) -> list[dict[str, Float32]] | None:
        """What the model as it is has in these buffers, of each window; None if nobody asks."""
        if not (self._calibration.compensate or self._calibration.correct):
            return None
        return list(plain.rows(layer, self._plain, taps)) if last else plain.advance(layer, self._plain, taps)

    def _stream(self) -> Stream:
        return Stream(self._model, self._calibration.windows, self._calibration.settings)

    def _plain(self, name: str) -> Tensor:
        return self._tensors[name]

    def _changed(self, name: str) -> Tensor:
        return self._done.get(name) or self._tensors[name]

    def _tied_heads(self) -> None:
        """Heads that are tables of embeddings too, with the moments of the model as it is."""
        main = self._model.main
        tables = {name for node in main.nodes if node.op == "embed" for name in node.weights}
        last = inputs_of(main.slice(main.layers[-1], main.layers[-1] + 1))
        tied = [inputs for inputs in last if tables & set(self._left(inputs))]
        if not tied:
            return
        stream = self._stream()
        for layer in main.layers[:-1]:
            stream.advance(layer, self._plain)
        for inputs in tied:
            found = stream.buffer(main.layers[-1], self._plain, inputs.buffer)
            self._finish(inputs, moments_of(found))

    def _group(
        self,
        program: Program,
        inputs: Inputs,
        rows: Iterable[Float32],
        before: list[dict[str, Float32]] | None,
    ) -> None:
        """The matrices that share some inputs, the norm before them, and their biases."""
        plain = None if before is None else (found[inputs.buffer] for found in before)
        moments = moments_of(rows, plain)
        if self._calibration.correct:
            moments = self._correct_norm(program, inputs.buffer, moments)
        self._finish(inputs, moments)
        if self._calibration.correct:
            self._correct_biases(program, inputs, moments)

    def _finish(self, inputs: Inputs, moments: Moments) -> None:
        used = moments if self._calibration.compensate else Moments(moments.own)
        for name in self._left(inputs):
            self._done[name] = self._quantize(name, dequantize(self._tensors[name]), used)
            self._told(name)

    def _left(self, inputs: Inputs) -> list[str]:
        """The matrices that are to be quantized and are not yet."""
        return [
            name for name in inputs.weights if name not in self._done and name not in self._calibration.kept
        ]

    def _correct_norm(self, program: Program, buffer: str, moments: Moments) -> Moments:
        """Let a norm's weights bring its outputs as near as they can to what they were, column by column."""
        norm = next((node for node in program.nodes if buffer in node.outputs), None)
        if norm is None or norm.op != "rms_norm" or moments.cross is None:
            return moments
        name = str(norm.weights[0])
        values = dequantize(self._tensors[name])
        square = np.diag(moments.own)
        factors = np.divide(np.diag(moments.cross), square, out=np.ones_like(square), where=square > 0)
        factors = np.clip(factors, LEAST_CORRECTION, MOST_CORRECTION)
        if len(factors) != values.size:  # a norm of parts: its weights serve several columns
            return moments
        offset = norm.attributes["offset"]
        assert isinstance(offset, float)
        moved = ((values.astype(np.float64) + offset) * factors - offset) if offset else values * factors
        self._done[name] = as_float(name, moved.astype(np.float32))
        return moments.scaled(factors)

    def _correct_biases(self, program: Program, inputs: Inputs, moments: Moments) -> None:
        """Let biases keep the outputs' means."""
        assert moments.mean is not None and moments.plain_mean is not None
        for node in program.nodes:
            if not is_linear(node) or node.inputs[0] != inputs.buffer or node.weights[1] is None:
                continue
            if node.weights[0] not in self._done:
                continue
            weight, bias = str(node.weights[0]), str(node.weights[1])
            before = dequantize(self._tensors[weight]).astype(np.float64) @ moments.plain_mean
            after = dequantize(self._done[weight]).astype(np.float64) @ moments.mean
            moved = dequantize(self._tensors[bias]) + (before - after)
            self._done[bias] = as_float(bias, moved.astype(np.float32))
