"""Conversion at load: the quantizer's rounding, piece by piece, and only when it is wanted."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from second_model import write_second_model

from fivefold.core.checkpoint import Checkpoint, Made, Scales, Tensor
from fivefold.core.errors import FileError, InputError
from fivefold.core.request import SamplingParams
from fivefold.engine import Engine, LoadOptions, load, need_of
from fivefold.executor import dequantize
from fivefold.formats import FORMATS
from fivefold.quantize import Choice, LoadedFormat, encode, loaded_format, loading

FORMS = [form for form in LoadedFormat.known if form != "auto"]


def converted(tensor: Tensor, form: str) -> Tensor:
    """One tensor as it is loaded."""
    found = LoadedFormat(form).of(Checkpoint(Path("a.gguf"), "gguf", {}, {tensor.name: tensor}))
    return found.tensors[tensor.name]


def matrix(name: str, *shape: int, form: str = "f32") -> Tensor:
    values = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    return Tensor(name, form, shape, FORMATS[form].pack(values.ravel()))


def unread(tensor: Tensor) -> Tensor:
    """The same, and whoever reads it fails."""

    def fail() -> Any:
        raise AssertionError("it was read")

    return replace(tensor, stored=Made((tensor.data.size,), fail, ()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_a_matrix_is_rounded_as_the_quantizer_does_it(
    form: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces of any number of rows, with one factor for all of them."""
    monkeypatch.setattr(loading, "ROWS", rows * 64)
    tensor = matrix("blk.0.ffn_up.weight", 24, 64)
    loaded = converted(tensor, form)
    if form == "f32":
        assert loaded is tensor
        return
    expected = encode(tensor.name, dequantize(tensor), Choice(form))
    assert (loaded.format, loaded.shape) == (expected.format, tensor.shape)
    assert np.array_equal(loaded.data, expected.data)
    assert (loaded.scales is None) == (expected.scales is None)
    if loaded.scales is not None and expected.scales is not None:
        assert np.array_equal(loaded.scales.values, expected.scales.values)
    assert np.array_equal(dequantize(loaded), dequantize(expected))


@pytest.mark.parametrize("form", FORMS)
def test_what_it_takes_is_known_before_anything_is_read(form: str) -> None:
    tensor = matrix("blk.0.ffn_up.weight", 24, 64)
    expected = converted(tensor, form).stored_bytes
    assert converted(unread(tensor), form).stored_bytes == expected
    factors = 4 if form == "nvfp4" else 4 * 24 if form == "fp8" else 0
    assert expected == FORMATS[converted(tensor, form).format].bytes_for(24 * 64) + factors


def test_stacks_of_experts_are_converted_and_small_or_strange_tensors_kept() -> None:
    stack = matrix("blk.0.ffn_up_exps.weight", 3, 8, 64)
    assert np.array_equal(
        dequantize(converted(stack, "nvfp4")).reshape(24, 64),
        dequantize(encode(stack.name, dequantize(stack).reshape(24, 64), Choice("nvfp4"))),
    )
    for name, shape in (
        ("blk.0.attn_norm.weight", (64,)),
        ("blk.0.ffn_gate_inp.weight", (8, 64)),
        ("model.layers.0.mlp.experts.gate_up_proj", (3, 64, 64)),
        ("model.layers.0.self_attn.q_proj.bias", (64,)),
    ):
        tensor = unread(matrix(name, *shape))
        assert converted(tensor, "q4_0") is tensor


def test_another_format_is_given_only_where_that_makes_it_smaller() -> None:
    """The head and the embedding are q8_0 in coarse models, and so is what has no whole blocks."""
    for name in ("output.weight", "token_embd.weight", "lm_head.weight"):
        assert converted(matrix(name, 8, 64, form="bf16"), "nvfp4").format == "q8_0"
        assert converted(matrix(name, 8, 64, form="q4_0"), "nvfp4").format == "q4_0"
        assert converted(matrix(name, 8, 64, form="bf16"), "fp8").format == "f8_e4m3"
    assert converted(matrix("blk.0.ffn_up.weight", 8, 96, form="f16"), "nvfp4").format == "q8_0"
    assert converted(matrix("blk.0.ffn_up.weight", 8, 96, form="q8_0"), "nvfp4").format == "q8_0"
    assert converted(matrix("blk.0.ffn_up.weight", 8, 40, form="f16"), "nvfp4").format == "f16"
    assert converted(matrix("blk.0.ffn_up.weight", 8, 64, form="q8_0"), "nvfp4").format == "nvfp4"


def test_what_is_quantized_with_factors_beside_it_is_converted_too() -> None:
    plain = matrix("blk.0.ffn_up.weight", 300, 128)
    stored = encode(plain.name, dequantize(plain), Choice("fp8_block"))
    expected = encode(plain.name, dequantize(stored), Choice("q4_0"))
    assert np.array_equal(converted(stored, "q4_0").data, expected.data)
    again = converted(stored, "fp8")
    assert again.scales is not None and again.scales.stored.shape == (300, 1)


def test_a_number_that_is_none_is_refused_when_the_tensor_is_wanted() -> None:
    values = np.ones((4, 64), np.float32)
    values[2, 5] = np.nan
    tensor = Tensor("blk.0.ffn_up.weight", "f32", (4, 64), values.reshape(-1).view(np.uint8))
    for form in ("nvfp4", "q8_0", "fp8"):
        with pytest.raises(FileError, match=r"row 2 holds a number that is NaN"):
            _ = converted(tensor, form).data


def test_no_matrix_is_floats_as_a_whole() -> None:
    values = np.zeros((2048, 4096), np.float16)
    tensor = Tensor("blk.0.ffn_up.weight", "f16", values.shape, values.reshape(-1).view(np.uint8))
    loaded = converted(tensor, "q8_0")
    tracemalloc.start()
    try:
        size = loaded.data.size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - size < 4 * values.size, "all of it was floats at once"


@pytest.mark.parametrize("form", ["q4_0", "nvfp4", "fp8", "bf16"])
def test_a_model_is_loaded_so(form: str, tmp_path: Path) -> None:
    """It answers as the reference does with the same tensors, and its need is known beforehand."""
    path = tmp_path / "model.gguf"
    write_second_model(path)
    options = LoadOptions(threads=1, activations="float", conversion=loaded_format(form, "--format"))
    loaded = load(path, options)
    assert {one.format for one in loaded.checkpoint.tensors.values()} > {"f32"}
    need, plain = need_of(path, options), need_of(path, LoadOptions())
    assert need.weights == sum(tensor.stored_bytes for tensor in loaded.checkpoint.tensors.values())
    assert (need.weights < plain.weights) == (form != "bf16")
    sampling = SamplingParams(max_tokens=6, temperature=0, ignore_eos=True)
    told = [
        Engine(one).generate([[5, 6, 7, 8]], sampling)[0].tokens
        for one in (loaded, load(path, replace(options, reference=True)))
    ]
    assert told[0] == told[1]
    assert len(told[0]) == 6


def test_scales_are_made_when_they_are_wanted() -> None:
    loaded = converted(unread(matrix("blk.0.ffn_up.weight", 24, 64)), "fp8")
    assert isinstance(loaded.scales, Scales)
    assert loaded.scales.fits((24, 64))


@pytest.mark.parametrize("name", ["q4", "keep", "fp8_block", "q6_k", "NVFP4"])
def test_an_unknown_format_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(InputError, match=r"--format: .* choose one of auto, nvfp4"):
        loaded_format(name, "--format")


def test_auto_is_as_it_is_stored() -> None:
    assert loaded_format("auto", "") is None
