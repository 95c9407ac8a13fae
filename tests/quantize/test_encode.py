"""Encoders: roundings are the formats', sweeps find what trying everything finds, and nothing odd is
stored.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fivefold.core.checkpoint import Float32
from fivefold.core.errors import FileError, InputError
from fivefold.executor import dequantize
from fivefold.formats import FORMATS, e2m1, e4m3, mxfp4, nvfp4
from fivefold.quantize import Choice, encode
from fivefold.quantize.nvfp4 import tensor_factor
from fivefold.quantize.targets import TARGETS

SWEPT = ("nvfp4", "mxfp4", "q4_0", "q8_0")
METHODS = [(form, method) for form, target in TARGETS.items() for method in sorted(target.methods - {"gptq"})]


def matrix(rows: int = 6, columns: int = 128, seed: int = 1) -> Float32:
    random = np.random.default_rng(seed)
    return (random.standard_t(4, (rows, columns)) * 0.02).astype(np.float32)


def importance(columns: int = 128) -> Float32:
    return np.exp(2 * np.random.default_rng(2).standard_normal(columns)).astype(np.float32)


def loss(form: str, values: Float32, method: str, weights: Float32 | None, **more: Any) -> float:
    off = dequantize(encode("t", values, Choice(form, method, **more), weights)).astype(np.float64) - values
    return float((off**2 * (1 if weights is None else weights)).sum())


@pytest.mark.parametrize(("form", "method"), METHODS)
def test_every_method_gives_a_tensor_that_reads_back(form: str, method: str) -> None:
    values = matrix()
    tensor = encode("t", values, Choice(form, method))  # type: ignore[arg-type]
    assert (tensor.name, tensor.format, tensor.shape) == ("t", TARGETS[form].stored, values.shape)
    assert tensor.data.nbytes == FORMATS[tensor.format].bytes_for(values.size)
    off = np.abs(dequantize(tensor) - values).max()
    assert off <= np.abs(values).max() * (0.26 if "4" in form else 0.07)


@pytest.mark.parametrize("form", ["mxfp4", "q4_0", "q8_0", "f16", "bf16", "f32"])
def test_rounding_is_the_formats(form: str) -> None:
    values = matrix()
    tensor = encode("t", values, Choice(form))
    assert tensor.scales is None
    assert np.array_equal(tensor.data, FORMATS[form].pack(values.ravel()))


def test_rounding_of_nvfp4_is_modelopts() -> None:
    values = matrix()
    tensor = encode("t", values, Choice("nvfp4"))
    factor = np.abs(values).max() / np.float32(6 * 448)
    assert tensor.scales is not None
    assert tensor.scales.values.item() == factor
    assert np.array_equal(tensor.data, nvfp4.pack((values / factor).ravel()))
    scales, _ = nvfp4.split(tensor.data.reshape(-1, nvfp4.BLOCK_BYTES))
    assert scales.max() == 0x7E  # the part with the largest number has the largest scale


@pytest.mark.parametrize("weighted", [False, True])
def test_a_sweep_of_nvfp4_finds_what_trying_all_scales_finds(weighted: bool) -> None:
    values = matrix()
    weights = importance() if weighted else None
    tensor = encode("t", values, Choice("nvfp4", "sweep"), weights)
    assert tensor.scales is not None
    parts = (values.astype(np.float64) / tensor.scales.values.item()).reshape(-1, 16)
    per_part = np.ones_like(parts) if weights is None else np.tile(weights, len(values)).reshape(-1, 16)
    scales = e4m3.VALUES[1:127].astype(np.float64)
    levels = np.abs(parts)[None] / scales[:, None, None]
    nearest = e2m1.VALUES[:8][np.abs(levels[..., None] - e2m1.VALUES[:8]).argmin(axis=-1)]
    losses = ((np.abs(parts) - nearest * scales[:, None, None]) ** 2 * per_part).sum(axis=-1)
    found, _ = nvfp4.split(tensor.data.reshape(-1, nvfp4.BLOCK_BYTES))
    chosen = losses[found.astype(int) - 1, np.arange(len(parts))]
    assert (chosen <= losses.min(axis=0) * (1 + 1e-5)).all()


def test_a_part_that_is_exact_at_four_sixths_is_stored_exactly() -> None:
    """Four over six, and ties: of the scales without error that nearest to the rounding's."""
    row = np.tile(np.array([4, 3, 2, 1.5, 1, 0.5, 0, -4, -3, -2, -1.5, -1, -0.5, 4, 2, 1], np.float32), 4)
    values = np.stack([row, row / 1024])
    tensor = encode("t", values, Choice("nvfp4", "sweep"))
    assert np.array_equal(dequantize(tensor), values)
    assert not np.array_equal(dequantize(encode("t", values, Choice("nvfp4"))), values)
    same = np.full((1, 64), 6.0, np.float32)  # exact at 6, at 4, at 3 and so on
    tensor = encode("t", same, Choice("nvfp4", "sweep"))
    assert tensor.scales is not None
    scales, _ = nvfp4.split(tensor.data.reshape(-1, nvfp4.BLOCK_BYTES))
    rounding = e4m3.nearest(np.float32(1) / tensor.scales.values.ravel())
    assert set(scales.tolist()) == set(rounding.tolist())


