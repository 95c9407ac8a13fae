"""Parts of heads in the compiled core: the bits of a linear op for each head, and cuts and joins of parts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fivefold import _native
from fivefold.core.checkpoint import Scales, Tensor
from fivefold.executor import dequantize
from fivefold.executor.packing import pack
from fivefold.formats import FORMATS
from fivefold.ops import OPS, Call
from fivefold.program import HeadRows, Weight, of_heads

ISAS = _native.isas()
SIZES = [("f32", 3, 20, 12), ("bf16", 4, 40, 18), ("f8_e4m3", 2, 33, 64), ("q8_0", 5, 24, 64),
         ("q4_0", 2, 128, 32), ("q4_k", 3, 16, 256)]  # fmt: skip


def reference(op: str, inputs: list[Any], weights: list[Any], **attributes: int) -> Any:
    """What the declaration says."""
    batch: Any = SimpleNamespace()
    call = Call(inputs, weights, attributes, batch, np.arange(len(inputs[0])), 0)
    (found,) = OPS[op].reference(call)
    return found


def rows_of(count: int, width: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0, 1, (count, width)).astype(np.float32)


class Heads:
    """A matrix for each head, as stored and as numbers."""

    def __init__(self, stored: Any, name: str, heads: int, outputs: int, columns: int) -> None:
        self.name, self.shape = name, (heads, outputs, columns)
        made = [stored(name, outputs, columns, seed) for seed in range(heads)]
        self.data = [data for data, _ in made]
        self.values = np.stack([values for _, values in made])

    def run(self, lab: Any, isa: str, x: Any, sizes: list[int], threads: int = 1, form: str = "int8") -> Any:
        """The op's output for rows that come in parts of these sizes."""
        engine = lab(isa, threads, form, max_rows=512)
        heads, outputs, columns = self.shape
        stack = _native.Matrix.stack(isa, self.name, *self.shape)
        for data in self.data:
            stack.pack(engine.pool, data)
        inside, out = engine.input(heads * columns), engine.buffer(heads * outputs)
        engine.node("head_linear", [inside], [out], weights=[engine.executor.add_matrix(stack)])
        found, first = [], 0
        for size in sizes:
            engine.run(x[first : first + size])
            found.append(engine.result(out))
            first += size
        return np.concatenate(found)

    def one_by_one(self, lab: Any, run_node: Any, isa: str, x: Any, form: str) -> Any:
        """The same by a linear op for each head."""
        heads, outputs, columns = self.shape
        found = []
        for head, part in enumerate(np.split(x, heads, axis=1)):
            engine = lab(isa, 1, form, max_rows=512)
            weights = [engine.matrix(self.name, self.data[head], outputs, columns)]
            found.append(run_node(engine, "linear", [part], outputs, weights=weights))
        return np.concatenate(found, axis=1)


@pytest.mark.parametrize("form", ["int8", "float"])
@pytest.mark.parametrize(("name", "heads", "outputs", "columns"), SIZES)
def test_a_head_s_matrix_gives_the_bits_of_a_linear_op(
    lab: Any, run_node: Any, isa: str, stored: Any, name: str, heads: int, outputs: int, columns: int,
    form: str,
) -> None:  # fmt: skip
    matrices = Heads(stored, name, heads, outputs, columns)
    x = rows_of(21, heads * columns)
    got = matrices.run(lab, isa, x, [21], 2, form)
    np.testing.assert_array_equal(got, matrices.one_by_one(lab, run_node, isa, x, form))
    if form == "float" or not FORMATS[name].quantized:
        want = reference("head_linear", [x], [matrices.values])
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize(("name", "heads", "outputs", "columns"), [("f32", 7, 40, 24), ("q8_0", 5, 24, 64)])
def test_the_same_bits_however_rows_come(
    lab: Any, stored: Any, name: str, heads: int, outputs: int, columns: int
) -> None:
    """In one step of more rows than a block has, in parts, one by one; on each instruction set."""
    matrices = Heads(stored, name, heads, outputs, columns)
    x = rows_of(300, heads * columns)
    want = matrices.run(lab, ISAS[0], x, [300])
    for isa in ISAS:
        for sizes, threads in ([300], 2), ([1, 2, 31, 256, 10], 2), ([1] * 300, 1):
            got = matrices.run(lab, isa, x, sizes, threads)
            np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32))


@pytest.mark.parametrize(("heads", "width", "first", "count"), [(3, 12, 8, 4), (1, 20, 0, 20), (5, 7, 2, 1)])
def test_cuts_and_joins_are_those_of_the_reference(
    lab: Any, run_node: Any, isa: str, heads: int, width: int, first: int, count: int
) -> None:
    x, other = rows_of(19, heads * width), rows_of(19, heads * 3, 1)
    given = {"heads": heads, "first": first, "count": count}
    got = run_node(lab(isa, 2), "head_columns", [x], heads * count, integers=list(given.values()))
    np.testing.assert_array_equal(got, reference("head_columns", [x], [], **given))
    got = run_node(lab(isa, 2), "head_join", [x, other], heads * (width + 3), integers=[heads])
    want = reference("head_join", [x, other], [], heads=heads)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(want.reshape(19, heads, -1)[:, :, width:].reshape(19, -1), other)


