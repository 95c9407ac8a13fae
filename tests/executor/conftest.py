"""What the tests of the compiled core share: executors of a few nodes; exact fused arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fivefold import _native
from fivefold.formats import FORMATS

Array = npt.NDArray[Any]


def fused(a: Array, b: Array, c: Array) -> Array:
    """a * b + c rounded once to float32, from float64: the product is exact, the sum is rounded to odd."""
    product = a.astype(np.float64) * b.astype(np.float64)
    wide = c.astype(np.float64)
    total = product + wide
    virtual = total - product
    error = (product - (total - virtual)) + (wide - virtual)
    even = (total.view(np.int64) & 1) == 0
    toward = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & even, np.nextafter(total, toward), total)
    return odd.astype(np.float32)


class Lab:
    """An executor under construction, for one instruction set and thread count."""

    fused = staticmethod(fused)

    def __init__(self, isa: str, threads: int = 1, activations: str = "int8", max_rows: int = 64) -> None:
        self.isa = isa
        self.pool = _native.ThreadPool(threads)
        self.executor = _native.Executor(self.pool, isa, activations, max_rows)
        self.slots = 0

    def buffer(self, width: int, row_set: int = 0) -> int:
        """A buffer in a slot of its own."""
        self.executor.add_slots([width])
        self.slots += 1
        return self.executor.add_buffer(self.slots - 1, width, row_set)

    def input(self, width: int, row_set: int = 0) -> int:
        """A buffer that is given at each run."""
        buffer = self.buffer(width, row_set)
        self.executor.add_input(buffer)
        return buffer

    def matrix(self, name: str, stored: Array, rows: int, columns: int) -> int:
        return self.executor.add_matrix(_native.Matrix(self.pool, self.isa, name, stored, rows, columns))

    def vector(self, values: Array) -> int:
        return self.executor.add_vector(np.ascontiguousarray(values, np.float32))

    def node(self, kernel: str, inputs: list[int], outputs: list[int], **rest: Any) -> None:
        """`weights`, `integers`, `floats`, `group` and `row_set` by name; empty when not given."""
        group, row_set = rest.pop("group", -1), rest.pop("row_set", 0)
        operands = [rest.pop(name, []) for name in ("weights", "integers", "floats")]
        assert not rest, rest
        self.executor.add_node(kernel, inputs, outputs, *operands, group=group, row_set=row_set)

    def run(self, *inputs: Array, rows: int | None = None, **rest: Any) -> None:
        """`tokens`, `positions`, `sequence`, `row_sets` and `groups` by name; zeros or empty otherwise."""
        count = len(inputs[0]) if rows is None else rows
        given = {name: rest.pop(name, None) for name in ("tokens", "positions", "sequence")}
        lines = [np.zeros(count, np.int32) if v is None else np.asarray(v, np.int32) for v in given.values()]
        sets = [np.asarray(s, np.int32) for s in rest.pop("row_sets", [])]
        groups = rest.pop("groups", [])
        assert not rest, rest
        self.executor.run(*lines, sets, groups, [np.ascontiguousarray(x, np.float32) for x in inputs])

    def result(self, buffer: int) -> Array:
        return self.executor.buffer(buffer)


def one_node(lab: Lab, kernel: str, inputs: list[Array], width: int, **rest: Any) -> Array:
    """The output of an executor of a single node over given inputs."""
    buffers = [lab.input(x.shape[1]) for x in inputs]
    out = lab.buffer(width)
    lab.node(kernel, buffers, [out], **rest)
    lab.run(*inputs)
    return lab.result(out)


@pytest.fixture
def lab() -> type[Lab]:
    return Lab


@pytest.fixture
def run_node() -> Callable[..., Array]:
    return one_node


@pytest.fixture(params=_native.isas())
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stored() -> Callable[[str, int, int, int], tuple[Array, Array]]:
    """Random weights of a format: (stored bytes, float32 values (rows, columns))."""

    def make(name: str, rows: int, columns: int, seed: int = 0) -> tuple[Array, Array]:
        rng = np.random.default_rng(seed)
        values = rng.normal(0.0, 0.05, (rows, columns)).astype(np.float32)
        if rows > 1:
            values[1] *= 200.0
        data = FORMATS[name].pack(values.reshape(-1))
        return data, FORMATS[name].unpack(data, values.size).reshape(values.shape)

    return make
