"""Kernels by themselves, for measuring: the same nodes and threads as in a model, and nothing beside them."""

from __future__ import annotations

import time

import numpy as np

from fivefold._native import Executor, Matrix, ThreadPool, clock_rate, peak_rate, read_bandwidth
from fivefold.core.batch import Int32
from fivefold.formats import FORMATS

_PATTERN_ROWS = 32
"""Rows of random weights, which are then repeated: packing in numpy takes long."""


class LinearProbe:
    """y = x W^T for `copies` matrices (rows, columns) of one format, one after the other, as in a step.

    More copies than the processor's cache holds show the memory, one shows the arithmetic.
    """

    def __init__(
        self, pool: ThreadPool, isa: str, activations: str, form: str, shape: tuple[int, int], copies: int,
        most: int,
    ) -> None:  # fmt: skip
        rows, columns = shape
        random = np.random.default_rng(1)
        pattern = random.standard_normal(_PATTERN_ROWS * columns).astype(np.float32)
        stored = np.tile(FORMATS[form].pack(pattern), -(-rows // _PATTERN_ROWS))
        stored = stored[: FORMATS[form].bytes_for(rows * columns)]
        self._core = Executor(pool, isa, activations, most)
        self._core.add_slots([columns, rows])
        x, y = self._core.add_buffer(0, columns, 0), self._core.add_buffer(1, rows, 0)
        self._core.add_input(x)
        self.numbers = "int8" if activations == "int8" and FORMATS[form].quantized else "float"
        self.weight_bytes = 0
        self.products = rows * columns * copies  # of one row of activations
        for _ in range(copies):
            matrix = Matrix(pool, isa, form, stored, rows, columns)
            self.weight_bytes += matrix.bytes
            self._core.add_node("linear", [x], [y], [self._core.add_matrix(matrix)], [], [])
        self._x = random.standard_normal((most, columns)).astype(np.float32)

    def seconds(self, rows: int) -> float:
        """The time of one pass over all copies with that many rows of activations."""
        places: Int32 = np.zeros(rows, np.int32)
        began = time.perf_counter()
        self._core.run(places, places, places, [], [], [self._x[:rows]])
        return time.perf_counter() - began


class Probes:
    """Probes of one instruction set, over one pool of threads; and what the machine does at most."""

    def __init__(self, isa: str, threads: int, activations: str) -> None:
        self._pool = ThreadPool(threads)
        self._isa = isa
        self._activations = activations

    def linear(self, form: str, shape: tuple[int, int], size: int, most: int) -> LinearProbe:
        """Matrices of a format that take about `size` bytes together, for at most that many rows."""
        one = FORMATS[form].bytes_for(shape[0] * shape[1])
        return LinearProbe(
            self._pool, self._isa, self._activations, form, shape, max(round(size / one), 1), most
        )

    def bandwidth(self, size: int, seconds: float = 0.1) -> float:
        """Bytes a second that all threads read from a buffer of that size."""
        return read_bandwidth(self._pool, size, seconds)

    def peak(self, numbers: str, seconds: float = 0.05) -> float:
        """Products a second of all threads in registers; `numbers` is "int8" or "float"."""
        return peak_rate(self._pool, self._isa, numbers, seconds)

    def clock(self, seconds: float = 0.02) -> float:
        """Cycles a second of one processor."""
        return clock_rate(seconds)