@pytest.mark.parametrize(
    ("kernel", "inputs", "width", "integers", "said"),
    [
        ("head_columns", [12], 6, [3, 2, 3], "no such numbers"),
        ("head_columns", [12], 6, [3, -1, 2], "no such numbers"),
        ("head_columns", [12], 5, [3, 1, 2], "not heads"),
        ("head_columns", [12], 5, [5, 0, 1], "not a part for each head"),
        ("head_columns", [12], 5, [0, 0, 1], "not a part for each head"),
        ("head_join", [12, 5], 17, [3], "not a part for each head"),
        ("head_join", [12, 6], 17, [3], "that of both inputs"),
        ("head_join", [12, 6], 18, [0], "there must be a head"),
    ],
)
def test_what_does_not_fit_is_refused(
    lab: Any, kernel: str, inputs: list[int], width: int, integers: list[int], said: str
) -> None:
    engine = lab(ISAS[0])
    buffers = [engine.input(one) for one in inputs]
    with pytest.raises(ValueError, match=said):
        engine.node(kernel, buffers, [engine.buffer(width)], integers=integers)


def test_matrices_that_do_not_fit_are_refused(lab: Any, stored: Any) -> None:
    engine = lab(ISAS[0])
    data, _ = stored("f32", 4, 6)
    stack = _native.Matrix.stack(ISAS[0], "f32", 2, 4, 6)
    inside, out = engine.input(12), engine.buffer(8)
    number = engine.executor.add_matrix(stack)
    with pytest.raises(ValueError, match="not all matrices"):
        engine.node("head_linear", [inside], [out], weights=[number])
    for _ in range(2):
        stack.pack(engine.pool, data)
    with pytest.raises(ValueError, match="columns for each head"):
        engine.node("head_linear", [out], [inside], weights=[number])
    with pytest.raises(ValueError, match="rows for each head"):
        engine.node("head_linear", [inside], [engine.buffer(9)], weights=[number])


HEADS, STILL, VALUE, RANK = 3, 64, 32, 128
SCALES = {
    "": None, "for blocks": (32, 128), "for blocks that cross heads": (80, 128), "for rows": (1, RANK),
    "for all": (HEADS * (STILL + VALUE), RANK),
}  # fmt: skip


def whole(name: str, factors: str) -> Tensor:
    """One matrix for keys and values of all heads."""
    shape = (HEADS * (STILL + VALUE), RANK)
    size = SCALES[factors]
    scales = None
    if size is not None:
        blocks = (-(-shape[0] // size[0]), -(-shape[1] // size[1]))
        scales = Scales(np.random.default_rng(1).uniform(0.5, 2, blocks).astype(np.float32), *size)
    values = rows_of(*shape)
    return Tensor("kv_b", name, shape, FORMATS[name].pack(values.reshape(-1)), scales)


def numbers_of(lab: Any, weight: Weight, tensor: Tensor) -> Any:
    """What the core multiplies with: the op's outputs for unit rows, of each head."""
    engine = lab(ISAS[-1], 1, "float", max_rows=RANK)
    heads, outputs, columns = weight.shape
    matrix = pack(weight, lambda name: tensor, engine.pool, ISAS[-1])
    inside, out = engine.input(heads * columns), engine.buffer(heads * outputs)
    engine.node("head_linear", [inside], [out], weights=[engine.executor.add_matrix(matrix)])
    engine.run(np.tile(np.eye(columns, dtype=np.float32), (1, heads)))
    return engine.result(out).reshape(columns, heads, outputs).transpose(1, 2, 0), matrix


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize(
    ("name", "factors"),
    [("f32", ""), ("bf16", ""), ("q8_0", ""), ("mxfp4", ""), *(("f8_e4m3", one) for one in SCALES)],
)
def test_matrices_of_heads_are_packed_from_one_for_all(
    lab: Any, name: str, factors: str, turned: bool
) -> None:
    """The keys' turned, the values' as they lie: the numbers of the reference, in as few bytes as can be."""
    tensor = whole(name, factors)
    start, count = (0, STILL) if turned else (STILL, VALUE)
    weight = of_heads(HeadRows("kv_b", tensor.shape, HEADS, start, count, turned))
    want = weight.of(lambda name: dequantize(tensor))
    assert want.shape == weight.shape == ((HEADS, RANK, STILL) if turned else (HEADS, VALUE, RANK))
    values = dequantize(tensor).reshape(HEADS, STILL + VALUE, RANK)[1, start : start + count]
    np.testing.assert_array_equal(want[1], values.T if turned else values)
    got, matrix = numbers_of(lab, weight, tensor)
    np.testing.assert_allclose(got, want, rtol=2e-7)
    as_stored = not turned or (factors in ("", "for blocks", "for all") and FORMATS[name].block == 1)
    bits = FORMATS[name].bits if as_stored else 32
    assert matrix.bytes < 1.3 * HEADS * count * RANK * bits / 8 + 4096
