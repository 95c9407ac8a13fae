"""Which family takes which architecture. Aliases are data; families do not know each other."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.program import Model

from .config import TextParts, config_of, open_text_part, refuse_unused, require_tensor
from .diffused import DIFFUSED, open_diffused
from .diffusion_gemma import open_canvas

ARCHITECTURES: Mapping[str, str] = {
    "deepseek2": "deepseek", "deepseek32": "deepseek", "gemma2": "gemma", "gemma3": "gemma",
    "gemma4": "gemma4", "gpt-oss": "gpt_oss", "llama": "llama", "llama4": "llama4",
    "mistral3": "mistral", "qwen2": "llama", "qwen3": "qwen3",
    "qwen35": "qwen3_5", "qwen35moe": "qwen3_5", "qwen3moe": "qwen3_moe", "smollm3": "smollm3",
}  # fmt: skip
"""GGUF `general.architecture` to the module of its family."""

HUGGINGFACE_ARCHITECTURES: Mapping[str, str] = {
    "DeepseekV2ForCausalLM": "deepseek", "DeepseekV3ForCausalLM": "deepseek",
    "DeepseekV32ForCausalLM": "deepseek", "Gemma2ForCausalLM": "gemma", "Gemma3ForCausalLM": "gemma",
    "Gemma4ForCausalLM": "gemma4", "GptOssForCausalLM": "gpt_oss",
    "LLaDA2MoeModelLM": "llada2", "LLaDAModelLM": "llada",
    "Llama4ForCausalLM": "llama4", "LlamaForCausalLM": "llama",
    "Ministral3ForCausalLM": "mistral", "MinistralForCausalLM": "mistral", "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "llama", "Qwen3ForCausalLM": "qwen3", "Qwen3MoeForCausalLM": "qwen3_moe",
    "Qwen3_5ForCausalLM": "qwen3_5", "Qwen3_5ForConditionalGeneration": "qwen3_5",
    "Qwen3_5MoeForCausalLM": "qwen3_5", "Qwen3_5MoeForConditionalGeneration": "qwen3_5",
    "SmolLM3ForCausalLM": "smollm3",
}  # fmt: skip
"""The one name in config.json's `architectures` to the module of its family."""

TEXT_PARTS: Mapping[str, TextParts] = {
    "Gemma3ForConditionalGeneration": TextParts({"gemma3_text": "Gemma3ForCausalLM"}),
    "Gemma4ForConditionalGeneration": TextParts({"gemma4_text": "Gemma4ForCausalLM"}),
    "Llama4ForConditionalGeneration": TextParts({"llama4_text": "Llama4ForCausalLM"}, tied=False),
    "Mistral3ForConditionalGeneration": TextParts(
        {"mistral": "MistralForCausalLM", "ministral3": "Ministral3ForCausalLM"}
    ),
}
"""Architectures for several kinds of input, to what their text part can be."""


class Opened(Protocol):
    """A checkpoint as another family reads it."""

    @property
    def checkpoint(self) -> Checkpoint:
        """What that family gets to see."""
        ...

    @property
    def architecture(self) -> str:
        """The name that it knows."""
        ...

    def as_in_file(self, model: Model) -> Model:
        """What it made of that, as the model of the file."""
        ...


OPENED: Mapping[str, Callable[[Checkpoint, str], Opened]] = {
    **{name: partial(open_text_part, parts=parts) for name, parts in TEXT_PARTS.items()},
    **dict.fromkeys(DIFFUSED, open_diffused),
    "DiffusionGemmaForBlockDiffusion": open_canvas,
}
"""Architectures of folders that another family reads, to who opens them for it."""


def architecture_of(checkpoint: Checkpoint) -> tuple[str, bool]:
    """The name under which a checkpoint asks for its family, and whether there is one of that name."""
    architecture = _architecture(checkpoint)
    opened = checkpoint.kind == "huggingface" and architecture in OPENED
    return architecture, opened or architecture in _families(checkpoint)


def load_model(checkpoint: Checkpoint) -> Model:
    """The model that a checkpoint describes, its weights checked for name and shape."""
    architecture = _architecture(checkpoint)
    if checkpoint.kind == "huggingface" and architecture in OPENED:
        part = OPENED[architecture](checkpoint, architecture)
        model = part.as_in_file(_load(part.checkpoint, part.architecture, HUGGINGFACE_ARCHITECTURES))
    else:
        model = _load(checkpoint, architecture, _families(checkpoint))
    _check_mask(model, checkpoint)
    _check_weights(model, checkpoint, architecture)
    return model


def _load(checkpoint: Checkpoint, architecture: str, families: Mapping[str, str]) -> Model:
    if architecture not in families:
        others = set(OPENED) if checkpoint.kind == "huggingface" else set()
        known = sorted({*families, *others})
        raise UnsupportedError(
            f"architecture {architecture!r} is not known", where=config_of(checkpoint),
            remedy=f"known are {', '.join(known)}",
        )  # fmt: skip
    family = importlib.import_module(f"{__package__}.{families[architecture]}")
    model: Model = family.load(checkpoint, architecture)
    return model


def _families(checkpoint: Checkpoint) -> Mapping[str, str]:
    """Architectures of the checkpoint's kind of file."""
    return ARCHITECTURES if checkpoint.kind == "gguf" else HUGGINGFACE_ARCHITECTURES


def _architecture(checkpoint: Checkpoint) -> str:
    """The name under which a checkpoint asks for its family."""
    if checkpoint.kind == "gguf":
        key, value = "general.architecture", checkpoint.metadata.get("general.architecture")
    else:
        key, value = "architectures", checkpoint.metadata.get("architectures")
        value = value[0] if isinstance(value, list) and len(value) == 1 else None
    if not isinstance(value, str):
        raise FileError(
            f"key {key} is missing or is not one name", where=config_of(checkpoint),
            remedy="fetch the file again or convert the model again",
        )  # fmt: skip
    return value[:200]


def _check_mask(model: Model, checkpoint: Checkpoint) -> None:
    """The mask token of a diffusion model has an embedding."""
    mask = None if model.diffusion is None else model.diffusion.mask_token
    if mask is not None and not 0 <= mask < model.shape.vocabulary:
        raise FileError(
            f"the mask token {mask} is not among {model.shape.vocabulary} embeddings",
            where=config_of(checkpoint), remedy="fetch the model again",
        )  # fmt: skip


def _check_weights(model: Model, checkpoint: Checkpoint, architecture: str) -> None:
    """Each weight of each Program is in the file, with its shape, and no other but those that are left
    knowingly; nothing is read for that."""
    used = set(model.left)
    for program in model.programs.values():
        for name, shape in program.tensors.items():
            require_tensor(checkpoint, name, shape)
            used.add(name)
    refuse_unused(checkpoint, used, architecture)
