"""Quantized folders that are not read: one line each names the quantization, key or tensor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantized_writer as writer

from fivefold.core.errors import FileError, InputError, UnsupportedError
from fivefold.executor import dequantize
from fivefold.files import open_checkpoint

MODULE = "model.layers.0.mlp.up_proj"
VALUES = np.random.default_rng(4).standard_normal((40, 192))
ONES = np.ones((4, 64))
NO, BAD = UnsupportedError, FileError
Stored = writer.Stored


def folder_of(path: Path, config: Any, tensors: dict[str, Stored] | None = None) -> Path:
    plain: dict[str, Stored] = {"lm_head.weight": ("F32", ONES)}
    return writer.write_folder(path, {"quantization_config": config}, plain if tensors is None else tensors)


def refused(path: Path, says: str, error: type[InputError]) -> None:
    with pytest.raises(error) as caught:
        for tensor in open_checkpoint(path).tensors.values():
            dequantize(tensor)
    line = caught.value.line()
    assert type(caught.value) is error
    assert says in line
    assert str(path) in line
    assert caught.value.remedy
    assert line.isprintable()
    assert len(line) < 700


def changed(layout: str, **changes: Any) -> dict[str, Any]:
    return {**writer.LAYOUTS[layout].config, **changes}


def weights(group: dict[str, Any], form: str = "mixed-precision", **changes: Any) -> dict[str, Any]:
    """A config of compressed-tensors with one group whose weights are described otherwise."""
    return writer.compressed(form, {**group, "weights": {**group["weights"], **changes}})


NVFP4, ROWS, BLOCK = writer.NVFP4_GROUP, writer.ROWS_GROUP, writer.BLOCK_GROUP
CONFIGS: list[tuple[Any, str, type[InputError]]] = [
    ({"quant_method": "awq", "bits": 4}, "quantization 'awq' is not implemented", NO),
    ({"quant_method": "gptq", "bits": 4}, "quantization 'gptq' is not implemented", NO),
    ({"quant_method": "bitsandbytes"}, "quantization 'bitsandbytes' is not implemented", NO),
    ({"bits": 4}, "quantization without a quant_method is not implemented", NO),
    ({"quant_method": ["fp8"]}, "key quant_method is a list, not a text", BAD),
    ([4], "it is not an object", BAD),
    (writer.modelopt("W4A16_AWQ"), "ModelOpt's quantization W4A16_AWQ is not implemented", NO),
    (writer.modelopt("NVFP4_AWQ"), "ModelOpt's quantization NVFP4_AWQ is not implemented", NO),
    (writer.modelopt(""), "ModelOpt's quantization without a name is not", NO),
    (writer.modelopt("NVFP4", group_size=32), "key group_size is 32, and 16 can be done", NO),
    (writer.modelopt("NVFP4", lora_rank=32), "key 'lora_rank' is not known", NO),
    (writer.modelopt("FP8", kv_cache_quant_algo="MXFP8"), "key kv_cache_quant_algo is 'MXFP8'", NO),
    (writer.modelopt("FP8", ignore="lm_head"), "key ignore is 'lm_head', not a list of texts", BAD),
    (writer.modelopt("MIXED_PRECISION"), "key quantized_layers is None, and must say", BAD),
    (
        writer.modelopt("MIXED_PRECISION", quantized_layers={MODULE: {"quant_algo": "W8A16"}}),
        f"{MODULE}: ModelOpt's quantization W8A16 is not", NO,
    ),
    (changed("fp8-block", fmt="e5m2"), "key fmt is 'e5m2', and e4m3, float8_e4m3fn can be done", NO),
    (changed("fp8-block", weight_block_size=[128]), "key weight_block_size is [128], not two sizes", BAD),
    (changed("fp8-block", weight_block_size=[0, 1]), "key weight_block_size is [0, 1]", BAD),
    (changed("fp8-block", expert_dtype="fp4"), "key expert_dtype is 'fp4', and fp8 can", NO),
    (changed("fp8-block", modules_to_convert=["model.embed_tokens"]), "'modules_to_convert'", NO),
    (changed("fbgemm-fp8", bits=8), "key 'bits' is not known", NO),
    (writer.compressed("int-quantized", ROWS), "key format is 'int-quantized', and", NO),
    (writer.compressed("pack-quantized", ROWS), "key format is 'pack-quantized', and", NO),
    (writer.compressed("marlin-24", ROWS), "key format is 'marlin-24', and", NO),
    (writer.compressed("mixed-precision", {**ROWS, "format": "dense"}), "key format is 'dense'", NO),
    (weights(NVFP4, group_size=32), "weights: key group_size is 32, and 16 can be done", NO),
    (weights(NVFP4, symmetric=False), "weights: key symmetric is False", NO),
    (weights(NVFP4, type="int"), "weights: key type is 'int', and float can be done", NO),
    (weights(NVFP4, num_bits=6), "weights: key num_bits is 6", NO),
    (weights(ROWS, strategy="group", group_size=64), "weights: key strategy is 'group'", NO),
    (weights(ROWS, dynamic=True), "weights: key dynamic is True", NO),
    (weights(ROWS, actorder="group"), "weights: key actorder is 'group'", NO),
    (weights(ROWS, rotation=1), "weights: key 'rotation' is not known", NO),
    (weights(BLOCK, block_structure=[128, 0]), "key block_structure is [128, 0]", BAD),
    (weights(BLOCK, block_structure="128x"), "key block_structure is '128x'", BAD),
    (changed("compressed-mixed", quantization_status="calibration"), "is 'calibration', and compressed", NO),
    (changed("compressed-mixed", transform_config={"config_groups": {}}), "key transform_config", NO),
    (changed("compressed-mixed", sparsity_config={"format": "sparse-24-bitmask"}), "is 'sparse-", NO),
    (changed("compressed-mixed", kv_cache_scheme={"symmetric": False}), "symmetric is False", NO),
    (changed("compressed-mixed", ignore=["re:(a"]), "'re:(a' is not understood: a group is not", NO),
    (
        writer.compressed("mixed-precision", {**ROWS, "targets": ["lm"]}, {**NVFP4, "targets": ["lm"]}),
        "module 'lm' is named by several groups", NO,
    ),
    (
        writer.compressed("mixed-precision", {**ROWS, "output_activations": {"num_bits": 8}}),
        "key output_activations asks", NO,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("config", "says", "error"), CONFIGS, ids=[case[1] for case in CONFIGS])
def test_configs(config: Any, says: str, error: type[InputError], tmp_path: Path) -> None:
    refused(folder_of(tmp_path, config), says, error)


def with_parts(**changes: Stored | None) -> dict[str, Stored | None]:
    return dict(changes)


F8, U8, F32 = "F8_E4M3", "U8", "F32"
SCALES = np.full((40, 12), 0x38, np.uint8)
TENSORS: list[tuple[str, dict[str, Stored | None], str, type[InputError]]] = [
    ("modelopt-nvfp4", with_parts(weight_scale_2=None), "weight_scale_2' is missing beside", BAD),
    ("modelopt-nvfp4", with_parts(weight_scale=None), "weight_scale' is missing beside", BAD),
    ("modelopt-nvfp4", with_parts(weight=None), "up_proj.weight' is missing beside", BAD),
    ("modelopt-nvfp4", with_parts(weight=(F8, SCALES)), "up_proj.weight' is f8_e4m3, not u8", BAD),
    (
        "modelopt-nvfp4",
        with_parts(weight=(U8, SCALES[0])),
        "up_proj.weight' is [12], not a matrix",
        FileError,
    ),
    ("modelopt-nvfp4", with_parts(weight_scale=(F8, SCALES[1:])), "is [39, 12], not [40, 12]", BAD),
    ("modelopt-nvfp4", with_parts(weight_scale=(F32, SCALES)), "is f32, not f8_e4m3", BAD),
    ("modelopt-nvfp4", with_parts(weight_scale_2=(F32, np.ones(2))), "is [2], not [1, 1]", BAD),
    ("modelopt-nvfp4", with_parts(weight_scale_2=(F32, np.array(np.nan))), "holds nan, which no", BAD),
    ("modelopt-nvfp4", with_parts(weight_scale_2=(F32, np.array(np.inf))), "holds inf, which no", BAD),
    ("modelopt-nvfp4", with_parts(weight_scale_2=(F32, np.array(-1.0))), "holds -1.0, which no", BAD),
    (
        "modelopt-nvfp4",
        with_parts(weight_scale=(F8, SCALES | 0x80)),
        "that is NaN or less than zero",
        FileError,
    ),
    (
        "modelopt-nvfp4",
        with_parts(pre_quant_scale=(F32, np.ones(192))),
        "pre_quant_scale' (f32)",
        UnsupportedError,
    ),
    (
        "modelopt-nvfp4",
        with_parts(weight_zero_point=(U8, SCALES)),
        "declares nothing that reads",
        UnsupportedError,
    ),
    (
        "modelopt-mixed",
        with_parts(weight=(U8, np.zeros((40, 24), np.uint8))),
        "rows of 48 numbers",
        UnsupportedError,
    ),
    (
        "compressed-nvfp4",
        with_parts(weight=(F32, ONES)),
        "'model.layers.0.mlp.up_proj.weight' stands",
        FileError,
    ),
    (
        "compressed-nvfp4",
        with_parts(weight_global_scale=(F32, np.zeros(1))),
        "holds 0.0, which no",
        FileError,
    ),
    (
        "compressed-nvfp4",
        with_parts(weight_global_scale=(F32, np.array([1e-40]))),
        "which no scale",
        FileError,
    ),
    (
        "compressed-nvfp4",
        with_parts(weight_packed=(U8, np.zeros((40, 4), np.uint8))),
        "rows of 8 num",
        FileError,
    ),
    (
        "compressed-mxfp4",
        with_parts(weight_scale=(U8, np.full((40, 6), 255))),
        "holds a scale that is NaN",
        FileError,
    ),
    (
        "compressed-mxfp4",
        with_parts(weight_scale=(U8, np.full((40, 5), 1))),
        "is [40, 5], not [40, 6]",
        FileError,
    ),
    ("compressed-fp8-rows", with_parts(weight_scale=(F32, np.ones((1, 192)))), "not [40, 1]", BAD),
    ("compressed-fp8-rows", with_parts(weight_scale=(F32, -np.ones((40, 1)))), "holds -1.0", BAD),
    (
        "compressed-fp8-block",
        with_parts(weight_scale=(F32, np.ones((1, 1)))),
        "is [1, 1], not [1, 2]",
        FileError,
    ),
    ("fp8-block", with_parts(weight_scale_inv=None), "weight_scale_inv' is missing", BAD),
    ("fp8-block", with_parts(weight=("BF16", SCALES)), "up_proj.weight' is bf16, not f8_e4m3", BAD),
    ("fp8-block", with_parts(weight_scale_inv=(F32, np.ones((2, 2)))), "is [2, 2], not [1, 2]", BAD),
    (
        "fp8-block",
        with_parts(weight_scale=(F32, np.ones(1))),
        "weight_scale' (f32) belongs to",
        UnsupportedError,
    ),
    ("fp8-block", with_parts(weight=(F8, np.ones((2, 40, 192)))), "only matrices are read in FP8", BAD),
    ("fp8-tensor", with_parts(qweight=("I32", SCALES)), "qweight' (i32) belongs", NO),
]


@pytest.mark.parametrize(
    ("name", "parts", "says", "error"), TENSORS, ids=[f"{case[0]}: {case[2]}" for case in TENSORS]
)
def test_tensors(
    name: str, parts: dict[str, Stored | None], says: str, error: type[InputError], tmp_path: Path
) -> None:
    own, _ = writer.LAYOUTS[name].write(MODULE, VALUES)
    tensors = {f"{MODULE}.{leaf}": stored for leaf, stored in {**own, **parts}.items() if stored is not None}
    if "rows of 48" in says:
        tensors[f"{MODULE}.weight_scale"] = (F8, SCALES[:, :3])
    refused(folder_of(tmp_path, writer.LAYOUTS[name].config, tensors), says, error)


@pytest.mark.parametrize("name", ["modelopt-nvfp4", "compressed-nvfp4", "modelopt-mixed", "fbgemm-fp8"])
def test_a_quantized_matrix_that_the_config_leaves_out(name: str, tmp_path: Path) -> None:
    own, _ = writer.LAYOUTS[name].write("lm_head", VALUES)
    tensors = {f"lm_head.{leaf}": stored for leaf, stored in own.items()}
    config = writer.LAYOUTS[name].config
    refused(folder_of(tmp_path, config, tensors), "declares no quantization for its module", NO)


def test_factors_that_stand_alone(tmp_path: Path) -> None:
    config = writer.LAYOUTS["modelopt-fp8"].config
    lone: dict[str, Stored] = {f"{MODULE}.input_scale": (F32, np.ones(1))}
    refused(folder_of(tmp_path / "a", config, lone), "input_scale' stands beside no weight", BAD)
    lone = {f"{MODULE}.weight_scale": (F32, np.ones(1))}
    refused(folder_of(tmp_path / "b", config, lone), "up_proj.weight' is missing beside", BAD)


@pytest.mark.parametrize(
    ("blocks", "scales", "says"),
    [
        ((2, 4, 3, 8), (2, 4, 3), "is [2, 4, 3, 8], not (E, M, K / 32, 16)"),
        ((2, 4, 3, 16), (2, 4, 2), "[2, 4, 3]"),
    ],
)
def test_experts(blocks: tuple[int, ...], scales: tuple[int, ...], says: str, tmp_path: Path) -> None:
    tensors = {"x.up_proj_blocks": (U8, np.zeros(blocks)), "x.up_proj_scales": (U8, np.zeros(scales))}
    refused(folder_of(tmp_path, {"quant_method": "mxfp4"}, tensors), says, BAD)


def test_a_module_in_groups_that_differ(tmp_path: Path) -> None:
    groups = {**ROWS, "targets": ["re:.*up_proj"]}, {**NVFP4, "targets": ["re:.*mlp.*"]}
    own, _ = writer.LAYOUTS["compressed-nvfp4"].write(MODULE, VALUES)
    tensors = {f"{MODULE}.{leaf}": stored for leaf, stored in own.items()}
    config = writer.compressed("mixed-precision", *groups)
    refused(folder_of(tmp_path, config, tensors), "belongs to several groups that differ", NO)


def test_the_errors_name_the_file_that_declares(tmp_path: Path) -> None:
    folder_of(tmp_path, None)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "W4A8_AWQ"}}))
    refused(
        tmp_path, "hf_quant_config.json: quantization: ModelOpt's quantization W4A8_AWQ", UnsupportedError
    )
