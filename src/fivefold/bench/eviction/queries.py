"""Queries of a prompt before their rotation: what Expected Attention is shown (arXiv 2510.00636).

The prompt runs once more beside the one that is measured, with the buffers tapped that the rotations of
queries read; of their rows the mean and the covariance are kept, in float64 and chunk by chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fivefold.backends import NativeRunner
from fivefold.cache.eviction import QueryStatistics
from fivefold.cache.eviction.expected_attention import mean_rotation
from fivefold.core.batch import Commit, Float32, Int32, Span, Step
from fivefold.core.errors import UnsupportedError
from fivefold.program import Node, Program

SKIPPED = 4
"""First rows that are left out: sinks have queries of their own kind."""


@dataclass(frozen=True, slots=True)
class _Source:
    """The buffer of a layer's queries before rotation, and the frequencies of their rotation; None: they are
    not rotated."""

    buffer: str
    frequencies: Float32 | None
    halves: bool


class Queries:
    """Reads prompts for the statistics of queries. UnsupportedError for a model that rotates otherwise."""

    def __init__(self, runner: NativeRunner, program: Program) -> None:
        self._runner = runner
        made = {output: node for node in program.nodes for output in node.outputs}
        attentions = [node for node in program.nodes if node.op == "attention"]
        heads = {node.attributes["heads"] for node in attentions}
        if len(heads) != 1:
            raise UnsupportedError("layers with different numbers of heads", where=program.name)
        self._heads = int(str(heads.pop()))
        self._sources = [_source(program, made, node) for node in attentions]

    def statistics(self, tokens: Int32) -> QueryStatistics:
        """Mean and covariance of a prompt's queries, and the mean rotation of the positions behind it."""
        names = tuple(source.buffer for source in self._sources)
        total: list[np.ndarray] = []
        squares: list[np.ndarray] = []
        sequence, runner = self._runner.open(), self._runner
        try:
            for first in range(0, len(tokens), runner.max_rows):
                part = tokens[first : first + runner.max_rows]
                taken = runner.run_tapped(Step((Span.causal(sequence, part, first),)), names)
                runner.commit([Commit(sequence, np.arange(len(part), dtype=np.int32))])
                for layer, name in enumerate(names):
                    rows = taken[name][max(SKIPPED - first, 0) :].astype(np.float64)
                    by_head = rows.reshape(len(rows), self._heads, -1).swapaxes(0, 1)  # (H, N, D)
                    if first == 0:
                        total.append(np.zeros((self._heads, by_head.shape[-1])))
                        squares.append(np.zeros((self._heads, by_head.shape[-1], by_head.shape[-1])))
                    total[layer] += by_head.sum(axis=1)
                    squares[layer] += by_head.swapaxes(1, 2) @ by_head
        finally:
            runner.close(sequence)
        return self._together(np.stack(total), np.stack(squares), len(tokens))

    def _together(self, total: np.ndarray, squares: np.ndarray, length: int) -> QueryStatistics:
        count = max(length - SKIPPED, 1)
        mean = total / count
        covariance = squares / count - mean[..., :, None] * mean[..., None, :]
        rotations = [_rotation(source, length, mean.shape[-1]) for source in self._sources]
        return QueryStatistics(
            mean.astype(np.float32), covariance.astype(np.float32), np.stack(rotations).astype(np.float32)
        )


def _source(program: Program, made: dict[str, Node], attention: Node) -> _Source:
    queries = attention.inputs[0]
    turned = made.get(queries)
    if turned is None or turned.op != "rope":
        return _Source(queries, None, True)
    angles = made[turned.inputs[1]]
    frequency, factors = angles.weights
    if factors is not None or frequency is None or frequency not in program.constants:
        raise UnsupportedError("rotations with factors of the file", where=program.name)
    return _Source(turned.inputs[0], program.constants[frequency], not turned.attributes["style"])


def _rotation(source: _Source, length: int, size: int) -> Float32:
    if source.frequencies is None:
        return np.eye(size, dtype=np.float32)
    return mean_rotation(source.frequencies, length, size=size, halves=source.halves)
