"""Quantized folders of all makers: what is read is what the definitions say, number by number."""

from __future__ import annotations

import json
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantized_writer as writer
from hypothesis import given, settings
from hypothesis import strategies as st

from fivefold.core.checkpoint import Made, Tensor
from fivefold.core.errors import FileError
from fivefold.executor import dequantize
from fivefold.files import give_back, open_checkpoint

DATA = Path(__file__).parent / "data" / "quantized"
RECORDED = np.load(DATA / "expected.npz")
MODULE = "model.layers.0.mlp.up_proj"
SIZES = [(1, 64), (40, 192), (130, 128), (129, 320)]
Array = writer.Array


def matrices(kind: str, shape: tuple[int, int]) -> Array:
    """Numbers that are easy to quantize, and others that are at the limits of scales."""
    random = np.random.default_rng(len(kind) + shape[0])
    values = random.standard_normal(shape)
    if kind == "zeros":
        values[:] = 0
    elif kind == "huge":
        values[0, 5] = 1e30
    elif kind == "tiny":
        values *= 1e-30
    elif kind == "many sizes":
        values *= np.exp2(random.integers(-40, 10, (shape[0], 1)))
        values[:, 16:48] *= 1e-4
    return values


def check(tensor: Tensor, numbers: Array, divided: bool) -> None:
    """Products of exact numbers are rounded once; a divisor's reciprocal is rounded before, so once more."""
    read = dequantize(tensor)
    with np.errstate(over="ignore", under="ignore"):
        wanted = numbers.astype(np.float32)
    assert tensor.shape == numbers.shape == read.shape
    if divided:
        np.testing.assert_allclose(read, wanted, rtol=1.5 * 2.0**-23, atol=2.0**-149)
    else:
        np.testing.assert_array_equal(read, wanted)


@pytest.mark.parametrize("kind", ["plain", "zeros", "huge", "tiny", "many sizes"])
@pytest.mark.parametrize("name", writer.LAYOUTS)
def test_what_is_read_is_what_is_defined(name: str, kind: str, tmp_path: Path) -> None:
    modules = {f"{MODULE}.{number}": matrices(kind, shape) for number, shape in enumerate(SIZES)}
    layout = writer.LAYOUTS[name]
    if name == "modelopt-mixed":
        layers = {module: layout.config["quantized_layers"][MODULE] for module in modules}
        layout = writer.Layout({**layout.config, "quantized_layers": layers}, layout.writers)
    if name == "compressed-mixed":
        modules = {
            MODULE: matrices(kind, SIZES[1]),
            "model.layers.0.self_attn.q_proj": matrices(kind, SIZES[2]),
        }
    numbers = writer.write_layout(tmp_path, layout, modules)
    tensors = open_checkpoint(tmp_path).tensors
    assert set(tensors) == set(numbers)
    for weight, wanted in numbers.items():
        check(tensors[weight], wanted, divided=tensors[weight].format == "nvfp4" and "compressed" in name)


@pytest.mark.parametrize("key", RECORDED.files)
def test_what_is_read_is_what_the_makers_read(key: str) -> None:
    """Recorded by scripts/record_quantized_layouts.py. Theirs multiply the scales of NVFP4 first, and so
    round once more."""
    name, _, weight = key.partition("/")
    tensor = open_checkpoint(DATA / name).tensors[weight]
    read = dequantize(tensor)
    if tensor.format == "nvfp4":
        np.testing.assert_allclose(read, RECORDED[key], rtol=2 * 2.0**-23)
    else:
        np.testing.assert_array_equal(read, RECORDED[key])


