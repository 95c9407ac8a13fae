"""Linear kernels: the bits of their definition on every instruction set, whatever the rows and threads."""

from __future__ import annotations

import numpy as np
import pytest

from fivefold import _native
from fivefold.formats import FORMATS

QUANTIZED = sorted(name for name in FORMATS if FORMATS[name].quantized)
BESIDE = {"f8_e4m3", "mxfp4", "nvfp4"}  # outputs have a factor
ALL = ["f32", "f16", "bf16", "f8_e4m3", *QUANTIZED]


def whole(name: str, columns: int) -> int:
    """At least so many columns that are whole blocks of the format."""
    block = FORMATS[name].block
    return -(-columns // block) * block


def activations(rows: int, columns: int, seed: int = 5) -> np.ndarray:
    """Rows with an all-zero block, tiny numbers, and outliers."""
    x = np.random.default_rng(seed).normal(0.0, 1.0, (rows, columns)).astype(np.float32)
    x[:, 3] *= 50.0
    if columns >= 96:
        x[0, 32:64] = 0.0
        x[-1, 64:96] *= np.float32(1e-42)
    return x


def places_of_floats(name: str) -> list[int]:
    """Where in a stored block float numbers lie."""
    if name in {"q4_1", "q5_1", "q4_k", "q5_k"}:
        return [0, 2]
    return {"q2_k": [80, 82], "q3_k": [108], "q6_k": [208], "nvfp4": [0, 3]}.get(name, [0])


def any_blocks(name: str, count: int, fill: int | None = None) -> np.ndarray:
    """Stored blocks of any bytes, or all of one, but for the f16 numbers, which are small ones."""
    row = FORMATS[name]
    random = np.random.default_rng(8)
    shape = (count // row.block, row.block_bytes)
    blocks = random.integers(0, 256, shape, np.uint8) if fill is None else np.full(shape, fill, np.uint8)
    if name == "mxfp4":
        blocks[:, 0] = random.integers(110, 140, len(blocks))
        return blocks.reshape(-1)
    if name == "nvfp4":
        blocks[:, :4][blocks[:, :4] & 0x7F == 0x7F] = 3  # the codes of NaN
        return blocks.reshape(-1)
    for at in places_of_floats(name):
        numbers = random.normal(0, 0.1, (len(blocks), 1)).astype(np.float16)
        blocks[:, at : at + 2] = numbers.view(np.uint8)
    return blocks.reshape(-1)


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
def test_int8_bits_are_those_of_the_definition(lab, isa, stored, int8_model, name, outputs, columns) -> None:
    columns = whole(name, columns)
    data, _ = stored(name, outputs, columns)
    x = activations(13, columns)
    got = linear(lab(isa), name, data, (outputs, columns), x)
    want = int8_model(name, data, outputs, x)
    np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32))


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize("rows", [1, 2, 9])
def test_any_bytes_have_the_bits_of_the_definition(lab, isa, int8_model, name, rows) -> None:
    """Every code, scale and minimum there may be, beside finite f16 numbers."""
    outputs, columns = 37, 512
    data = any_blocks(name, outputs * columns)
    x = activations(rows, columns)
    got = linear(lab(isa), name, data, (outputs, columns), x)
    np.testing.assert_array_equal(got.view(np.int32), int8_model(name, data, outputs, x).view(np.int32))


