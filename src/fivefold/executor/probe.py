"""Kernels by themselves, for measuring: the same nodes and threads as in a model, and nothing beside them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from fivefold._native import (
    CacheStorage,
    Executor,
    Matrix,
    ThreadPool,
    clock_rate,
    peak_rate,
    read_bandwidth,
)
from fivefold.core.batch import Int32
from fivefold.core.checkpoint import Bytes
from fivefold.core.layout import PAGE_SIZE
from fivefold.formats import FORMATS

Clock = Callable[[], float]
"""Seconds since some beginning."""

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
        stored = _stored(form, shape)
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

    def seconds(self, rows: int, clock: Clock = time.perf_counter) -> float:
        """The time of one pass over all copies with that many rows of activations."""
        places: Int32 = np.zeros(rows, np.int32)
        began = clock()
        self._core.run(places, places, places, [], [], [self._x[:rows]])
        return clock() - began


class ExpertProbe:
    """The matrices (rows, columns) of so many experts, of which each row of activations takes some at random.

    `shape` is (experts, chosen, rows, columns). There are `copies` such stacks, one after the other.
    """

    def __init__(
        self, pool: ThreadPool, isa: str, activations: str, form: str, shape: tuple[int, int, int, int],
        copies: int, most: int,
    ) -> None:  # fmt: skip
        self._experts, self._chosen, rows, columns = shape
        self._random = np.random.default_rng(1)
        self._core = Executor(pool, isa, activations, most)
        self._core.add_slots([columns, self._chosen * rows, *[2 * self._chosen] * copies])
        x, y = self._core.add_buffer(0, columns, 0), self._core.add_buffer(1, self._chosen * rows, 0)
        self._core.add_input(x)
        stored = _stored(form, (rows, columns))
        self._copies = copies
        for number in range(copies):
            route = self._core.add_buffer(2 + number, 2 * self._chosen, 0)
            self._core.add_input(route)
            stack = Matrix.stack(isa, form, self._experts, rows, columns)
            for _ in range(self._experts):
                stack.pack(pool, stored)
            self.expert_bytes = stack.bytes // self._experts
            self._core.add_node("expert_linear", [x, route], [y], [self._core.add_matrix(stack)], [], [])
        self.products = self._chosen * rows * columns * copies  # of one row of activations
        self._x = self._random.standard_normal((most, columns)).astype(np.float32)

    def seconds(self, rows: int, clock: Clock = time.perf_counter) -> tuple[float, int]:
        """The time of one pass with that many rows of activations, and the bytes of the experts they took."""
        places: Int32 = np.zeros(rows, np.int32)
        keys = self._random.random((self._copies, rows, self._experts))
        best = np.argsort(keys, axis=2)[:, :, : self._chosen]
        routes = [np.concatenate([one, one], axis=1).astype(np.float32) for one in best]
        touched = sum(len(np.unique(one)) for one in best)
        began = clock()
        self._core.run(places, places, places, [], [], [self._x[:rows], *routes])
        return clock() - began, touched * self.expert_bytes


class LatentProbe:
    """Attention of one layer over latents: rows of one sequence behind `depth` positions of random entries.

    `sizes` are (heads, key width, value width).
    """

    def __init__(
        self, pool: ThreadPool, isa: str, form: str, sizes: tuple[int, int, int], depth: int, most: int
    ) -> None:
        self._heads, self._key, self._value = sizes
        self._depth, pages = depth, -(-(depth + most) // PAGE_SIZE)
        self._core = Executor(pool, isa, "float", most)
        self._core.add_slots([self._heads * self._key, self._heads * self._value])
        q = self._core.add_buffer(0, self._heads * self._key, 0)
        o = self._core.add_buffer(1, self._heads * self._value, 0)
        self._core.add_input(q)
        storage = CacheStorage(1, pages, 1, PAGE_SIZE, self._key, self._value, True, form)
        group = self._core.add_group(storage, 1)
        scale = self._key**-0.5
        self._core.add_node("attention", [q], [o], [], [0, self._heads], [scale, 0.0], group=group)
        random = np.random.default_rng(1)
        for place in range(pages * PAGE_SIZE):
            entry = random.standard_normal(self._key).astype(np.float32)
            storage.write_entry(0, place // PAGE_SIZE, 0, place % PAGE_SIZE, entry, entry[: self._value])
        self._tables = np.arange(pages, dtype=np.int32)[None, None]
        self._x = random.standard_normal((most, self._heads * self._key)).astype(np.float32)

    def products(self, rows: int) -> int:
        """Of that many rows, each seeing itself and all before."""
        pairs = rows * self._depth + rows * (rows + 1) // 2
        return pairs * self._heads * (self._key + self._value)

    def seconds(self, rows: int, clock: Clock = time.perf_counter) -> float:
        """The time of one step."""
        slots = (self._depth + np.arange(rows, dtype=np.int32))[:, None]
        places: Int32 = np.zeros(rows, np.int32)
        view = (self._tables, slots * 0, slots + 1, slots, None, None)
        began = clock()
        self._core.run(places, places, places, [], [view], [self._x[:rows]])
        return clock() - began


def _stored(form: str, shape: tuple[int, int]) -> Bytes:
    """A matrix of random weights, as a file holds it."""
    rows, columns = shape
    pattern = np.random.default_rng(1).standard_normal(_PATTERN_ROWS * columns).astype(np.float32)
    stored = np.tile(FORMATS[form].pack(pattern), -(-rows // _PATTERN_ROWS))
    return stored[: FORMATS[form].bytes_for(rows * columns)]


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

    def experts(self, form: str, shape: tuple[int, int, int, int], copies: int, most: int) -> ExpertProbe:
        """Stacks of experts' matrices, for at most that many rows."""
        return ExpertProbe(self._pool, self._isa, self._activations, form, shape, copies, most)

    def latents(self, form: str, sizes: tuple[int, int, int], depth: int, most: int) -> LatentProbe:
        """Attention over latents in a format of cache entries, for at most that many rows."""
        return LatentProbe(self._pool, self._isa, form, sizes, depth, most)

    def bandwidth(self, size: int, seconds: float = 0.1) -> float:
        """Bytes a second that all threads read from a buffer of that size."""
        return read_bandwidth(self._pool, size, seconds)

    def peak(self, numbers: str, seconds: float = 0.05) -> float:
        """Products a second of all threads in registers; `numbers` is "int8" or "float"."""
        return peak_rate(self._pool, self._isa, numbers, seconds)

    def clock(self, seconds: float = 0.02) -> float:
        """Cycles a second of one processor."""
        return clock_rate(seconds)
