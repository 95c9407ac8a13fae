"""Linear kernels: the bits of their definition on every instruction set, whatever the rows and threads."""

from __future__ import annotations

import numpy as np
import pytest

from fivefold import _native

QUANTIZED = ["q4_0", "q4_1", "q8_0"]
ALL = ["f32", "f16", "bf16", *QUANTIZED]


def activations(rows: int, columns: int, seed: int = 5) -> np.ndarray:
    """Rows with an all-zero block, tiny numbers, and outliers."""
    x = np.random.default_rng(seed).normal(0.0, 1.0, (rows, columns)).astype(np.float32)
    x[:, 3] *= 50.0
    if columns >= 96:
        x[0, 32:64] = 0.0
        x[-1, 64:96] *= np.float32(1e-42)
    return x


def quantized(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N, blocks, 32) and scales (N, blocks), as the contract says, in float32."""
    blocks = x.reshape(len(x), -1, 32)
    scale = np.abs(blocks).max(axis=2) / np.float32(127)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scale
    usable = np.isfinite(inverse)
    scale, inverse = np.where(usable, scale, 0), np.where(usable, inverse, 0)
    codes = np.rint(blocks * inverse[..., None].astype(np.float32))
    return codes.astype(np.int64), scale.astype(np.float32)


def stored_parts(name: str, data: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integer codes (M, blocks, 32), scales and minima (M, blocks) of stored blocks."""
    size = {"q4_0": 18, "q4_1": 20, "q8_0": 34}[name]
    blocks = data.reshape(rows, -1, size)
    d = blocks[..., :2].copy().view(np.float16)[..., 0].astype(np.float32)
    if name == "q8_0":
        return blocks[..., 2:].view(np.int8).astype(np.int64), d, np.zeros_like(d)
    packed = blocks[..., size - 16 :]
    codes = np.concatenate([packed & 15, packed >> 4], axis=2).astype(np.int64)
    if name == "q4_0":
        return codes - 8, d, np.zeros_like(d)
    return codes, d, blocks[..., 2:4].copy().view(np.float16)[..., 0].astype(np.float32)


def int8_model(lab, name: str, data: np.ndarray, outputs: int, x: np.ndarray) -> np.ndarray:
    """The int8 linear, one rounding at a time."""
    codes, d, m = stored_parts(name, data, outputs)
    rows, scale = quantized(x)
    y = np.zeros((len(x), outputs), np.float32)
    for b in range(codes.shape[1]):
        dots = (rows[:, b] @ codes[:, b].T).astype(np.float32)
        y = lab.fused(dots, d[None, :, b] * scale[:, b, None], y)
        if name == "q4_1":
            sums = scale[:, b] * rows[:, b].sum(axis=1).astype(np.float32)
            y = lab.fused(np.broadcast_to(m[None, :, b], y.shape), sums[:, None], y)
    return y


def linear(lab, name, data, shape, x, bias=None) -> np.ndarray:
    outputs, columns = shape
    inside, out = lab.input(columns), lab.buffer(outputs)
    weights = [lab.matrix(name, data, outputs, columns)]
    if bias is not None:
        weights.append(lab.vector(bias))
    lab.node("linear", [inside], [out], weights=weights)
    lab.run(x)
    return lab.result(out)


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize(("outputs", "columns"), [(40, 96), (5, 32), (130, 256)])
def test_int8_bits_are_those_of_the_definition(lab, isa, stored, name, outputs, columns) -> None:
    data, _ = stored(name, outputs, columns)
    x = activations(7, columns)
    got = linear(lab(isa), name, data, (outputs, columns), x)
    want = int8_model(lab, name, data, outputs, x)
    np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32))


@pytest.mark.parametrize("name", QUANTIZED)
def test_int8_is_near_the_real_product(lab, isa, stored, name) -> None:
    data, values = stored(name, 64, 512)
    x = np.random.default_rng(1).normal(0.0, 1.0, (9, 512)).astype(np.float32)
    got = linear(lab(isa), name, data, (64, 512), x)
    want = x.astype(np.float64) @ values.astype(np.float64).T
    scale = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(values, axis=1)[None, :]
    assert np.abs((got - want) / scale).max() < 2e-3


