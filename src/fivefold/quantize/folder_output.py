"""What a quantized folder looks like: in the form of compressed-tensors, which Transformers and vLLM read.

A matrix `X.weight` becomes, by its format:

nvfp4   `X.weight_packed` (two codes a byte, the even column low), `X.weight_scale` (E4M3 for 16 columns) and
        `X.weight_global_scale`, by which the scales are divided: the reciprocal of our factor. The factor is
        a power of two here, so the division and compressed-tensors' bfloat16 lose nothing.
mxfp4   `X.weight_packed`, and `X.weight_scale` (E8M0 bytes for each 32 columns).
fp8     `X.weight` (E4M3) and `X.weight_scale`, float32: (M, 1) by rows, (1,) for the tensor, (R, C) by block.

config.json gets a `quantization_config` with a group for each format; activations stay floats. The embedding
and the head stay as they are unless the recipe names them, as in llm-compressor's and ModelOpt's recipes.
Source: compressed-tensors 0.20, compressors/nvfp4, mxfp4 and naive_quantized, quantization/quant_scheme.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from fivefold.core.checkpoint import Bytes, Checkpoint, Tensor
from fivefold.core.errors import InputError
from fivefold.files import SAFETENSORS_FORMATS, Layout, Outline, copy_other_files, safetensors_layout
from fivefold.formats import mxfp4, nvfp4
from fivefold.formats.format import nibbles
from fivefold.quantize.choice import Choice, Recipe
from fivefold.quantize.plan import Item
from fivefold.quantize.roles import Role
from fivefold.quantize.targets import target_of

_DTYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
_FLOATS = _DTYPES.keys()

JOINED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Matrices that other engines join, by the last parts of their modules' names."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How compressed-tensors calls a format: `format` of a group, and `weights` of its scheme."""

    format: str
    weights: Mapping[str, Any]


def _scheme(form: str, bits: int, strategy: str, **more: Any) -> Scheme:
    weights = {"num_bits": bits, "type": "float", "strategy": strategy, "symmetric": True, "dynamic": False}
    return Scheme(form, weights | {"group_size": None} | more)


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        "nvfp4": _scheme(
            "nvfp4-pack-quantized", 4, "tensor_group", group_size=16, scale_dtype="torch.float8_e4m3fn"
        ),
        "mxfp4": _scheme("mxfp4-pack-quantized", 4, "group", group_size=32, scale_dtype="torch.uint8"),
        "fp8": _scheme("float-quantized", 8, "channel"),
        "fp8_tensor": _scheme("float-quantized", 8, "tensor"),
        "fp8_block": _scheme("float-quantized", 8, "block", block_structure=[128, 128]),
    }
)
"""By target."""