@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-148, 115))
@settings(max_examples=60)
def test_any_codes_and_scales_of_nvfp4(seed: int, exponent: int) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 16, (5, 128), np.uint8)
    scales = random.choice([*range(12), 0x7E, *range(127)], (5, 8)).astype(np.uint8)
    factor = np.float32(np.ldexp(random.uniform(1, 2), exponent))
    tensors = {
        f"{MODULE}.weight": ("U8", writer.pairs(codes)),
        f"{MODULE}.weight_scale": (
            "F8_E4M3",
            scales | random.choice([0, 0x80], scales.shape) * (scales == 0),
        ),
        f"{MODULE}.weight_scale_2": ("F32", np.array(factor)),
    }
    with tempfile.TemporaryDirectory() as folder:
        writer.write_folder(Path(folder), {"quantization_config": writer.modelopt("NVFP4")}, tensors)
        tensor = open_checkpoint(Path(folder)).tensors[f"{MODULE}.weight"]
        check(tensor, writer.nvfp4_numbers(codes, scales, float(factor)), divided=False)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_any_codes_and_scales_of_gpt_oss(seed: int) -> None:
    """Matrices of all experts in one tensor, codes that follow each other in one byte."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 16, (3, 4, 96), np.uint8)
    scales = random.choice([0, 1, 2, 126, 127, 128, *range(252)], (3, 4, 3)).astype(np.uint8)
    name = "model.layers.1.mlp.experts.down_proj"
    tensors = {
        f"{name}_blocks": ("U8", writer.pairs(codes).reshape(3, 4, 3, 16)),
        f"{name}_scales": ("U8", scales),
        f"{name}_bias": ("BF16", np.zeros((3, 4), np.uint16)),
        "model.layers.1.self_attn.sinks": ("BF16", np.zeros(4, np.uint16)),
    }
    with tempfile.TemporaryDirectory() as folder:
        config = {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}}
        found = open_checkpoint(writer.write_folder(Path(folder), config, tensors)).tensors
        assert set(found) == {f"{name}.weight", f"{name}_bias", "model.layers.1.self_attn.sinks"}
        assert (found[f"{name}.weight"].format, found[f"{name}.weight"].scales) == ("mxfp4", None)
        check(found[f"{name}.weight"], writer.mxfp4_numbers(codes, scales), divided=False)


def test_what_float32_cannot_hold_is_infinite(tmp_path: Path) -> None:
    """As the definition has it; a model with such a matrix is refused when it is packed."""
    own, _ = writer.fp8("weight_scale", 0, 0)(np.array([[4.0, 2.0, 0.0, -448.0]]))
    own["weight_scale"] = ("F32", np.array(3e38))
    tensors = {f"{MODULE}.{leaf}": stored for leaf, stored in own.items()}
    writer.write_folder(tmp_path, {"quantization_config": writer.modelopt("FP8")}, tensors)
    read = dequantize(open_checkpoint(tmp_path).tensors[f"{MODULE}.weight"])
    assert read.tolist() == [[np.inf, np.inf, 0.0, -np.inf]]


def test_a_matrix_outside_of_any_module(tmp_path: Path) -> None:
    own, numbers = writer.modelopt_nvfp4(matrices("plain", (8, 64)))
    writer.write_folder(tmp_path, {"quantization_config": writer.modelopt("NVFP4")}, own)
    check(open_checkpoint(tmp_path).tensors["weight"], numbers, divided=False)


def large(folder: Path, config: dict[str, Any], bad_scale: int | None = None) -> Path:
    """A folder with a matrix of 16 million numbers in NVFP4."""
    rows, columns = 4096, 4096
    scales = np.full((rows, columns // 16), 0x38, np.uint8)
    if bad_scale is not None:
        scales[-1, -1] = bad_scale
    noise = np.random.default_rng(2).integers(0, 256, (rows, columns // 2), np.uint8)
    tensors = {
        f"{MODULE}.weight": ("U8", noise),
        f"{MODULE}.weight_scale": ("F8_E4M3", scales),
        f"{MODULE}.weight_scale_2": ("F32", np.array(0.5)),
    }
    return writer.write_folder(folder, config, tensors)


def test_bytes_are_made_when_wanted_in_little_memory_and_not_kept(tmp_path: Path) -> None:
    folder = large(tmp_path, {"quantization_config": writer.modelopt("NVFP4")})
    tracemalloc.start()
    try:
        tensor = open_checkpoint(folder).tensors[f"{MODULE}.weight"]
        assert tensor.scales is not None
        assert tensor.scales.fits(tensor.shape)
        size = 4096 * 4096 // 64 * 36
        assert tensor.stored_bytes == size + 4
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        assert tensor.data.nbytes == size
        now, peak = tracemalloc.get_traced_memory()
        assert peak < size + (2 << 20)
        assert now < 1 << 20
    finally:
        tracemalloc.stop()


def resident() -> int:
    """Bytes of files that this process holds in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssFile:"):
            return int(line.split()[1]) << 10
    pytest.skip("this system does not tell")


def test_what_bytes_were_made_of_is_given_back(tmp_path: Path) -> None:
    folder = large(tmp_path, {"quantization_config": writer.modelopt("NVFP4")})
    tensor = open_checkpoint(folder).tensors[f"{MODULE}.weight"]
    before = resident()
    made = tensor.data
    assert resident() - before > 4 << 20
    give_back([tensor])
    assert resident() - before < 2 << 20
    assert np.array_equal(tensor.data, made)


