"""Weights of a Program that are no whole tensors: stacks of them, and parts of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fivefold.core.batch import Batch, Span, Step
from fivefold.core.checkpoint import Bytes, Made, Scales, Tensor
from fivefold.core.errors import FileError, InputError, UnsupportedError
from fivefold.core.layout import CacheLayout
from fivefold.executor import (
    NativeCache,
    NativeExecutor,
    Packing,
    Settings,
    choose_isa,
    dequantize,
    grown_bytes,
)
from fivefold.formats import FORMATS
from fivefold.plan.roofline import step_cost
from fivefold.program import (
    Builder,
    HeadRows,
    Program,
    ReferenceCache,
    ReferenceExecutor,
    Source,
    Weight,
    of_heads,
    stacked,
    taken,
)

EXPERTS, OUTPUTS, COLUMNS, CHOSEN = 4, 24, 64, 2


def test_a_source_takes_outputs_of_what_lies_there() -> None:
    values = np.arange(2 * 6 * 4, dtype=np.float32).reshape(2, 6, 4)
    odd = Source("t", (2, 6, 4), 1, 2)
    np.testing.assert_array_equal(odd.of(values), values[:, 1::2])
    assert odd.part == (2, 3, 4) and not odd.whole
    upper = Source("t", (2, 6, 4), 3, count=3)
    np.testing.assert_array_equal(upper.of(values), values[:, 3:])
    turned = Source("t", (2, 6, 4), 0, 2, transposed=True)
    np.testing.assert_array_equal(turned.of(values), values.swapaxes(1, 2)[:, ::2])
    assert turned.part == (2, 2, 6)
    vectors = Source("t", (2, 6), 1, 2, vectors=True)
    np.testing.assert_array_equal(vectors.of(values[:, :, 0]), values[:, 1::2, 0])
    assert vectors.part == (2, 3)
    assert taken(Source("t", (2, 6, 4))) == Weight("t", (2, 6, 4))
    assert taken(odd).name == "t[1:6:2]"


def test_a_stack_takes_its_tensors_in_order() -> None:
    held = {f"e{number}": np.full((3, 2), number, np.float32) for number in range(4)}
    weight = stacked([f"e{number}" for number in range(4)], "e*", 3, 2)
    assert weight.shape == (4, 3, 2) and weight.tensors[2] == ("e2", (3, 2))
    np.testing.assert_array_equal(weight.of(held.__getitem__)[:, 0, 0], range(4))


def program(matrices: Weight, biases: Weight | None = None) -> Program:
    record = Builder("experts", CacheLayout(()))
    x = record.input("x", COLUMNS)
    route = record.input("route", 2 * CHOSEN)
    bias = None if biases is None else record.read(biases)
    return record.build(record.expert_linear(x, route, record.read(matrices), bias))


def run(made: Program, tensors: dict[str, Tensor], form: str = "float", **rest: Any) -> tuple[Any, Any]:
    """What the native executor and the reference make of it."""
    random = np.random.default_rng(1)
    x = random.normal(0, 1, (9, COLUMNS)).astype(np.float32)
    best = np.argsort(random.random((9, EXPERTS)), axis=1)[:, :CHOSEN]
    route = np.concatenate([best, np.ones_like(best)], axis=1).astype(np.float32)
    from fivefold.cache import PagedCache

    layout = made.layout
    storage = NativeCache(layout, {})
    cache = PagedCache(layout, {}, storage)
    span = Span.causal(cache.open(), np.zeros(9, np.int32), 0, np.zeros(0, np.int32))
    span = Span(span.sequence, span.tokens, span.positions, span.visible, inputs={"x": x, "route": route})
    batch = cache.prepare(Step((span,)))
    native = NativeExecutor(
        made, tensors.__getitem__, storage, Settings(choose_isa(), 2, form), packing=Packing(**rest)
    )
    reference = ReferenceExecutor(made, lambda name: dequantize(tensors[name]), ReferenceCache(layout, 1))
    return tuple(one.run(batch).buffers[made.outputs[0]] for one in (native, reference))


def tensor(name: str, values: Any, form: str = "f32", scales: Scales | None = None) -> Tensor:
    data = FORMATS[form].pack(np.ascontiguousarray(values, np.float32).reshape(-1))
    return Tensor(name, form, values.shape, data, scales)


def numbers(*shape: int) -> Any:
    return np.random.default_rng(3).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("form", ["f32", "q8_0", "mxfp4"])
def test_stacks_are_packed_from_one_tensor_or_from_many(form: str) -> None:
    values = numbers(EXPERTS, OUTPUTS, COLUMNS)
    whole = {"all": tensor("all", values, form)}
    single = {f"e{number}": tensor(f"e{number}", values[number], form) for number in range(EXPERTS)}
    one = run(program(Weight("all", values.shape)), whole)
    many = run(program(stacked(single, "e*", OUTPUTS, COLUMNS)), single)
    np.testing.assert_array_equal(one[0], many[0])
    np.testing.assert_allclose(one[0], one[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["bf16", "q8_0", "mxfp4"])
@pytest.mark.parametrize("first", [0, 1])
def test_interleaved_outputs_are_taken_apart(form: str, first: int) -> None:
    """Rows of matrices, and numbers of their biases."""
    shape = (EXPERTS, 2 * OUTPUTS, COLUMNS)
    held = {"both": tensor("both", numbers(*shape), form), "bias": tensor("bias", numbers(*shape[:2]))}
    matrices, biases = (
        taken(Source("both", shape, first, 2)),
        taken(Source("bias", shape[:2], first, 2, vectors=True)),
    )
    native, reference = run(program(matrices, biases), held)
    np.testing.assert_allclose(native, reference, rtol=1e-4, atol=1e-4)
    values = dequantize(held["both"])[:, first::2]
    apart = {"half": tensor("half", values, form)}
    if form != "mxfp4":
        alone, _ = run(program(Weight("half", values.shape)), apart)
        assert np.abs(native - alone).max() > 0.1, "the biases were added"


def test_floats_that_lie_transposed_are_turned() -> None:
    shape = (EXPERTS, COLUMNS, 2 * OUTPUTS)
    held = {"both": tensor("both", numbers(*shape), "bf16")}
    native, reference = run(program(taken(Source("both", shape, 1, 2, transposed=True))), held)
    np.testing.assert_allclose(native, reference, rtol=1e-4, atol=1e-4)
    blocks = {"both": tensor("both", numbers(EXPERTS, COLUMNS, 64), "q8_0")}
    turned = taken(Source("both", (EXPERTS, COLUMNS, 64), transposed=True))
    with pytest.raises(UnsupportedError, match="lies transposed"):
        run(program(turned), blocks)


@pytest.mark.parametrize("form", ["f32", "bf16", "q8_0", "q4_0", "f8_e4m3"])
def test_a_table_of_embeddings_is_turned_whatever_its_format(form: str) -> None:
    """It becomes float32 where its blocks, or its factors, cannot be turned; the bytes are told."""
    table = tensor("table", numbers(COLUMNS, 64), form)
    if form == "f8_e4m3":
        table = replace(table, scales=Scales(numbers(COLUMNS, 1) ** 2 + 1, 1, 64))
    turned = taken(Source("table", (COLUMNS, 64), transposed=True))
    build = Builder("main", CacheLayout(()))
    made = build.build(build.linear(build.input("x", COLUMNS), build.read(turned)))
    x = numbers(3, COLUMNS)
    batch = Batch(*(np.zeros(3, np.int32),) * 3, {}, {}, inputs={"x": x})
    executor = NativeExecutor(
        made, {"table": table}.__getitem__, NativeCache(made.layout, {}), Settings(choose_isa(), 1, "float")
    )
    found = executor.run(batch).buffers[made.outputs[0]]
    np.testing.assert_allclose(found, x @ dequantize(table), rtol=1e-4, atol=1e-4)
    floats = form not in ("f32", "bf16")
    expected = 4 * COLUMNS * 64 if floats else table.stored_bytes
    assert grown_bytes(turned, {"table": table}.__getitem__) == expected


@pytest.mark.parametrize("rows", [1, OUTPUTS, EXPERTS * OUTPUTS])
@pytest.mark.parametrize("form", ["f8_e4m3", "nvfp4"])
def test_factors_go_with_their_matrix(form: str, rows: int) -> None:
    """One for each row, for each expert, for all."""
    values = numbers(EXPERTS, OUTPUTS, COLUMNS)
    factors = 0.5 + np.arange(EXPERTS * OUTPUTS // rows, dtype=np.float32)[:, None]
    held = {"all": tensor("all", values, form, Scales(factors, rows, COLUMNS))}
    for weight in (Weight("all", values.shape), taken(Source("all", values.shape, 1, 2))):
        native, reference = run(program(weight), held)
        np.testing.assert_allclose(native, reference, rtol=1e-4, atol=1e-2)


def test_factors_that_do_not_fit_are_refused() -> None:
    values = numbers(EXPERTS, OUTPUTS, COLUMNS)
    held = {"all": tensor("all", values, "f8_e4m3", Scales(np.ones((3, 1), np.float32), OUTPUTS, COLUMNS))}
    with pytest.raises(FileError, match="do not fit"):
        run(program(Weight("all", values.shape)), held)


def test_experts_of_two_formats_are_refused() -> None:
    held = {"a": tensor("a", numbers(OUTPUTS, COLUMNS), "q8_0"), "b": tensor("b", numbers(OUTPUTS, COLUMNS))}
    with pytest.raises(UnsupportedError, match="tensor b is f32, a is q8_0"):
        run(program(stacked(held, "*", OUTPUTS, COLUMNS)), held)


def test_packing_tells_of_all_tensors_and_makes_none_twice() -> None:
    values = numbers(EXPERTS, OUTPUTS, COLUMNS)
    made: list[str] = []

    def lazy(name: str, stored: Bytes) -> Tensor:
        def make() -> Bytes:
            made.append(name)
            return stored

        return Tensor(name, "f32", (OUTPUTS, COLUMNS), Made(stored.shape, make, (stored,)))

    single = {f"e{n}": lazy(f"e{n}", tensor("", values[n]).data) for n in range(EXPERTS)}
    told: list[str] = []
    shared: dict[str, Any] = {}
    weight = stacked(single, "e*", OUTPUTS, COLUMNS)
    run(program(weight), single, packed=lambda one: told.append(one.name), matrices=shared)
    assert told == list(single) and made == [*single, *single]  # the second time for the reference
    run(program(weight), single, matrices=shared)
    assert made == [*single, *single, *single]


def test_a_number_that_is_none_is_found_in_each_expert() -> None:
    values = numbers(EXPERTS, OUTPUTS, COLUMNS)
    values[2, 5, 7] = np.inf
    with pytest.raises(FileError, match="NaN or infinite"):
        run(program(Weight("all", values.shape)), {"all": tensor("all", values)})


def test_the_planner_counts_the_bytes_of_touched_experts() -> None:
    shape = (EXPERTS, 2 * OUTPUTS, COLUMNS)
    half = program(taken(Source("both", shape, 0, 2)))
    everything = 1000.0
    one = step_cost(half, {"both": everything}, 1, 0)
    assert one.weight_bytes == pytest.approx(everything / 2 * CHOSEN / EXPERTS)
    many = step_cost(half, {"both": everything}, 100, 0)
    assert many.weight_bytes == pytest.approx(everything / 2)
    assert one.flops == 2 * CHOSEN * OUTPUTS * COLUMNS
    single = program(stacked(["a", "b", "c", "d"], "*", OUTPUTS, COLUMNS))
    apart = step_cost(single, dict.fromkeys("abcd", 10.0), 100, 0)
    assert apart.weight_bytes == pytest.approx(40.0)
    assert dict(single.tensors) == dict.fromkeys("abcd", (OUTPUTS, COLUMNS))


def test_the_planner_counts_the_bytes_of_each_head_s_rows() -> None:
    """Two matrices of heads that lie in one take its bytes together."""
    rows = [HeadRows("both", (3 * 40, 64), 3, 0, 24, turned=True), HeadRows("both", (3 * 40, 64), 3, 24, 16)]
    build = Builder("main", CacheLayout(()))
    x = build.head_linear(build.input("x", 3 * 24), of_heads(rows[0]))
    both = build.build(build.head_linear(x, of_heads(rows[1])))
    assert dict(both.tensors) == {"both": (120, 64)}
    cost = step_cost(both, {"both": 1000.0}, 5, 0)
    assert cost.weight_bytes == pytest.approx(1000.0)
    assert cost.flops == 2 * 5 * 3 * 64 * (24 + 16)
    build = Builder("main", CacheLayout(()))
    narrow = build.input("x", 71)
    with pytest.raises(InputError, match="takes 3 parts of 24, x has 71"):
        build.head_linear(narrow, of_heads(rows[0]))