def test_a_window_finds_nearly_all() -> None:
    values = matrix(64, 512)
    every, near = (loss("nvfp4", values, "sweep", None, window=window) for window in (126, 12))
    assert every <= near <= every * 1.0001
    assert loss("nvfp4", values, "sweep", None, window=1) > every


@pytest.mark.parametrize("weighted", [False, True])
def test_a_sweep_of_mxfp4_takes_the_best_of_three(weighted: bool) -> None:
    values = matrix()
    weights = importance() if weighted else None
    tensor = encode("t", values, Choice("mxfp4", "sweep"), weights)
    blocks = values.reshape(-1, 32)
    per_block = np.ones_like(blocks) if weights is None else np.tile(weights, len(values)).reshape(-1, 32)
    start = mxfp4.pack(values.ravel()).reshape(-1, 17)[:, :1].astype(int)
    losses = []
    for step in (-1, 0, 1):
        stored = (start + step).astype(np.uint8)
        read = mxfp4.powers(stored) * e2m1.VALUES[mxfp4.codes_for(blocks, stored)]
        losses.append((((read - blocks).astype(np.float64)) ** 2 * per_block).sum(axis=1))
    off = (dequantize(tensor).reshape(-1, 32).astype(np.float64) - blocks) ** 2
    np.testing.assert_allclose((off * per_block).sum(axis=1), np.min(losses, axis=0), rtol=1e-5)


@pytest.mark.parametrize("form", SWEPT)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_sweep_loses_less_than_rounding(form: str, weighted: bool) -> None:
    values = matrix(32, 256)
    weights = importance(256) if weighted else None
    assert loss(form, values, "sweep", weights) < loss(form, values, "round", weights)


@pytest.mark.parametrize("form", ["q4_0", "q8_0"])
def test_no_block_is_worse_than_rounded(form: str) -> None:
    values = matrix(32, 256)
    losses = [
        ((dequantize(encode("t", values, Choice(form, method))) - values) ** 2).reshape(-1, 32).sum(axis=1)
        for method in ("sweep", "round")
    ]
    assert (losses[0] <= losses[1] * (1 + 1e-5)).all()


@pytest.mark.parametrize("form", SWEPT)
def test_what_does_not_matter_is_lost_first(form: str) -> None:
    values, weights = matrix(32, 256), importance(256)
    heavy, even = (
        dequantize(encode("t", values, Choice(form, "sweep"), each)).astype(np.float64) - values
        for each in (weights, None)
    )
    assert (heavy**2 * weights).sum() < (even**2 * weights).sum()
    assert (heavy**2).sum() > (even**2).sum()


@pytest.mark.parametrize("form", SWEPT)
def test_importance_of_nothing_is_none(form: str) -> None:
    values = matrix()
    plain = encode("t", values, Choice(form, "sweep"))
    for weights in (np.zeros(128, np.float32), np.full(128, 3e-30, np.float32)):
        assert np.array_equal(encode("t", values, Choice(form, "sweep"), weights).data, plain.data)


