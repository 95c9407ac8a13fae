"""Experts in the compiled core: the choice of the reference, and the bits of a linear op for each expert."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fivefold import _native
from fivefold.ops import OPS, Call

WAYS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "as they are": {"normalise": 0},
    "of the chosen": {"scoring": 1},
    "sigmoid": {"scoring": 2, "factor": 2.5},
    "best group": {"normalise": 0, "groups": 4, "groups_chosen": 2, "factor": 16.0},
    "two best of a group": {"scoring": 2, "groups": 4, "groups_chosen": 2, "group_best": 2},
    "sigmoid of the chosen": {"scoring": 3, "normalise": 0},
}
EXPERTS, CHOSEN = 16, 4


def attributes(way: str, chosen: int = CHOSEN) -> dict[str, Any]:
    plain = {"scoring": 0, "normalise": 1, "factor": 1.0, "groups": 1, "groups_chosen": 1, "group_best": 1}
    return {**plain, "chosen": chosen, **WAYS[way]}


def reference(op: str, inputs: list[Any], weights: list[Any], given: dict[str, Any]) -> Any:
    """What the declaration says."""
    batch: Any = SimpleNamespace()
    (found,) = OPS[op].reference(Call(inputs, weights, given, batch, np.arange(len(inputs[0])), 0))
    return found


def operands(op: str, given: dict[str, Any]) -> dict[str, Any]:
    row = OPS[op]
    return {"integers": [given[n] for n in row.integers], "floats": [float(given[n]) for n in row.floats]}


def logits_of(rows: int, experts: int = EXPERTS) -> Any:
    """Rows with equals in them."""
    found = np.random.default_rng(2).normal(0, 2, (rows, experts)).astype(np.float32)
    found[1] = np.round(found[1])
    found[2] = 0.5
    return found


def routed(lab: Any, way: str, logits: Any, bias: Any = None, scales: Any = None) -> Any:
    given = attributes(way)
    inside, out = lab.input(logits.shape[1]), lab.buffer(2 * CHOSEN)
    weights = [] if bias is None else [lab.vector(bias)]
    if scales is not None:
        weights = [*weights, lab.vector(scales)] if weights else [-1, lab.vector(scales)]
    lab.node("route", [inside], [out], weights=weights, **operands("route", given))
    lab.run(logits)
    return lab.result(out)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("biased", [False, True])
def test_the_choice_is_that_of_the_reference(lab: Any, isa: str, way: str, biased: bool) -> None:
    logits = logits_of(40)
    bias = np.random.default_rng(3).normal(0, 0.3, EXPERTS).astype(np.float32) if biased else None
    got = routed(lab(isa), way, logits, bias)
    want = reference("route", [logits], [bias, None], attributes(way))
    np.testing.assert_array_equal(got[:, :CHOSEN], want[:, :CHOSEN])
    np.testing.assert_allclose(got[:, CHOSEN:], want[:, CHOSEN:], rtol=1e-6)
    scales = np.random.default_rng(4).normal(1, 0.5, EXPERTS).astype(np.float32)
    scaled = routed(lab(isa), way, logits, bias, scales)
    want = reference("route", [logits], [bias, scales], attributes(way))
    np.testing.assert_array_equal(scaled[:, :CHOSEN], got[:, :CHOSEN])
    np.testing.assert_allclose(scaled[:, CHOSEN:], want[:, CHOSEN:], rtol=1e-6)


def test_large_logits_are_told_apart_where_their_sigmoids_are_one(lab: Any, isa: str) -> None:
    logits = np.full((1, EXPERTS), 40.0, np.float32)
    logits[0, 7:9] = 41.0, 42.0
    for found in (
        routed(lab(isa), "sigmoid of the chosen", logits),
        reference("route", [logits], [None, None], attributes("sigmoid of the chosen")),
    ):
        np.testing.assert_array_equal(found, [[8, 7, 0, 1, 1, 1, 1, 1]])


def test_experts_read_rows_times_their_weights(lab: Any, isa: str, run_node: Any) -> None:
    x, route = np.random.default_rng(6).normal(0, 1, (5, 21)).astype(np.float32), choice(5, 8, 3)
    got = run_node(lab(isa), "expert_inputs", [x, route], 63)
    np.testing.assert_array_equal(got, reference("expert_inputs", [x, route], [], {}))
    np.testing.assert_array_equal(got[:, 21:42], x * route[:, 4:5])
    parts = got.reshape(5, 3, 21)
    total = run_node(lab(isa), "expert_sum", [got, route], 21, integers=[0])
    np.testing.assert_array_equal(total, (parts[:, 0] + parts[:, 1]) + parts[:, 2])
    near = reference("expert_sum", [got, route], [], {"weighted": 0})
    np.testing.assert_allclose(total, near, rtol=1e-5, atol=1e-6)


def test_of_equals_the_first_is_chosen(lab: Any, isa: str) -> None:
    got = routed(lab(isa), "softmax", logits_of(3))
    np.testing.assert_array_equal(got[2], [0, 1, 2, 3, 0.25, 0.25, 0.25, 0.25])


@pytest.mark.parametrize("way", WAYS)
def test_a_row_with_a_logit_that_is_none_has_no_weights(lab: Any, isa: str, way: str) -> None:
    logits = logits_of(3)
    logits[0, 5] = np.nan
    logits[1] = np.nan
    got, want = routed(lab(isa), way, logits), reference("route", [logits], [None] * 2, attributes(way))
    for found in (got, want):
        assert np.isnan(found[:2, CHOSEN:]).all() and np.isfinite(found[2]).all()
        assert ((found[:, :CHOSEN] >= 0) & (found[:, :CHOSEN] < EXPERTS)).all()


class Stack:
    """Matrices of experts in a format: stored, and packed for a lab."""

    def __init__(self, stored: Any, name: str, experts: int, outputs: int, columns: int) -> None:
        self.name, self.shape = name, (experts, outputs, columns)
        made = [stored(name, outputs, columns, seed) for seed in range(experts)]
        self.data = [data for data, _ in made]
        self.values = np.stack([values for _, values in made])

    def packed(self, lab: Any) -> int:
        matrix = _native.Matrix.stack(lab.isa, self.name, *self.shape)
        for data in self.data:
            matrix.pack(lab.pool, data)
        return int(lab.executor.add_matrix(matrix))


def choice(rows: int, experts: int, chosen: int, seed: int = 4) -> Any:
    """A route: some experts have many rows, some none."""
    random = np.random.default_rng(seed)
    shares = random.random(experts) ** 4
    keys = random.random((rows, experts)) ** (1 / (shares + 1e-3))
    best = np.argsort(-keys, axis=1)[:, :chosen]
    return np.concatenate([best, random.random((rows, chosen))], axis=1).astype(np.float32)


def multiplied(lab: Any, stack: Stack, x: Any, route: Any, biases: Any = None) -> Any:
    chosen = route.shape[1] // 2
    inputs = [lab.input(x.shape[1]), lab.input(route.shape[1])]
    out = lab.buffer(chosen * stack.shape[1])
    weights = [stack.packed(lab)]
    if biases is not None:
        weights.append(lab.vector(biases.ravel()))
    lab.node("expert_linear", inputs, [out], weights=weights)
    lab.run(x, route)
    return lab.result(out)


@pytest.mark.parametrize("name", ["q4_0", "q8_0", "q4_k", "mxfp4", "nvfp4"])
@pytest.mark.parametrize("own", [False, True])
def test_int8_bits_are_those_of_a_linear_op(
    lab: Any, isa: str, stored: Any, int8_model: Any, name: str, own: bool
) -> None:
    """Rows that all experts of a row share, and a part of a row for each."""
    columns = 256 if name == "q4_k" else 64
    experts, outputs, chosen, rows = 7, 37, 3, 21
    stack = Stack(stored, name, experts, outputs, columns)
    biases = np.random.default_rng(6).normal(0, 1, (experts, outputs)).astype(np.float32)
    x = np.random.default_rng(5).normal(0, 1, (rows, columns * (chosen if own else 1))).astype(np.float32)
    route = choice(rows, experts, chosen)
    got = multiplied(lab(isa), stack, x, route, biases).reshape(rows, chosen, outputs)
    parts = x.reshape(rows, -1, columns)
    for row in range(rows):
        for place in range(chosen):
            expert = int(route[row, place])
            part = parts[row, place if own else 0][None]
            want = int8_model(name, stack.data[expert], outputs, part)[0] + biases[expert]
            np.testing.assert_array_equal(got[row, place].view(np.int32), want.view(np.int32))


@pytest.mark.parametrize("name", ["f32", "bf16", "f8_e4m3", "q4_1"])
@pytest.mark.parametrize("own", [False, True])
def test_float_rows_are_near_the_reference(lab: Any, isa: str, stored: Any, name: str, own: bool) -> None:
    experts, outputs, columns, chosen, rows = 5, 40, 64, 2, 18
    stack = Stack(stored, name, experts, outputs, columns)
    x = np.random.default_rng(5).normal(0, 1, (rows, columns * (chosen if own else 1))).astype(np.float32)
    route = choice(rows, experts, chosen)
    got = multiplied(lab(isa, activations="float"), stack, x, route)
    want = reference("expert_linear", [x, route], [stack.values, None], {})
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["int8", "float"])
@pytest.mark.parametrize("own", [False, True])
def test_a_row_does_not_depend_on_the_others(lab: Any, isa: str, stored: Any, kind: str, own: bool) -> None:
    """Bitwise the same alone and among 64, on one or two threads, when runs follow each other."""
    experts, outputs, columns, chosen = 12, 70, 96, 4
    stack = Stack(stored, "q8_0", experts, outputs, columns)
    x = np.random.default_rng(5).normal(0, 1, (64, columns * (chosen if own else 1))).astype(np.float32)
    route = choice(64, experts, chosen)
    together = multiplied(lab(isa, 1, kind), stack, x, route)
    for threads in (1, 2):
        engine = lab(isa, threads, kind)
        inputs = [engine.input(x.shape[1]), engine.input(2 * chosen)]
        out = engine.buffer(chosen * outputs)
        engine.node("expert_linear", inputs, [out], weights=[stack.packed(engine)])
        for rows in (64, 1, 2, 3, 7, 16, 17, 33, 63):
            engine.run(x[64 - rows :], route[64 - rows :])
            np.testing.assert_array_equal(engine.result(out), together[64 - rows :])


def test_nodes_of_one_choice_share_its_grouping(lab: Any, isa: str, stored: Any, run_node: Any) -> None:
    """Gate, up and down of two layers, with choices of their own, as one Program has them."""
    experts, width, inner, chosen, rows = 6, 64, 96, 2, 11
    engine = lab(isa, 2)
    x = np.random.default_rng(5).normal(0, 1, (rows, width)).astype(np.float32)
    routes = [choice(rows, experts, chosen, seed) for seed in (1, 2)]
    start = engine.input(width)
    inside = [engine.input(2 * chosen) for _ in routes]
    at, held = start, x
    given = {"limit": 7.0, "alpha": 1.702}
    for route, values in zip(inside, routes, strict=True):
        gate, up = (Stack(stored, "q8_0", experts, inner, width) for _ in range(2))
        down = Stack(stored, "q8_0", experts, width, inner)
        buffers = [engine.buffer(chosen * inner) for _ in range(3)]
        engine.node("expert_linear", [at, route], [buffers[0]], weights=[gate.packed(engine)])
        engine.node("expert_linear", [at, route], [buffers[1]], weights=[up.packed(engine)])
        engine.node("clamped_gated", buffers[:2], [buffers[2]], floats=[1.702, 7.0])
        parts, at = engine.buffer(chosen * width), engine.buffer(width)
        engine.node("expert_linear", [buffers[2], route], [parts], weights=[down.packed(engine)])
        engine.node("expert_sum", [parts, route], [at])
        both = [multiplied(lab(isa), one, held, values) for one in (gate, up)]
        held = run_node(lab(isa), "clamped_gated", both, chosen * inner, floats=[1.702, 7.0])
        near = reference("clamped_gated", both, [], given)
        np.testing.assert_allclose(held, near, rtol=1e-5, atol=1e-6)
        held = multiplied(lab(isa), down, held, values)
        near = reference("expert_sum", [held, values], [], {"weighted": 1})
        held = run_node(lab(isa), "expert_sum", [held, values], width)
        np.testing.assert_allclose(held, near, rtol=1e-5, atol=1e-5)
    for _ in range(2):
        engine.run(x, *routes)
        np.testing.assert_array_equal(engine.result(at), held)


def test_an_expert_that_is_none_gives_no_number(lab: Any, isa: str, stored: Any) -> None:
    stack = Stack(stored, "q8_0", 3, 20, 32)
    route = np.array([[0, 3, 1, 1], [-1, 2, 1, 1], [np.nan, np.inf, 1, 1]], np.float32)
    got = multiplied(lab(isa), stack, np.ones((3, 32), np.float32), route).reshape(3, 2, 20)
    bad = np.array([[False, True], [True, False], [True, True]])
    assert (np.isnan(got) == bad[:, :, None]).all()


def test_what_is_no_number_stays_none(lab: Any, isa: str, run_node: Any) -> None:
    gate = np.array([[np.nan, 1.0, 9.0, -200.0]], np.float32).repeat(8, axis=1)
    up = np.array([[1.0, np.nan, -9.0, 9.0]], np.float32).repeat(8, axis=1)
    got = run_node(lab(isa), "clamped_gated", [gate, up], 32, floats=[1.702, 7.0])
    want = reference("clamped_gated", [gate, up], [], {"alpha": 1.702, "limit": 7.0})
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-30)
    assert np.isnan(got[:, :16]).all()


def test_bits_are_the_same_on_all_instruction_sets(lab: Any, stored: Any, run_node: Any) -> None:
    x = np.random.default_rng(5).normal(0, 5, (9, 4 * 50)).astype(np.float32)
    route, floats = choice(9, 8, 4), [1.702, 7.0]
    sums = [run_node(lab(isa), "expert_sum", [x, route], 50) for isa in _native.isas()]
    gated = [run_node(lab(isa), "clamped_gated", [x, x], 200, floats=floats) for isa in _native.isas()]
    for found in (sums, gated):
        for other in found[1:]:
            np.testing.assert_array_equal(found[0].view(np.int32), other.view(np.int32))


def test_what_does_not_fit_is_refused(lab: Any, isa: str, stored: Any) -> None:
    engine = lab(isa)
    x, route, out = engine.input(64), engine.input(4), engine.buffer(40)
    stack = Stack(stored, "q8_0", 3, 20, 64)
    packed = stack.packed(engine)
    one = engine.matrix("q8_0", stack.data[0], 20, 64)
    short = _native.Matrix.stack(isa, "q8_0", 2, 20, 64)
    short.pack(engine.pool, stack.data[0])
    for weights, inputs, why in (
        ([packed], [route, x], "columns"),
        ([packed, engine.vector(np.zeros(20))], [x, route], "60 numbers"),
        ([engine.executor.add_matrix(short)], [x, route], "not all matrices"),
    ):
        with pytest.raises(ValueError, match=why):
            engine.node("expert_linear", inputs, [out], weights=weights)
    with pytest.raises(ValueError, match="is a stack"):
        engine.node("linear", [x], [engine.buffer(20)], weights=[packed])
    with pytest.raises(ValueError, match="packed already"):
        short.pack(engine.pool, stack.data[0])
        short.pack(engine.pool, stack.data[0])
    engine.node("expert_linear", [x, route], [out], weights=[one])
    for change, why in (
        ({"chosen": 65}, "than there are"), ({"groups": 3}, "equal groups"), ({"scoring": 4}, "scoring"),
        ({"groups": 64, "groups_chosen": 1, "chosen": 2}, "fewer experts"), ({"group_best": 3}, "two best"),
    ):  # fmt: skip
        given = {**attributes("softmax", 2), **change}
        with pytest.raises(ValueError, match=why):
            engine.node("route", [x], [route], **operands("route", given))
