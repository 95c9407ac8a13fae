"""What a quantized GGUF file looks like, so that llama.cpp reads the same numbers from it.

nvfp4's factor of a tensor `X.weight` is a tensor `X.scale` of one float32, which llama.cpp multiplies the
product with. It looks that up for the matrices of layers and for a head of its own, not for the table of
embeddings, and a tensor that it does not look up is an error to it; a factor that is looked up and then not
used would be a wrong answer. So a matrix has a factor of its own only where both is known to be done
(`_APPLIED`); others get the factor 1, and small numbers lose by that. Read in llama.cpp at ggml 0.25.3:
src/llama-model.cpp (load_tensors), src/llama-graph.cpp (build_qkv, build_ffn, build_lora_mm), src/models/.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from fivefold.core.checkpoint import Bytes, Checkpoint, Tensor
from fivefold.core.errors import InputError
from fivefold.files import GGML_TYPES_BY_NAME, Layout, Outline, gguf_layout
from fivefold.quantize.choice import Choice, Recipe, best_choice
from fivefold.quantize.plan import Item
from fivefold.quantize.roles import Role
from fivefold.quantize.targets import target_of

FILE_TYPES: Mapping[str, int] = MappingProxyType(
    {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "bf16": 32}
    | {"mxfp4": 38, "nvfp4": 39}
)
"""`general.file_type` by the format that most bytes are in: LLAMA_FTYPE in llama.cpp's llama.h."""

QUANTIZATION_VERSION = 2
"""GGML_QNT_VERSION."""

FALLBACK = ("q8_0", "f16")
COARSE = 6.0
"""Formats of fewer bits than this are not given to embeddings and heads unasked."""

_ATTENTION = r"attn_(q|k|v|qkv|output)"
_FEED_FORWARD = r"ffn_(gate|up|down)"
_WHOLE = rf"blk\.\d+\.({_ATTENTION}|{_FEED_FORWARD})\.weight|output\.weight"
_APPLIED: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "llama": re.compile(_WHOLE),
        "mistral3": re.compile(_WHOLE),
        "qwen3": re.compile(_WHOLE),
        "granite": re.compile(_WHOLE),
        "qwen2": re.compile(rf"blk\.\d+\.{_ATTENTION}\.weight|output\.weight"),
    }
)
"""The matrices whose factor llama.cpp looks up and applies, by architecture."""

_SPLIT = re.compile(r"split\..*|quantize\.imatrix\..*")
"""Keys of the source that do not hold for the output."""


@dataclass(frozen=True, slots=True)
class GgufOutput:
    """One GGUF file of that name, from a GGUF source."""

    checkpoint: Checkpoint
    file: str
    is_folder: ClassVar[bool] = False
    fine: ClassVar[tuple[Choice, ...]] = (Choice("q5_0", "gptq"), best_choice("q8_0"))

    def usual(self, role: Role, recipe: Recipe) -> Choice | None:
        """As llama.cpp's quantizer gives a head more bits than the coarse formats have: q8_0."""
        return best_choice("q8_0") if target_of(recipe.default.format).bits < COARSE else recipe.default

    def fallback(self, recipe: Recipe) -> tuple[str, ...]:
        """What the recipe says, then formats that fit more and more."""
        return (recipe.fallback, *FALLBACK) if recipe.fallback else FALLBACK

    def fitting(self, item: Item) -> Item:
        """nvfp4 gets a factor where llama.cpp applies one; InputError for what GGUF has no number for."""
        choice = item.choice
        if choice is None:
            return item
        if target_of(choice.format).stored not in GGML_TYPES_BY_NAME:
            raise InputError(
                f"GGUF files have no {choice.format}", where=f"tensor {item.name}",
                remedy="choose another format, or quantize a Hugging Face folder",
            )  # fmt: skip
        if choice.format != "nvfp4" or choice.factor == "one":
            return item
        applied = _APPLIED.get(str(self.checkpoint.metadata.get("general.architecture")))
        if applied is not None and applied.fullmatch(item.name):
            return item
        note = "nvfp4 without a factor of its own: llama.cpp would not apply it here"
        return replace(item, choice=replace(choice, factor="one"), note=note)

    def outlines(self, item: Item) -> Sequence[Outline]:
        """The tensor, and its factor if it has one; a stack of matrices that is kept has one for each."""
        choice, source = item.choice, item.source
        if choice is None:
            own = Outline(item.name, source.format, source.shape)
            count = 0 if source.scales is None else prod(source.scales.stored.shape)
        else:
            own = Outline(item.name, target_of(choice.format).stored, source.shape)
            count = 1 if choice.format == "nvfp4" and choice.factor != "one" else 0
        return [own, Outline(_factor(item.name), "f32", (count,))] if count else [own]

    def pieces(self, item: Item, tensor: Tensor) -> Mapping[str, Bytes]:
        """Their bytes."""
        if tensor.scales is None:
            return {item.name: tensor.data}
        factors = np.ascontiguousarray(tensor.scales.values, "<f4").reshape(-1).view(np.uint8)
        return {item.name: tensor.data, _factor(item.name): factors}

    def layout(self, outlines: Sequence[Outline]) -> Layout:
        """The file, its metadata those of the source but for what quantizing changes."""
        return gguf_layout(self.file, self.metadata(outlines), outlines, self.file)

    def sharing(self, name: str) -> Sequence[str]:
        """llama.cpp multiplies every product by its own factor."""
        return ()

    def finish(self, folder: Path, items: Sequence[Item]) -> None:
        """All is in the file."""

    def metadata(self, outlines: Sequence[Outline]) -> dict[str, Any]:
        """The metadata of the output."""
        kept = {key: value for key, value in self.checkpoint.metadata.items() if not _SPLIT.fullmatch(key)}
        numbers: Counter[str] = Counter()
        for outline in outlines:
            if len(outline.shape) > 1:
                numbers[outline.format] += int(np.prod(outline.shape))
        most = max(numbers, key=lambda form: numbers[form])
        kept.pop("general.file_type", None)
        if most in FILE_TYPES:
            kept["general.file_type"] = np.uint32(FILE_TYPES[most])
        return kept | {"general.quantization_version": np.uint32(QUANTIZATION_VERSION)}


def _factor(name: str) -> str:
    """The name of the tensor that holds another's factor."""
    return f"{name.removesuffix('.weight')}.scale"
