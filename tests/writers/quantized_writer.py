"""Quantized folders written from the definitions of their makers: numpy alone, nothing of the readers.

A module's matrix becomes the tensors that its maker stores, and beside them the numbers that these mean, in
float64: code times scale times factor, without a rounding on the way.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Stored = tuple[str, Array]
"""A tensor: what safetensors calls its type, and its bytes or numbers in its shape."""
Written = tuple[dict[str, Stored], Array]
"""A module's tensors by what they are, and its numbers in float64."""

E2M1 = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
E4M3 = np.array(
    [(m / 8 * 2.0**-6) if e == 0 else (1 + m / 8) * 2.0 ** (e - 7) for e in range(16) for m in range(8)]
)
"""Magnitudes by code; the last of E4M3 (0x7f) is NaN and never written here."""
TYPES = {
    "F32": "<f4",
    "BF16": "<u2",
    "F16": "<f2",
    "U8": "u1",
    "F8_E4M3": "u1",
    "F8_E8M0": "u1",
    "I32": "<i4",
}


def nearest(table: Array, magnitudes: Array) -> Array:
    """The index of the nearest of rising numbers."""
    between = (table[:-1] + table[1:]) / 2
    return np.searchsorted(between, magnitudes).astype(np.uint8)


def e2m1_codes(numbers: Array) -> Array:
    return nearest(E2M1, np.abs(numbers)) | np.where(numbers < 0, np.uint8(8), np.uint8(0))


def e2m1_numbers(codes: Array) -> Array:
    return np.where(codes & 8, -1.0, 1.0) * E2M1[codes & 7]


def pairs(codes: Array) -> Array:
    """Codes (..., K) as bytes (..., K / 2): the first of two in the low nibble."""
    return codes[..., 0::2] | codes[..., 1::2] << 4


