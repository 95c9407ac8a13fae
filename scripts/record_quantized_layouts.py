"""Make small quantized folders with the packages that define them, and record the numbers that these read.

    python -m venv DIR && DIR/bin/pip install torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 \
        compressed-tensors==0.20.0 nvidia-modelopt==0.47.0
    DIR/bin/python scripts/record_quantized_layouts.py tests/files/data/quantized

Each folder has a config.json, with the quantization as the package writes it, and one matrix or two. Their
numbers spread over many sizes, with a block of zeros and one that holds a huge number. expected.npz has by
folder and tensor what the package itself computes from the stored bytes, in float32. No model is run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.mx_utils import decompress_mx_scale
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme, preset_name_to_scheme
from compressed_tensors.quantization.lifecycle.forward import dequantize
from compressed_tensors.quantization.quant_config import QuantizationStatus
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from modelopt.torch.export.convert_hf_config import convert_hf_quant_config_format
from modelopt.torch.export.quant_utils import to_quantized_weight
from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor
from safetensors.torch import save_file
from transformers import FbgemmFp8Config, FineGrainedFP8Config, Mxfp4Config
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

ROWS, COLUMNS = 20, 64
BLOCK = (16, 48)
"""Rows and columns of a block, neither of which divides those of the matrix."""
UP, DOWN = "model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj"
EXPERTS = "model.layers.0.mlp.experts.gate_up_proj"

Tensors = dict[str, torch.Tensor]
Made = tuple[Tensors, torch.Tensor]
"""The tensors of a module by what they are, and its matrix in float32."""


def numbers(seed: int, shape: tuple[int, ...] = (ROWS, COLUMNS)) -> torch.Tensor:
    """A matrix of numbers of many sizes."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape) * np.exp2(random.integers(-8, 3, (*shape[:-1], 1)))
    values[..., 0, 16:48] = 0
    values[..., 1, 3] = 300.0
    return torch.from_numpy(values.astype(np.float32))


def groups_of(values: torch.Tensor, scheme: QuantizationScheme) -> torch.Tensor:
    """The largest magnitude of each block that a scheme gives a scale: float32 (R, C)."""
    weights = scheme.weights
    rows, columns = values.shape
    high, wide = {
        "tensor": (rows, columns),
        "channel": (1, columns),
        "block": tuple(weights.block_structure or BLOCK),
    }.get(weights.strategy, (1, weights.group_size or columns))
    cut = [
        [values[top : top + high, left : left + wide].abs().max() for left in range(0, columns, wide)]
        for top in range(0, rows, high)
    ]
    return torch.tensor(cut)


def compressed(scheme: QuantizationScheme, form: str, seed: int) -> Made:
    """A module as compressed-tensors stores it."""
    values = numbers(seed)
    largest = groups_of(values, scheme)
    divisor = generate_gparam(-values.abs().max(), values.abs().max()) if form.startswith("nvfp4") else None
    scale, _ = calculate_qparams(-largest, largest, scheme.weights, divisor)
    state: Tensors = {"weight": values, "weight_scale": scale}
    if divisor is not None:
        state |= {"weight_global_scale": divisor, "input_global_scale": torch.tensor([400.0])}
    stored = BaseCompressor.get_value_from_registry(form).compress(state, scheme)
    if "weight_packed" in stored:
        codes = unpack_fp4_from_uint8(stored["weight_packed"], ROWS, COLUMNS, torch.float32)
    else:
        codes = stored["weight"].to(torch.float32)
    own = stored["weight_scale"]
    factors = decompress_mx_scale(own) if own.dtype == torch.uint8 else own
    read = dequantize(
        codes, factors.to(torch.float32), args=scheme.weights, global_scale=divisor, dtype=torch.float32
    )
    return stored, read


def compressed_config(schemes: Mapping[str, QuantizationScheme], form: str) -> dict[str, Any]:
    """What compressed-tensors writes into config.json."""
    config = QuantizationConfig(
        config_groups=dict(schemes), format=form, quantization_status=QuantizationStatus.COMPRESSED,
        ignore=["lm_head", "re:.*self_attn.*"],
    )  # fmt: skip
    written: dict[str, Any] = json.loads(config.model_dump_json())
    return written


def scheme_of(preset: str, form: str, targets: list[str]) -> QuantizationScheme:
    """A preset of compressed-tensors, with a smaller block."""
    scheme = preset_name_to_scheme(preset, targets)
    scheme.format = form
    if scheme.weights.strategy == "block":
        scheme.weights.block_structure = list(BLOCK)
    return scheme


def modelopt_nvfp4(seed: int) -> Made:
    """A module as ModelOpt stores it in NVFP4."""
    values = numbers(seed)
    held, scale, factor = NVFP4QTensor.quantize(values.clone(), 16)
    read = held.dequantize(dtype=torch.float32, scale=scale, double_scale=factor, block_sizes={-1: 16})
    codes = held._quantized_data
    parts = {
        "weight": codes,
        "weight_scale": scale,
        "weight_scale_2": factor,
        "input_scale": torch.tensor(0.5),
    }
    return parts, read


def modelopt_fp8(seed: int) -> Made:
    """A module as ModelOpt stores it in FP8."""
    values = numbers(seed)
    scale = values.abs().max() / 448
    codes = to_quantized_weight(values, scale, "fp8")
    read = codes.to(torch.float32) * scale
    return {"weight": codes, "weight_scale": scale, "input_scale": torch.tensor(0.5)}, read


