"""Kernels that work row by row: near a float64 model, and the same bits on every instruction set."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fivefold import _native

ISAS = _native.isas()


def numbers(rows: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 2.0, (rows, width)).astype(np.float32)


def on_all(lab, run_node, kernel, inputs, width, **rest) -> np.ndarray:
    """The node's output, after checking that every instruction set and thread count gives the same bits."""
    vectors = rest.pop("vectors", [])
    results = []
    for isa in ISAS:
        for threads in (1, 2):
            engine = lab(isa, threads)
            weights = [engine.vector(v) for v in vectors]
            results.append(run_node(engine, kernel, inputs, width, weights=weights, **rest))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].view(np.int32), other.view(np.int32))
    return results[0]


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1.0 + np.exp(-x))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


@pytest.mark.parametrize(("width", "parts"), [(576, 1), (64, 4), (39, 3), (5, 1)])
def test_rms_norm(lab, run_node, width, parts) -> None:
    x, weight = numbers(6, width), numbers(1, width // parts, 1)[0]
    got = on_all(lab, run_node, "rms_norm", [x], width, vectors=[weight], integers=[parts], floats=[1e-5])
    wide = x.astype(np.float64).reshape(6, parts, -1)
    want = wide / np.sqrt((wide**2).mean(axis=2, keepdims=True) + 1e-5) * weight
    np.testing.assert_allclose(got, want.reshape(6, width), rtol=2e-6, atol=1e-6)


def test_rms_norm_sums_in_the_order_of_the_contract(lab, run_node) -> None:
    x = numbers(3, 100)
    got = on_all(lab, run_node, "rms_norm", [x], 100, vectors=[np.ones(100)], floats=[1e-6])
    partial = np.zeros((3, 16), np.float32)
    for i in range(100):
        partial[:, i % 16] = lab.fused(x[:, i], x[:, i], partial[:, i % 16])
    for n in (8, 4, 2, 1):
        partial = partial[:, :n] + partial[:, n : 2 * n]
    mean = partial / np.float32(100) + np.float32(1e-6)
    np.testing.assert_array_equal(got, x * (np.float32(1) / np.sqrt(mean)))


@pytest.mark.parametrize("code", [0, 1, 2])
def test_gated(lab, run_node, code) -> None:
    gate, up = numbers(5, 83) * 3, numbers(5, 83, 1)
    got = on_all(lab, run_node, "gated", [gate, up], 83, integers=[code])
    want = (silu, gelu_tanh, gelu)[code](gate.astype(np.float64)) * up
    np.testing.assert_allclose(got, want, rtol=3e-5 if code else 1e-6, atol=1e-6)


def test_silu_has_no_nan_at_the_ends(lab, run_node) -> None:
    gate = np.array([[-1e30, -200, -88.8, -87, 0, 1e-30, 87, 89, 200, 1e30, -3.4e38]], np.float32)
    got = on_all(lab, run_node, "gated", [gate, np.ones_like(gate)], gate.shape[1], integers=[0])
    with np.errstate(over="ignore"):
        want = silu(gate.astype(np.float64))
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-36)


def test_soft_cap(lab, run_node) -> None:
    x = np.concatenate([numbers(2, 90) * 20, numbers(2, 90) * 1e-4, [[1e30, -1e30] * 45]]).astype(np.float32)
    got = on_all(lab, run_node, "soft_cap", [x], 90, floats=[15.0])
    np.testing.assert_allclose(got, 15.0 * np.tanh(x.astype(np.float64) / 15.0), rtol=1e-6)


def test_add_scale_copy(lab, run_node) -> None:
    a, b = numbers(3, 21), numbers(3, 21, 1)
    np.testing.assert_array_equal(on_all(lab, run_node, "add", [a, b], 21), a + b)
    np.testing.assert_array_equal(on_all(lab, run_node, "scale", [a], 21, floats=[0.3]), a * np.float32(0.3))
    np.testing.assert_array_equal(on_all(lab, run_node, "copy", [a], 21), a)