@pytest.mark.parametrize("name", QUANTIZED)
def test_int8_is_near_the_real_product(lab, isa, stored, name) -> None:
    data, values = stored(name, 64, 512)
    x = np.random.default_rng(1).normal(0.0, 1.0, (9, 512)).astype(np.float32)
    got = linear(lab(isa), name, data, (64, 512), x)
    want = x.astype(np.float64) @ values.astype(np.float64).T
    scale = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(values, axis=1)[None, :]
    assert np.abs((got - want) / scale).max() < 2e-3


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("rows", [1, 6])
def test_float_bits_are_those_of_the_definition(lab, isa, stored, name, rows) -> None:
    outputs, columns = 75, whole(name, 96) if name in QUANTIZED else 51
    data, values = stored(name, outputs, columns)
    x, bias = activations(rows, columns), np.linspace(-1, 1, outputs).astype(np.float32)
    got = linear(lab(isa, activations="float"), name, data, (outputs, columns), x, bias)
    want = np.zeros((rows, outputs), np.float32)
    for k in range(columns):
        want = lab.fused(values[None, :, k], x[:, k, None], want)
    np.testing.assert_array_equal(got.view(np.int32), (want + bias).view(np.int32))


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x7F, 0x80])
def test_extreme_codes_do_not_overflow(lab, isa, int8_model, name, fill) -> None:
    """All codes and scales at a limit, activations at theirs with both signs, also the int8 code -128."""
    data = any_blocks(name, 2 * 256, fill)
    x = np.ones((4, 256), np.float32) * np.array([[1], [-1], [1], [-1]], np.float32)
    x[2:, ::2] *= -1
    got = linear(lab(isa), name, data, (2, 256), x)
    np.testing.assert_array_equal(got.view(np.int32), int8_model(name, data, 2, x).view(np.int32))


@pytest.mark.parametrize("fill", range(0, 256, 17))
def test_the_widest_sums_stay_exact(lab, isa, int8_model, fill) -> None:
    """q6_k with scales of -128, whose sums come nearest to 2^24; codes of every pair of nibbles."""
    blocks = any_blocks("q6_k", 16 * 256, fill).reshape(16, -1)
    blocks[:, 192:208] = 0x80
    x = np.where(np.random.default_rng(fill).random((5, 256)) < 0.5, -1, 1).astype(np.float32)
    data = blocks.reshape(-1)
    got = linear(lab(isa), "q6_k", data, (16, 256), x)
    np.testing.assert_array_equal(got.view(np.int32), int8_model("q6_k", data, 16, x).view(np.int32))


@pytest.mark.parametrize("kind", ["int8", "float"])
@pytest.mark.parametrize("name", ALL)
def test_a_row_does_not_depend_on_the_others(lab, isa, stored, name, kind) -> None:
    """Bitwise the same for 1 to 64 rows, one or two threads, and wherever the row stands."""
    outputs, columns = 150, whole(name, 128)
    data, _ = stored(name, outputs, columns)
    x = activations(64, columns)
    together = linear(lab(isa, activations=kind), name, data, (outputs, columns), x)
    for threads in (1, 2):
        engine = lab(isa, threads, kind)
        inside, out = engine.input(columns), engine.buffer(outputs)
        engine.node("linear", [inside], [out], weights=[engine.matrix(name, data, outputs, columns)])
        for rows in (*range(1, 20), 31, 33, 63, 64):
            first = 64 - rows
            engine.run(x[first:])
            np.testing.assert_array_equal(engine.result(out), together[first:])