def modelopt_config(**quantization: Any) -> dict[str, Any]:
    """What ModelOpt writes into config.json."""
    config = {"producer": {"name": "modelopt", "version": "0.47.0"}, "quantization": quantization}
    return convert_hf_quant_config_format(config)


def deepseek(seed: int) -> Made:
    """A module with a factor for each block, as Transformers reads it: its blocks must divide the matrix."""
    values = numbers(seed, (32, 96))
    cut = values.reshape(2, 16, 2, 48).abs().amax(dim=(1, 3))
    scale = torch.where(cut == 0, 1.0, cut / 448)
    spread = scale.repeat_interleave(16, 0).repeat_interleave(48, 1)
    codes = (values / spread).to(torch.float8_e4m3fn)
    read = Fp8Dequantize(None)._dequantize_one(codes, scale, torch.float32)
    return {"weight": codes, "weight_scale_inv": scale}, read


def per_row(seed: int) -> Made:
    """A module of FBGEMM's FP8."""
    values = numbers(seed)
    scale = values.abs().amax(dim=1, keepdim=True) / 448
    codes = (values / scale).to(torch.float8_e4m3fn)
    return {"weight": codes, "weight_scale": scale}, codes.to(torch.float32) * scale


def gpt_oss(seed: int) -> Made:
    """The experts of GPT-OSS, of any bytes."""
    random = np.random.default_rng(seed)
    blocks = torch.from_numpy(random.integers(0, 256, (3, 5, 2, 16), np.uint8))
    scales = torch.from_numpy(random.integers(90, 140, (3, 5, 2), np.uint8))
    read = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    return {"blocks": blocks, "scales": scales}, read.transpose(1, 2).contiguous()


def cases() -> dict[str, tuple[dict[str, Any], dict[str, Made]]]:
    """By name of the folder: its quantization_config and its modules."""
    found: dict[str, tuple[dict[str, Any], dict[str, Made]]] = {}
    for seed, (preset, form) in enumerate((
        ("NVFP4", "nvfp4-pack-quantized"), ("MXFP4", "mxfp4-pack-quantized"), ("FP8", "float-quantized"),
        ("FP8_DYNAMIC", "float-quantized"), ("FP8_BLOCK", "float-quantized"),
    )):  # fmt: skip
        scheme = scheme_of(preset, form, ["Linear"])
        config = compressed_config({"group_0": scheme}, form)
        found[f"compressed-{preset.lower().replace('_', '-')}"] = (
            config,
            {UP: compressed(scheme, form, seed)},
        )
    nvfp4 = scheme_of("NVFP4A16", "nvfp4-pack-quantized", ["re:.*mlp\\.(gate|up)_proj$"])
    fp8 = scheme_of("FP8_DYNAMIC", "float-quantized", ["re:.*down_proj"])
    found["compressed-mixed"] = (
        compressed_config({"group_0": nvfp4, "group_1": fp8}, "mixed-precision"),
        {UP: compressed(nvfp4, "nvfp4-pack-quantized", 7), DOWN: compressed(fp8, "float-quantized", 8)},
    )
    found["modelopt-nvfp4"] = (
        modelopt_config(
            quant_algo="NVFP4", kv_cache_quant_algo="FP8", group_size=16, exclude_modules=["lm_head"]
        ),
        {UP: modelopt_nvfp4(9)},
    )
    found["modelopt-fp8"] = (
        modelopt_config(quant_algo="FP8", kv_cache_quant_algo=None, exclude_modules=["lm_head"]),
        {UP: modelopt_fp8(10)},
    )
    layers = {UP: {"quant_algo": "NVFP4", "group_size": 16}, DOWN: {"quant_algo": "FP8"}}
    found["modelopt-mixed"] = (
        modelopt_config(quant_algo="MIXED_PRECISION", kv_cache_quant_algo=None, quantized_layers=layers),
        {UP: modelopt_nvfp4(11), DOWN: modelopt_fp8(12)},
    )
    block = FineGrainedFP8Config(weight_block_size=(16, 48), modules_to_not_convert=["lm_head"])
    found["fp8-block"] = (block.to_dict(), {UP: deepseek(13)})
    found["fbgemm-fp8"] = (FbgemmFp8Config(modules_to_not_convert=["lm_head"]).to_dict(), {UP: per_row(14)})
    found["gpt-oss"] = (Mxfp4Config().to_dict(), {EXPERTS: gpt_oss(15)})
    return found


def main() -> None:
    """Write the folders and expected.npz into the folder named on the command line."""
    target = Path(sys.argv[1])
    expected: dict[str, np.ndarray] = {}
    for name, (config, modules) in cases().items():
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        joint = "_" if name == "gpt-oss" else "."
        tensors = {
            f"{module}{joint}{leaf}": tensor.contiguous()
            for module, (parts, _) in modules.items()
            for leaf, tensor in parts.items()
        }
        tensors["lm_head.weight"] = torch.ones(2, 2, dtype=torch.bfloat16)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text(json.dumps({"quantization_config": config}, indent=1) + "\n")
        for module, (_, read) in modules.items():
            expected[f"{name}/{module}.weight"] = read.numpy()
    np.savez_compressed(target / "expected.npz", **expected)


if __name__ == "__main__":
    main()