def test_scale_by_position(lab, isa) -> None:
    positions = np.array([0, 9, 10, 99, 100, 123456], np.int32)
    x = numbers(len(positions), 37)
    engine = lab(isa, 2)
    inside, out = engine.input(37), engine.buffer(37)
    engine.node("scale_by_position", [inside], [out], floats=[0.1, 10.0])
    engine.run(x, positions=positions)
    factors = (1 + np.float64(np.float32(0.1)) * np.log(1.0 + positions // 10)).astype(np.float32)
    np.testing.assert_array_equal(engine.result(out), x * factors[:, None])


def test_scale_by_position_from_a_shift_on(lab, isa) -> None:
    positions = np.array([0, 8, 9, 98, 99, 123456], np.int32)
    x = numbers(len(positions), 37)
    engine = lab(isa, 2)
    inside, out = engine.input(37), engine.buffer(37)
    engine.node("scale_by_position", [inside], [out], floats=[0.1, 10.0, 1.0])
    engine.run(x, positions=positions)
    factors = (1 + np.float64(np.float32(0.1)) * np.log(1.0 + (positions + 1) // 10)).astype(np.float32)
    np.testing.assert_array_equal(engine.result(out), x * factors[:, None])


def test_scale_by(lab, isa) -> None:
    x = numbers(70, 37)
    engine = lab(isa, 2, max_rows=70)
    inside, scaled = engine.input(37), engine.buffer(37)
    engine.node("scale_by", [inside], [scaled], weights=[engine.vector(np.array([0.3], np.float32))])
    with pytest.raises(ValueError, match="vector of 1"):
        engine.node("scale_by", [inside], [scaled], weights=[engine.vector(np.ones(2, np.float32))])
    engine.run(x)
    np.testing.assert_array_equal(engine.result(scaled), x * np.float32(0.3))


@pytest.mark.parametrize("style", [0, 1])
@pytest.mark.parametrize(("size", "rotary"), [(64, 64), (64, 32), (20, 12), (2, 2)])
def test_rope(lab, isa, style, size, rotary) -> None:
    heads, rows, pairs = 3, 4, rotary // 2
    positions = np.array([0, 1, 77, 40000], np.int32)
    frequency = (10000.0 ** (-np.arange(pairs) / pairs)).astype(np.float32)
    factors = np.linspace(1, 4, pairs).astype(np.float32)
    x = numbers(rows, heads * size)
    engine = lab(isa, 2)
    inside, angles, out = engine.input(heads * size), engine.buffer(rotary), engine.buffer(heads * size)
    weights = [engine.vector(frequency), engine.vector(factors)]
    engine.node("rope_angles", [], [angles], weights=weights, floats=[1.5])
    engine.node("rope", [inside, angles], [out], integers=[heads, size, rotary, style])
    engine.node("rope", [inside, angles], [inside], integers=[heads, size, rotary, style])
    engine.run(x, positions=positions)
    turn = positions[:, None].astype(np.float64) * (frequency / factors).astype(np.float64)
    cos, sin = (f(turn).astype(np.float32) * np.float32(1.5) for f in (np.cos, np.sin))
    np.testing.assert_array_max_ulp(engine.result(angles), np.concatenate([cos, sin], axis=1), 1)
    cos, sin = engine.result(angles)[:, None, :pairs], engine.result(angles)[:, None, pairs:]
    want = x.reshape(rows, heads, size).copy()
    first, second = (slice(0, pairs), slice(pairs, rotary)), (slice(0, rotary, 2), slice(1, rotary, 2))
    low, high = second if style else first
    x0, x1 = want[..., low].copy(), want[..., high].copy()
    want[..., low] = lab.fused(x0, np.broadcast_to(cos, x0.shape), -(x1 * sin))
    want[..., high] = lab.fused(x0, np.broadcast_to(sin, x0.shape), x1 * cos)
    np.testing.assert_array_equal(engine.result(out), want.reshape(rows, -1))
    np.testing.assert_array_equal(engine.result(inside), engine.result(out))


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_move_between_row_sets(lab, isa, threads) -> None:
    engine = lab(isa, threads)
    some = engine.executor.add_row_set()
    inside = engine.input(6)
    few, replaced, added = engine.buffer(6, some), engine.buffer(6), engine.buffer(6)
    engine.node("gather_rows", [inside], [few], row_set=some)
    engine.node("scale", [few], [few], floats=[2.0], row_set=some)
    engine.node("scatter_rows", [inside, few], [replaced], row_set=some)
    engine.node("scatter_add_rows", [inside, few], [added], row_set=some)
    x = numbers(7, 6)
    for rows in ([], [4], [6, 0, 2], list(range(7)), [3, 3]):
        engine.run(x, row_sets=[rows])
        np.testing.assert_array_equal(engine.result(few), 2 * x[rows])
        want, total = x.copy(), x.copy()
        want[rows] = 2 * x[rows]
        for row in rows:
            total[row] += 2 * x[row]
        np.testing.assert_array_equal(engine.result(replaced), want)
        np.testing.assert_array_equal(engine.result(added), total)
