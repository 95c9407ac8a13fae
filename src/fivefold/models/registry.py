"""Which family takes which architecture. Aliases are data; families do not know each other."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.program import Model

from .config import config_of, refuse_unused, require_tensor

ARCHITECTURES: Mapping[str, str] = {
    "gemma2": "gemma", "gemma3": "gemma", "gpt-oss": "gpt_oss", "llama": "llama", "mistral3": "mistral",
    "qwen2": "llama", "qwen3": "qwen3", "qwen35": "qwen3_5", "qwen35moe": "qwen3_5", "qwen3moe": "qwen3_moe",
    "smollm3": "smollm3",
}  # fmt: skip
"""GGUF `general.architecture` to the module of its family."""

HUGGINGFACE_ARCHITECTURES: Mapping[str, str] = {
    "Gemma2ForCausalLM": "gemma", "Gemma3ForCausalLM": "gemma", "GptOssForCausalLM": "gpt_oss",
    "LlamaForCausalLM": "llama",
    "Ministral3ForCausalLM": "mistral", "MinistralForCausalLM": "mistral", "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "llama", "Qwen3ForCausalLM": "qwen3", "Qwen3MoeForCausalLM": "qwen3_moe",
    "Qwen3_5ForCausalLM": "qwen3_5", "Qwen3_5ForConditionalGeneration": "qwen3_5",
    "Qwen3_5MoeForCausalLM": "qwen3_5", "Qwen3_5MoeForConditionalGeneration": "qwen3_5",
    "SmolLM3ForCausalLM": "smollm3",
}  # fmt: skip
"""The one name in config.json's `architectures` to the module of its family."""


def load_model(checkpoint: Checkpoint) -> Model:
    """The model that a checkpoint describes, its weights checked for name and shape."""
    architecture = _architecture(checkpoint)
    families = ARCHITECTURES if checkpoint.kind == "gguf" else HUGGINGFACE_ARCHITECTURES
    if architecture not in families:
        raise UnsupportedError(
            f"architecture {architecture!r} is not known", where=config_of(checkpoint),
            remedy=f"known are {', '.join(sorted(families))}",
        )  # fmt: skip
    family = importlib.import_module(f"{__package__}.{families[architecture]}")
    model: Model = family.load(checkpoint, architecture)
    _check_weights(model, checkpoint, architecture)
    return model


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


def _check_weights(model: Model, checkpoint: Checkpoint, architecture: str) -> None:
    """Each weight of each Program is in the file, with its shape, and no other; nothing is read for that."""
    used = set()
    for program in model.programs.values():
        for name, shape in program.tensors.items():
            require_tensor(checkpoint, name, shape)
            used.add(name)
    refuse_unused(checkpoint, used, architecture, model.left_out)