@dataclass(frozen=True, slots=True)
class FolderOutput:
    """A folder, from a Hugging Face source."""

    checkpoint: Checkpoint
    is_folder: ClassVar[bool] = True
    fine: ClassVar[tuple[Choice, ...]] = (Choice("fp8"),)

    def usual(self, role: Role, recipe: Recipe) -> Choice | None:
        """Embedding and head stay as they are."""
        return None

    def fallback(self, recipe: Recipe) -> tuple[str, ...]:
        """What the recipe says; else a tensor stays as it is."""
        return (recipe.fallback,) if recipe.fallback else ()

    def fitting(self, item: Item) -> Item:
        """nvfp4 gets a power of two for its factor; InputError for formats that have no place there."""
        if item.role == "experts" and item.choice is not None:
            item = replace(item, choice=None, note="kept: compressed-tensors has no stacks of matrices")
        choice = item.choice
        if choice is None:
            if item.source.scales is not None or item.source.format not in SAFETENSORS_FORMATS:
                raise InputError(
                    f"it is {item.source.format} already", where=f"tensor {item.name}",
                    remedy="quantize the model in floats instead",
                )  # fmt: skip
            return item
        if choice.format in _FLOATS:
            return item
        if choice.format not in SCHEMES:
            raise InputError(
                f"compressed-tensors folders have no {choice.format}", where=f"tensor {item.name}",
                remedy=f"choose one of {', '.join(SCHEMES)}, or quantize a GGUF file",
            )  # fmt: skip
        if item.role == "embedding":
            raise InputError(
                f"a table of embeddings cannot be {choice.format} in a folder", where=f"tensor {item.name}",
                remedy="leave out --head and [embedding], or choose f16, bf16 or f32",
            )  # fmt: skip
        return replace(item, choice=replace(choice, factor="power")) if choice.format == "nvfp4" else item

    def outlines(self, item: Item) -> Sequence[Outline]:
        """The tensors that a matrix becomes."""
        choice, shape = item.choice, item.source.shape
        if choice is None:
            return [Outline(item.name, item.source.format, shape)]
        name = item.name
        if choice.format in _FLOATS:
            return [Outline(name, choice.format, shape)]
        rows, columns = shape
        scales = f"{name}_scale"
        if choice.format == "nvfp4":
            return [
                Outline(f"{name}_packed", "u8", (rows, columns // 2)),
                Outline(scales, "f8_e4m3", (rows, columns // nvfp4.PART)),
                Outline(f"{name}_global_scale", "f32", (1,)),
            ]
        if choice.format == "mxfp4":
            packed = Outline(f"{name}_packed", "u8", (rows, columns // 2))
            return [packed, Outline(scales, "u8", (rows, columns // mxfp4.BLOCK))]
        tall, wide = target_of(choice.format).scales or (0, 0)
        held = (-(-rows // (tall or rows)), -(-columns // (wide or columns)))
        return [Outline(name, "f8_e4m3", shape), Outline(scales, "f32", held if tall else (1,))]

    def pieces(self, item: Item, tensor: Tensor) -> Mapping[str, Bytes]:
        """Their bytes."""
        form = item.choice.format if item.choice is not None else ""
        return _PACKERS.get(form, _whole)(item.name, tensor)

    def layout(self, outlines: Sequence[Outline]) -> Layout:
        """`model.safetensors`, or shards and an index."""
        return safetensors_layout(outlines)

    def sharing(self, name: str) -> Sequence[str]:
        """Those that vLLM joins into one matrix, which takes the largest of their global scales for all."""
        for parts in JOINED:
            found = [part for part in parts if name.endswith(f".{part}.weight")]
            if found:
                stem = name.removesuffix(f"{found[0]}.weight")
                return [
                    f"{stem}{part}.weight"
                    for part in parts
                    if f"{stem}{part}.weight" in self.checkpoint.tensors
                ]
        return ()

    def finish(self, folder: Path, items: Sequence[Item]) -> None:
        """config.json with its `quantization_config`, and the source's other files."""
        copy_other_files(self.checkpoint.path, folder, config_keys(items))


def config_keys(items: Sequence[Item]) -> dict[str, Any]:
    """What config.json says otherwise than the source's; None is to be taken out.

    Of a model in floats, in which, if all are alike; there is nothing to tell compressed-tensors then.
    """
    forms = {item.choice.format for item in items if item.choice is not None}
    if forms & SCHEMES.keys():
        return {"quantization_config": quantization_config(items)}
    alike = {"torch_dtype": None, "dtype": _DTYPES[min(forms)]} if len(forms) == 1 else {}
    return {"quantization_config": None, **alike}


def quantization_config(items: Sequence[Item]) -> dict[str, Any]:
    """What compressed-tensors is told: one group for each format; if there is one alone, for all of a class.

    Modules are named after their weights. Matrices that stay floats are named in `ignore`.
    """
    modules: dict[str, list[str]] = {}
    ignored = []
    for item in items:
        module = item.name.removesuffix(".weight")
        if item.choice is not None and item.choice.format in SCHEMES:
            modules.setdefault(item.choice.format, []).append(module)
        elif len(item.source.shape) == 2 and item.role != "embedding":
            ignored.append(module)
    if not any(item.role == "head" for item in items):
        ignored.append("lm_head")  # it shares the embedding's weight and has no tensor here
    groups = {
        f"group_{number}": {
            "format": SCHEMES[form].format,
            "targets": ["Linear"] if len(modules) == 1 else names,
            "weights": dict(SCHEMES[form].weights),
            "input_activations": None,
            "output_activations": None,
        }
        for number, (form, names) in enumerate(modules.items())
    }
    forms = {SCHEMES[form].format for form in modules}
    return {
        "quant_method": "compressed-tensors",
        "format": forms.pop() if len(forms) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": ignored,
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }


def _whole(name: str, tensor: Tensor) -> Mapping[str, Bytes]:
    return {name: tensor.data}


def _nvfp4(name: str, tensor: Tensor) -> Mapping[str, Bytes]:
    scales, codes = nvfp4.split(tensor.data.reshape(-1, nvfp4.BLOCK_BYTES))
    assert tensor.scales is not None, "the factor is a power of two here"
    reciprocal = (np.float32(1.0) / tensor.scales.values.reshape(-1)).astype("<f4")
    return {
        f"{name}_packed": _pairs(codes),
        f"{name}_scale": scales,
        f"{name}_global_scale": reciprocal.view(np.uint8),
    }


def _mxfp4(name: str, tensor: Tensor) -> Mapping[str, Bytes]:
    blocks = tensor.data.reshape(-1, mxfp4.BLOCK_BYTES)
    return {f"{name}_packed": _pairs(nibbles(blocks[:, 1:])), f"{name}_scale": blocks[:, 0]}


def _fp8(name: str, tensor: Tensor) -> Mapping[str, Bytes]:
    assert tensor.scales is not None, "fp8 has scales"
    scales = np.ascontiguousarray(tensor.scales.values, "<f4").reshape(-1).view(np.uint8)
    return {name: tensor.data, f"{name}_scale": scales}


_PACKERS: Mapping[str, Callable[[str, Tensor], Mapping[str, Bytes]]] = MappingProxyType(
    {"nvfp4": _nvfp4, "mxfp4": _mxfp4, "fp8": _fp8, "fp8_tensor": _fp8, "fp8_block": _fp8}
)


def _pairs(codes: Bytes) -> Bytes:
    """Codes in the order of columns as bytes: the even one in the low nibble."""
    flat = codes.reshape(-1, 2)
    return flat[:, 0] | flat[:, 1] << np.uint8(4)