@pytest.mark.parametrize("name", ALL)
def test_float_bits_are_those_of_the_definition(lab, isa, stored, name) -> None:
    columns = 96 if name in QUANTIZED else 50
    data, values = stored(name, 37, columns)
    x, bias = activations(6, columns), np.linspace(-1, 1, 37).astype(np.float32)
    got = linear(lab(isa, activations="float"), name, data, (37, columns), x, bias)
    want = np.zeros((6, 37), np.float32)
    for k in range(columns):
        want = lab.fused(values[None, :, k], x[:, k, None], want)
    np.testing.assert_array_equal(got.view(np.int32), (want + bias).view(np.int32))


def test_extreme_codes_do_not_overflow(lab, isa) -> None:
    """All codes and activations at their limits, both signs, also the int8 code -128."""
    x = np.ones((4, 64), np.float32) * np.array([[1], [-1], [1], [-1]], np.float32)
    x[2:, ::2] *= -1
    for name, size, low, high in [
        ("q4_0", 18, 0x00, 0xFF),
        ("q4_1", 20, 0x00, 0xFF),
        ("q8_0", 34, 0x80, 0x7F),
    ]:
        data = np.zeros((2, 2, size), np.uint8)
        data[..., :2] = np.float16(1.0).reshape(1).view(np.uint8)
        data[0, :, size - (32 if name == "q8_0" else 16) :] = low
        data[1, :, size - (32 if name == "q8_0" else 16) :] = high
        flat = data.reshape(-1)
        got = linear(lab(isa), name, flat, (2, 64), x)
        np.testing.assert_array_equal(got, int8_model(lab, name, flat, 2, x))


@pytest.mark.parametrize("kind", ["int8", "float"])
@pytest.mark.parametrize("name", ALL)
def test_a_row_does_not_depend_on_the_others(lab, isa, stored, name, kind) -> None:
    """Bitwise the same for 1 to 64 rows, one or two threads, and wherever the row stands."""
    outputs, columns = 150, 128
    data, _ = stored(name, outputs, columns)
    x = activations(64, columns)
    whole = linear(lab(isa, activations=kind), name, data, (outputs, columns), x)
    for threads in (1, 2):
        engine = lab(isa, threads, kind)
        inside, out = engine.input(columns), engine.buffer(outputs)
        engine.node("linear", [inside], [out], weights=[engine.matrix(name, data, outputs, columns)])
        for rows in (*range(1, 20), 31, 33, 63, 64):
            first = 64 - rows
            engine.run(x[first:])
            np.testing.assert_array_equal(engine.result(out), whole[first:])


def test_few_tiles_are_shared_out_by_rows(lab, isa, stored) -> None:
    data, _ = stored("q4_1", 8, 64)
    x = activations(33, 64)
    one, two = (linear(lab(isa, threads), "q4_1", data, (8, 64), x) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_more_rows_than_a_block(lab, stored) -> None:
    data, _ = stored("q4_1", 48, 64)
    x = activations(600, 64)
    isa = _native.isas()[-1]
    whole = linear(lab(isa, 2, max_rows=600), "q4_1", data, (48, 64), x)
    parts = [linear(lab(isa), "q4_1", data, (48, 64), x[i : i + 50]) for i in range(0, 600, 50)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("name", ALL)
def test_embedding_decodes_rows(lab, isa, stored, name) -> None:
    data, values = stored(name, 20, 64)
    engine = lab(isa, 2)
    out = engine.buffer(64)
    table = engine.executor.add_table(name, data, 20, 64)
    engine.node("embed", [], [out], weights=[table])
    tokens = np.array([19, 0, 3, 3, 1], np.int32)
    del data
    engine.run(rows=5, tokens=tokens)
    np.testing.assert_array_equal(engine.result(out), values[tokens])