def test_nothing_is_read_before_a_tensor_is_wanted(tmp_path: Path) -> None:
    """A scale that no file should have shows only then, and by its name."""
    folder = large(tmp_path, {"quantization_config": writer.modelopt("NVFP4")}, bad_scale=0x7F)
    tensor = open_checkpoint(folder).tensors[f"{MODULE}.weight"]
    with pytest.raises(FileError, match=r"up_proj.weight_scale' holds a scale that is NaN or less than zero"):
        _ = tensor.data


@pytest.mark.parametrize("name", [name for name in writer.LAYOUTS if "fp8" in name])
def test_fp8_is_not_copied(name: str, tmp_path: Path) -> None:
    writer.write_layout(tmp_path, writer.LAYOUTS[name], {MODULE: matrices("plain", (8, 64))})
    tensor = open_checkpoint(tmp_path).tensors[f"{MODULE}.weight"]
    assert not isinstance(tensor.stored, Made)
    assert not tensor.data.flags.owndata


@pytest.mark.parametrize(
    "config",
    [
        writer.LAYOUTS["compressed-nvfp4"].config,
        writer.LAYOUTS["fp8-block"].config,
        {"quant_method": "modelopt", "quant_algo": None, "kv_cache_quant_algo": "FP8"},
        writer.compressed("dense", kv_cache_scheme={"num_bits": 8, "type": "float"}),
    ],
)
def test_matrices_stored_as_floats_are_taken_as_they_are(config: Any, tmp_path: Path) -> None:
    """Whatever the config says of their modules; factors for activations and the cache are passed over."""
    tensors: dict[str, writer.Stored] = {
        "lm_head.weight": ("BF16", np.full((4, 4), 0x3F80, np.uint16)),
        "model.embed_tokens.weight": ("F32", np.ones((4, 4))),
        "model.layers.0.input_layernorm.weight": ("F16", np.ones(4)),
        "model.layers.0.self_attn.o_proj.weight": ("F32", np.ones((4, 4))),
        "model.layers.0.self_attn.o_proj.bias": ("F32", np.ones(4)),
        "model.layers.0.self_attn.o_proj.input_scale": ("F32", np.ones(1)),
        **{name: ("F32", np.ones(4)) for name in ("bias", ".bias", "..bias", "x.", "x")},
        "model.layers.0.self_attn.k_scale": ("F32", np.ones(1)),
        "model.layers.0.self_attn.v_proj.v_scale": ("F32", np.ones(1)),
    }
    writer.write_folder(tmp_path, {"quantization_config": config}, tensors)
    found = open_checkpoint(tmp_path).tensors
    assert set(found) == {name for name in tensors if not name.endswith("_scale")}
    assert all(np.array_equal(dequantize(tensor), np.ones(tensor.shape)) for tensor in found.values())


def test_modelopts_own_file_counts_where_the_config_is_silent(tmp_path: Path) -> None:
    numbers = writer.write_layout(
        tmp_path, writer.LAYOUTS["modelopt-nvfp4"], {MODULE: matrices("plain", (8, 64))}
    )
    own = {
        "quant_algo": "NVFP4",
        "kv_cache_quant_algo": "FP8",
        "group_size": 16,
        "exclude_modules": ["lm_head"],
    }
    (tmp_path / "hf_quant_config.json").write_text(
        json.dumps({"producer": {"name": "modelopt", "version": "0.29.0"}, "quantization": own})
    )
    mixed = {"quant_algo": "MIXED_PRECISION", "quantized_layers": {MODULE: {"quant_algo": "NVFP4"}}}
    for config, written in (({}, own), ({"quantization_config": writer.modelopt("MIXED_PRECISION")}, mixed)):
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": written}))
        opened = open_checkpoint(tmp_path)
        assert opened.metadata["quantization_config"]["quantization"] == written
        check(opened.tensors[f"{MODULE}.weight"], numbers[f"{MODULE}.weight"], divided=False)


def test_a_modules_tensors_may_lie_in_several_shards(tmp_path: Path) -> None:
    layout = writer.LAYOUTS["compressed-nvfp4"]
    own, numbers = layout.write(MODULE, matrices("plain", (8, 64)))
    places = {}
    for number, (leaf, stored) in enumerate(own.items(), 1):
        shard = f"model-{number:05d}-of-{len(own):05d}.safetensors"
        writer.write_safetensors(tmp_path / shard, {f"{MODULE}.{leaf}": stored})
        places[f"{MODULE}.{leaf}"] = shard
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": layout.config}))
    check(open_checkpoint(tmp_path).tensors[f"{MODULE}.weight"], numbers, divided=True)