@pytest.mark.parametrize(
    ("form", "rows", "columns"), [("fp8", 1, 300), ("fp8_tensor", 200, 300), ("fp8_block", 128, 128)]
)
def test_scales_of_fp8_are_those_of_their_blocks(form: str, rows: int, columns: int) -> None:
    values = matrix(200, 300)
    values[7] = 0
    tensor = encode("t", values, Choice(form))
    assert tensor.scales is not None
    assert (tensor.scales.rows, tensor.scales.columns) == (rows, columns)
    assert tensor.scales.fits(values.shape)
    for i, j in np.ndindex(tensor.scales.values.shape):
        block = values[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        expected = np.abs(block).max() / np.float32(448) if block.any() else 1.0
        assert tensor.scales.values[i, j] == np.float32(expected)
    scaled = values / tensor.scales.spread(values.shape)
    assert np.array_equal(tensor.data, FORMATS["f8_e4m3"].pack(scaled.ravel()))


@pytest.mark.parametrize(("form", "method"), METHODS)
def test_zeros_stay_zeros(form: str, method: str) -> None:
    tensor = encode("t", np.zeros((3, 128), np.float32), Choice(form, method))  # type: ignore[arg-type]
    assert not dequantize(tensor).any()
    assert tensor.scales is None or (tensor.scales.values == 1).all()


@pytest.mark.parametrize(("form", "method"), METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(form: str, method: str, value: float) -> None:
    values = matrix()
    values[2, 5] = value
    with pytest.raises(FileError, match=r"tensor blk\.7: row 2 holds a number that is NaN or infinite"):
        encode("blk.7", values, Choice(form, method))  # type: ignore[arg-type]


EXTREMES = {
    "one huge": lambda v: np.where(np.arange(v.size).reshape(v.shape) == 77, 1e30, v),
    "one huge among nothing": lambda v: np.where(np.arange(v.size).reshape(v.shape) == 77, -1e30, 0 * v),
    "subnormal": lambda v: v * 1e-40,
    "least": lambda v: np.where(v > 0, 1e-45, 0),
    "largest": lambda v: np.sign(v) * 1.5e38,
    "many sizes": lambda v: v * 10.0 ** np.linspace(-30, 0, v.shape[1]),
}


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize(
    ("form", "method"), [(f, m) for f, m in METHODS if f[0] not in "qf" or f[:3] == "fp8"]
)
def test_extremes_stay_numbers_near_themselves(form: str, method: str, name: str) -> None:
    values = EXTREMES[name](matrix()).astype(np.float32)
    read = dequantize(encode("t", values, Choice(form, method)))  # type: ignore[arg-type]
    assert np.isfinite(read).all()
    largest = float(np.abs(values).max())
    assert np.abs(read.astype(np.float64) - values).max() <= max(0.26 * largest, 1e-37)


@pytest.mark.parametrize("form", ["q4_0", "q8_0", "f16"])
@pytest.mark.parametrize("method", ["round", "sweep"])
def test_what_f16_cannot_scale_is_refused_with_the_tensors_name(form: str, method: str) -> None:
    if method in TARGETS[form].methods:
        with pytest.raises(FileError, match=r"tensor deep: .*f16 can hold"):
            encode("deep", np.full((1, 32), 1e30, np.float32), Choice(form, method))  # type: ignore[arg-type]


def test_factors() -> None:
    values = np.array([[0.5, -3.0]], np.float32)
    assert tensor_factor(values, Choice("nvfp4")) == np.float32(3.0) / np.float32(2688)
    assert tensor_factor(values, Choice("nvfp4", "round", factor="power")) == 2.0**-9
    assert tensor_factor(values, Choice("nvfp4", "sweep")) == 2.0**-9
    assert tensor_factor(values * np.float32(1792 / 3 * 2**-3), Choice("nvfp4", "sweep")) == 2.0**-3
    assert tensor_factor(values, Choice("nvfp4", "sweep", largest=1793.0)) == 2.0
    assert tensor_factor(values, Choice("nvfp4", factor="one")) == 1.0
    assert encode("t", matrix(), Choice("nvfp4", factor="one")).scales is None


@given(arrays.arrays(np.float32, (2, 64), elements=st.floats(-(2.0**60), 2.0**60, width=32)))
def test_any_numbers_are_held_as_near_as_their_part_allows(values: Float32) -> None:
    """By both methods of nvfp4: within 1/6 of the part's largest and the rounding of its scale."""
    for method in ("round", "sweep"):
        tensor = encode("t", values, Choice("nvfp4", method))  # type: ignore[arg-type]
        assert tensor.scales is not None
        parts, read = values.reshape(-1, 16).astype(np.float64), dequantize(tensor).reshape(-1, 16)
        largest = np.abs(parts).max(axis=1, keepdims=True)
        floor = tensor.scales.values.item() * 2.0**-9
        bound = largest * (1 / 6 + 1 / 12) if method == "round" else 4 * largest  # a sweep bounds the sum
        assert (np.abs(read - parts) <= bound + 6 * floor).all()


@pytest.mark.parametrize(
    ("values", "choice", "weights", "says"),
    [
        (matrix(2, 48), Choice("nvfp4"), None, "no matrix of whole blocks of 64"),
        (matrix()[0], Choice("f16"), None, "no matrix"),
        (matrix(), Choice("q2_k"), None, "cannot be quantized to"),
        (matrix(), Choice("fp8", "sweep"), None, "fp8 has no method 'sweep'"),
        (matrix(), Choice("nvfp4", "gptq"), None, "takes more than the matrix"),
        (matrix(), Choice("nvfp4", "sweep", window=0), None, "a window of 0"),
        (matrix(), Choice("nvfp4", "sweep"), np.ones(3, np.float32), "not 128 finite numbers"),
        (matrix(), Choice("nvfp4", "sweep"), -np.ones(128, np.float32), "not 128 finite numbers"),
        (matrix(), Choice("nvfp4", "sweep"), np.full(128, np.nan, np.float32), "not 128 finite numbers"),
    ],
)
def test_what_cannot_be_encoded_is_refused(
    values: Float32, choice: Choice, weights: Float32 | None, says: str
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        encode("t", values, choice, weights)
    assert "tensor t" in str(caught.value)


@pytest.mark.parametrize(("form", "method"), METHODS)
def test_memory_is_that_of_the_result(form: str, method: str) -> None:
    values = matrix(2048, 4096)
    choice = Choice(form, method, window=1)  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        tensor = encode("t", values, choice)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    pieces = 20 << 20  # whatever the size of the matrix
    assert peak < tensor.data.nbytes + pieces