def bf16(numbers: Array) -> Array:
    """The upper halves of float32 numbers, cut off."""
    return (np.asarray(numbers, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def bf16_numbers(stored: Array) -> Array:
    return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def nvfp4_parts(values: Array) -> tuple[Array, Array, np.float32]:
    """Codes (M, K), scales as E4M3 codes (M, K / 16) and the factor of a matrix."""
    factor = np.float32(np.abs(values).max() / (6 * 448) or 1.0)
    parts = values.reshape(len(values), -1, 16)
    scales = nearest(E4M3[:127], np.abs(parts).max(axis=2) / 6 / factor)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.nan_to_num(parts / (E4M3[scales] * factor)[..., None], posinf=0, neginf=0)
    return e2m1_codes(scaled).reshape(values.shape), scales, factor


def nvfp4_numbers(codes: Array, scales: Array, factor: float) -> Array:
    return e2m1_numbers(codes) * np.repeat(E4M3[scales], 16, axis=1) * factor


def modelopt_nvfp4(values: Array) -> Written:
    codes, scales, factor = nvfp4_parts(values)
    tensors = {
        "weight": ("U8", pairs(codes)),
        "weight_scale": ("F8_E4M3", scales),
        "weight_scale_2": ("F32", np.array(factor)),
        "input_scale": ("F32", np.array(0.25)),
    }
    return tensors, nvfp4_numbers(codes, scales, float(factor))


def compressed_nvfp4(values: Array) -> Written:
    codes, scales, factor = nvfp4_parts(values)
    divisor = np.float32(1.0) / factor
    tensors = {
        "weight_packed": ("U8", pairs(codes)),
        "weight_scale": ("F8_E4M3", scales),
        "weight_global_scale": ("F32", np.array([divisor])),
        "input_global_scale": ("F32", np.array([200.0])),
    }
    return tensors, nvfp4_numbers(codes, scales, 1.0 / float(divisor))


def mxfp4_parts(values: Array) -> tuple[Array, Array]:
    """Codes (..., K) and E8M0 bytes (..., K / 32)."""
    blocks = values.reshape(*values.shape[:-1], -1, 32)
    with np.errstate(divide="ignore"):
        exponents = np.floor(np.log2(np.abs(blocks).max(axis=-1))) - 2
    scales = np.clip(np.nan_to_num(exponents, neginf=-127), -127, 127)
    codes = e2m1_codes(blocks * 2.0 ** -scales[..., None]).reshape(values.shape)
    return codes, (scales + 127).astype(np.uint8)


def mxfp4_numbers(codes: Array, scales: Array) -> Array:
    return e2m1_numbers(codes) * np.repeat(2.0 ** (scales.astype(np.float64) - 127), 32, axis=-1)


def compressed_mxfp4(values: Array) -> Written:
    codes, scales = mxfp4_parts(values)
    return {"weight_packed": ("U8", pairs(codes)), "weight_scale": ("U8", scales)}, mxfp4_numbers(
        codes, scales
    )


def fp8(name: str, rows: int, columns: int, kind: str = "F32") -> Callable[[Array], Written]:
    """E4M3 with a factor for each block of rows and columns; 0 is as many as there are."""

    def write(values: Array) -> Written:
        high, wide = rows or len(values), columns or values.shape[1]
        tops, lefts = range(0, len(values), high), range(0, values.shape[1], wide)
        scales = np.array(
            [[np.abs(values[t : t + high, s : s + wide]).max() / 448 or 1.0 for s in lefts] for t in tops],
            np.float32,
        )
        stored = bf16(scales) if kind == "BF16" else scales
        factors = bf16_numbers(stored) if kind == "BF16" else scales.astype(np.float64)
        spread = np.repeat(np.repeat(factors, high, 0), wide, 1)[: len(values), : values.shape[1]]
        codes = nearest(E4M3[:127], np.abs(values) / spread) | np.where(
            values < 0, np.uint8(0x80), np.uint8(0)
        )
        if not rows and not columns:
            stored = stored.reshape(())
        numbers = np.where(codes & 0x80, -1.0, 1.0) * E4M3[codes & 0x7F] * spread
        return {"weight": ("F8_E4M3", codes), name: (kind, stored)}, numbers

    return write


@dataclass(frozen=True)
class Layout:
    """How a maker stores matrices: what it writes into config.json, and the tensors of a module by name."""

    config: dict[str, Any]
    writers: tuple[tuple[str, Callable[[Array], Written]], ...]

    def write(self, module: str, values: Array) -> Written:
        """The tensors of a module: by the first writer whose word is in its name."""
        return next(writer for word, writer in self.writers if word in module)(values)


def group(
    form: str, targets: list[str], activations: dict[str, Any] | None = None, **weights: Any
) -> dict[str, Any]:
    """One group of compressed-tensors."""
    common = {"type": "float", "symmetric": True, "dynamic": False}
    return {
        "targets": targets, "weights": {**common, **weights}, "input_activations": activations,
        "output_activations": None, "format": form,
    }  # fmt: skip


def compressed(form: str, *groups: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What compressed-tensors writes."""
    return {
        "quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed",
        "config_groups": {f"group_{number}": one for number, one in enumerate(groups)}, "ignore": ["lm_head"],
        **more,
    }  # fmt: skip


NVFP4_GROUP = group(
    "nvfp4-pack-quantized", ["Linear"], num_bits=4, strategy="tensor_group", group_size=16,
    activations={"num_bits": 4, "dynamic": "local"},
)  # fmt: skip
MXFP4_GROUP = group("mxfp4-pack-quantized", ["Linear"], num_bits=4, strategy="group", group_size=32)
ROWS_GROUP = group("float-quantized", ["Linear"], num_bits=8, strategy="channel")
TENSOR_GROUP = group("float-quantized", ["Linear"], num_bits=8, strategy="tensor")
BLOCK_GROUP = group("float-quantized", ["Linear"], num_bits=8, strategy="block", block_structure=[128, 128])
_MIXED = compressed(
    "mixed-precision",
    {**ROWS_GROUP, "targets": ["re:.*self_attn.*"]},
    {**NVFP4_GROUP, "targets": ["re:.*mlp\\.(gate|up|down)_proj$"]},
)
_ATTENTION = [f"model.layers.{layer}.self_attn.{one}_proj" for layer in (0, 1) for one in "qkvo"]
_FEED_FORWARD = [f"model.layers.{layer}.mlp.{one}_proj" for layer in (0, 1) for one in ("gate", "up", "down")]
_LAYERS = {
    **{name: {"quant_algo": "FP8"} for name in _ATTENTION},
    **{name: {"quant_algo": "NVFP4", "group_size": 16} for name in _FEED_FORWARD},
}
_CACHE = {"kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"}}


def modelopt(algorithm: str, **more: Any) -> dict[str, Any]:
    """What ModelOpt writes into config.json."""
    return {"quant_method": "modelopt", "quant_algo": algorithm, "ignore": ["lm_head"], **more}


FP8_ROWS = fp8("weight_scale", 1, 0)
FP8_TENSOR = fp8("weight_scale", 0, 0)
LAYOUTS: Mapping[str, Layout] = {
    "modelopt-nvfp4": Layout(modelopt("NVFP4", group_size=16, **_CACHE), (("", modelopt_nvfp4),)),
    "modelopt-w4a16": Layout(modelopt("W4A16_NVFP4"), (("", modelopt_nvfp4),)),
    "modelopt-fp8": Layout(modelopt("FP8"), (("", FP8_TENSOR),)),
    "modelopt-fp8-rows": Layout(modelopt("FP8_PER_CHANNEL_PER_TOKEN"), (("", FP8_ROWS),)),
    "modelopt-mixed": Layout(
        modelopt("MIXED_PRECISION", quantized_layers=_LAYERS),
        (("self_attn", FP8_TENSOR), ("", modelopt_nvfp4)),
    ),
    "compressed-nvfp4": Layout(compressed("nvfp4-pack-quantized", NVFP4_GROUP), (("", compressed_nvfp4),)),
    "compressed-mxfp4": Layout(compressed("mxfp4-pack-quantized", MXFP4_GROUP), (("", compressed_mxfp4),)),
    "compressed-fp8-tensor": Layout(compressed("float-quantized", TENSOR_GROUP), (("", FP8_TENSOR),)),
    "compressed-fp8-rows": Layout(
        compressed("float-quantized", ROWS_GROUP), (("", fp8("weight_scale", 1, 0, "BF16")),)
    ),
    "compressed-fp8-block": Layout(
        compressed("float-quantized", BLOCK_GROUP), (("", fp8("weight_scale", 128, 128)),)
    ),
    "compressed-mixed": Layout(_MIXED, (("self_attn", FP8_ROWS), ("", compressed_nvfp4))),
    "fp8-block": Layout(
        {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
        (("", fp8("weight_scale_inv", 128, 128)),),
    ),
    "fp8-tensor": Layout(
        {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]},
        (("", FP8_TENSOR),),
    ),
    "fbgemm-fp8": Layout(
        {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": ["lm_head"]},
        (("", FP8_ROWS),),
    ),
}  # fmt: skip
"""All layouts of whole matrices that are read."""


def write_safetensors(path: Path, tensors: Mapping[str, Stored]) -> None:
    """One safetensors file, from the description of the format."""
    header: dict[str, Any] = {}
    data = b""
    for name, (kind, values) in tensors.items():
        stored = np.ascontiguousarray(values, TYPES[kind]).tobytes()
        place = [len(data), len(data) + len(stored)]
        header[name] = {"dtype": kind, "shape": list(np.shape(values)), "data_offsets": place}
        data += stored
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)


def write_folder(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> Path:
    """A model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def write_layout(folder: Path, layout: Layout, matrices: Mapping[str, Array]) -> dict[str, Array]:
    """A folder of matrices, by module, as a maker stores them; what they mean, by names of weights."""
    tensors: dict[str, Stored] = {}
    numbers: dict[str, Array] = {}
    for module, values in matrices.items():
        own, numbers[f"{module}.weight"] = layout.write(module, values)
        tensors |= {f"{module}.{leaf}": stored for leaf, stored in own.items()}
    write_folder(folder, {"quantization_config": layout.config}, tensors)
    return numbers