def test_few_tiles_are_shared_out_by_rows(lab, isa, stored) -> None:
    data, _ = stored("q4_1", 8, 64)
    x = activations(33, 64)
    one, two = (linear(lab(isa, threads), "q4_1", data, (8, 64), x) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_more_rows_than_a_block(lab, stored) -> None:
    data, _ = stored("q4_1", 48, 64)
    x = activations(600, 64)
    isa = _native.isas()[-1]
    together = linear(lab(isa, 2, max_rows=600), "q4_1", data, (48, 64), x)
    parts = [linear(lab(isa), "q4_1", data, (48, 64), x[i : i + 50]) for i in range(0, 600, 50)]
    np.testing.assert_array_equal(together, np.concatenate(parts))


@pytest.mark.parametrize("name", ALL)
def test_embedding_decodes_rows(lab, isa, stored, name) -> None:
    columns = whole(name, 64)
    data, values = stored(name, 20, columns)
    engine = lab(isa, 2)
    out = engine.buffer(columns)
    table = engine.executor.add_table(name, data, 20, columns)
    engine.node("embed", [], [out], weights=[table])
    tokens = np.array([19, 0, 3, 3, 1], np.int32)
    del data
    engine.run(rows=5, tokens=tokens)
    np.testing.assert_array_equal(engine.result(out), values[tokens])


@pytest.mark.parametrize("name", ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"])
def test_columns_that_are_no_whole_blocks_are_refused(lab, isa, name) -> None:
    with pytest.raises(ValueError, match=f"{name} matrix of 4 x 288: columns must be a multiple of 256"):
        lab(isa).matrix(name, np.zeros(4 * 288, np.uint8), 4, 288)
    with pytest.raises(ValueError, match="columns must be a multiple of 256"):
        lab(isa).executor.add_table(name, np.zeros(4 * 288, np.uint8), 4, 288)


@pytest.mark.parametrize("name", ALL)
def test_a_packed_matrix_takes_the_bytes_of_the_stored_one(isa, stored, name) -> None:
    data, _ = stored(name, 32, 256)
    scales = 4 * 32 if name in BESIDE else 0
    assert _native.Matrix(_native.ThreadPool(1), isa, name, data, 32, 256).bytes == data.size + scales


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", QUANTIZED)
def test_a_row_that_is_not_finite_gives_nothing_finite(lab, isa, stored, name, bad) -> None:
    """int8 codes cannot tell of it, so its scale does; the rows beside it are what they were."""
    columns = whole(name, 96)
    data, _ = stored(name, 20, columns, 3)
    x = activations(5, columns)
    want = linear(lab(isa, 2), name, data, (20, columns), x)
    for place in (0, 40, columns - 1):
        spoilt = x.copy()
        spoilt[2, place] = bad
        got = linear(lab(isa, 2), name, data, (20, columns), spoilt)
        assert np.isnan(got[2]).all()
        np.testing.assert_array_equal(np.delete(got, 2, 0), np.delete(want, 2, 0))


@pytest.mark.parametrize("name", ALL)
def test_a_matrix_knows_whether_it_is_finite(isa, stored, name) -> None:
    columns = whole(name, 96)
    data, _ = stored(name, 20, columns, 3)
    pool, row = _native.ThreadPool(2), FORMATS[name]
    assert _native.Matrix(pool, isa, name, data, 20, columns).finite
    blocks = data.reshape(-1, row.block_bytes).copy()
    for at in places_of_floats(name):
        for bad in spoiling(name):
            spoilt = blocks.copy()
            spoilt[len(blocks) * 2 // 3, at : at + len(bad)] = bad
            assert not _native.Matrix(pool, isa, name, spoilt.reshape(-1), 20, columns).finite


def spoiling(name: str) -> list[np.ndarray]:
    """Bytes of numbers that are not finite."""
    if name in BESIDE:
        return [np.array([code], np.uint8) for code in ((0xFF,) if name == "mxfp4" else (0x7F, 0xFF))]
    form = FORMATS[name if name in ("f32", "bf16") else "f16"]
    return [form.pack(np.array([value], np.float32)) for value in (np.nan, np.inf, -np.inf)]


def scaled(random: np.random.Generator, high: int, wide: int) -> np.ndarray:
    return random.uniform(0.001, 3.0, (high, wide)).astype(np.float32)


@pytest.mark.parametrize("kind", ["int8", "float"])
@pytest.mark.parametrize("name", ["nvfp4", "mxfp4", "f8_e4m3", "q4_0", "f16"])
@pytest.mark.parametrize("block_rows", [1, 7, 40, 500])
def test_scales_of_rows_multiply_outputs(lab, isa, stored, name, kind, block_rows) -> None:
    """One rounding more, whatever the format, and the bias comes after it."""
    outputs, columns = 40, 128
    data, _ = stored(name, outputs, columns, 3)
    scales = scaled(np.random.default_rng(2), -(-outputs // block_rows), 1)
    x, bias = activations(5, columns), np.arange(outputs, dtype=np.float32)
    plain = linear(lab(isa, activations=kind), name, data, (outputs, columns), x)
    engine = lab(isa, 2, kind)
    matrix = _native.Matrix(engine.pool, isa, name, data, outputs, columns, scales, block_rows, columns)
    inside, out = engine.input(columns), engine.buffer(outputs)
    weights = [engine.executor.add_matrix(matrix), engine.vector(bias)]
    engine.node("linear", [inside], [out], weights=weights)
    engine.run(x)
    each = np.repeat(scales[:, 0], block_rows)[:outputs]
    # A format's own factor is a power of two, so that it makes no difference when it is multiplied.
    np.testing.assert_array_equal(engine.result(out), plain * each + bias)


@pytest.mark.parametrize("name", ["f8_e4m3", "f32"])
@pytest.mark.parametrize(("block_rows", "block_columns"), [(128, 128), (3, 50), (200, 1), (1, 300)])
def test_scales_of_blocks_are_a_chain(lab, isa, stored, name, block_rows, block_columns) -> None:
    """Each segment of columns is a chain of its own, and their products with the scales are one more."""
    outputs, columns = 150, 300
    data, values = stored(name, outputs, columns, 3)
    wide = -(-columns // block_columns)
    scales = scaled(np.random.default_rng(2), -(-outputs // block_rows), wide)
    x = activations(9, columns)
    engine = lab(isa, 2)
    matrix = _native.Matrix(engine.pool, isa, name, data, outputs, columns, scales, block_rows, block_columns)
    inside, out = engine.input(columns), engine.buffer(outputs)
    engine.node("linear", [inside], [out], weights=[engine.executor.add_matrix(matrix)])
    engine.run(x)
    factor = np.float32(256 if name == "f8_e4m3" else 1)
    each = np.repeat(scales, block_rows, axis=0)[:outputs] * factor
    total = np.zeros((len(x), outputs), np.float32)
    for segment in range(wide):
        part = np.zeros_like(total)
        for k in range(segment * block_columns, min((segment + 1) * block_columns, columns)):
            column = np.broadcast_to(values[None, :, k] / factor, part.shape)
            part = engine.fused(column, np.broadcast_to(x[:, k, None], part.shape), part)
        scale = np.broadcast_to(each[None, :, segment], part.shape)
        total = part * scale if segment == 0 else engine.fused(part, scale, total)
    np.testing.assert_array_equal(engine.result(out), total)
    np.testing.assert_array_equal(engine.result(out)[4:5], again(engine, x[4:5], out))


def again(engine, x: np.ndarray, out: int) -> np.ndarray:
    engine.run(x)
    return engine.result(out)


@pytest.mark.parametrize("name", ["f8_e4m3", "nvfp4"])
def test_embedding_rows_are_scaled(lab, isa, stored, name) -> None:
    data, values = stored(name, 20, 128, 3)
    block_columns = 128 if name == "nvfp4" else 50
    scales = scaled(np.random.default_rng(4), 3, -(-128 // block_columns))
    engine = lab(isa, 2)
    out = engine.buffer(128)
    table = engine.executor.add_table(name, data, 20, 128, scales, 8, block_columns)
    engine.node("embed", [], [out], weights=[table])
    tokens = np.array([19, 0, 8, 7], np.int32)
    engine.run(rows=4, tokens=tokens)
    each = np.repeat(np.repeat(scales, 8, axis=0)[:20], block_columns, axis=1)[:, :128]
    np.testing.assert_array_equal(engine.result(out), (values * each)[tokens])


def test_scales_that_do_not_fit_are_refused(isa, stored) -> None:
    pool = _native.ThreadPool(1)
    data, _ = stored("nvfp4", 20, 128, 3)
    ones = np.ones((2, 1), np.float32)
    with pytest.raises(
        ValueError, match=r"scales of 2 x 1 do not fit a matrix of 20 x 128 in blocks of 20 x 128"
    ):
        _native.Matrix(pool, isa, "nvfp4", data, 20, 128, ones, 20, 128)
    with pytest.raises(ValueError, match="a block must have rows and columns"):
        _native.Matrix(pool, isa, "nvfp4", data, 20, 128, ones)
    with pytest.raises(ValueError, match="nvfp4 takes one scale a row, not one for each 64 columns"):
        _native.Matrix(pool, isa, "nvfp4", data, 20, 128, np.ones((1, 2), np.float32), 20, 64)
    with pytest.raises(ValueError, match="one is not finite"):
        _native.Matrix(pool, isa, "nvfp4", data, 20, 128, np.full((1, 1), np.nan, np.float32), 20, 128)
    huge = np.full((1, 1), 3e38, np.float32)
    assert not _native.Matrix(pool, isa, "nvfp4", data, 20, 128, huge, 20, 128).finite
