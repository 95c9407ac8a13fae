"""Make tiny random models with Hugging Face Transformers, as folders, with the logits it computes from them.

    python -m venv DIR && DIR/bin/pip install torch==2.13.0 transformers==5.24.0
    DIR/bin/python scripts/record_transformers_folders.py tests/models/data/folders

What is written is what Transformers writes: config.json in its own form, safetensors whole or in shards.
Logits are computed in float32 on the CPU, with its plain attention, from the folder as it was read back.
Each model differs from the others in what its config says: biases, scaling of positions, tied
embeddings, size of heads, number format. Beside them, ropes.json holds what configs in the old and the new
form make of rotary frequencies.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

TOKENS = 64
SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 48, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64, "rope_theta": 500000.0,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0,
}  # fmt: skip
MODELS: dict[str, tuple[PreTrainedConfig, torch.dtype, str]] = {
    "llama-f32": (
        LlamaConfig(
            **SIZES, head_dim=16, rope_parameters=LLAMA3, attention_bias=True, mlp_bias=True,
            bos_token_id=1, eos_token_id=2,
        ),
        torch.float32, "5GB",
    ),
    "mistral-bf16": (
        MistralConfig(
            **SIZES, head_dim=16, sliding_window=None, bos_token_id=1, eos_token_id=2,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        ),
        torch.bfloat16, "20KB",
    ),
    "qwen2-bf16": (
        Qwen2Config(
            **SIZES, rope_parameters=YARN, tie_word_embeddings=True, bos_token_id=3, eos_token_id=4,
        ),
        torch.bfloat16, "5GB",
    ),
}  # fmt: skip
"""Config, number format, and the size from which on files are split."""

ROPES: list[dict[str, Any]] = [
    {},
    {"rope_theta": 500000.0},
    {"rope_theta": 500000.0, "rope_scaling": None},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 700000}},
    {"rope_theta": 20000.0, "rope_scaling": {"type": "linear", "factor": 4}},
    {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0}},
    {"rope_theta": 500000.0, "rope_scaling": {key: LLAMA3[key] for key in LLAMA3 if key != "rope_theta"}},
    {"rope_parameters": {**LLAMA3, "original_max_position_embeddings": 48, "low_freq_factor": 1.5}},
    {"rope_theta": 1000000.0, "rope_scaling": {"type": "yarn", "factor": 4.0,
                                               "original_max_position_embeddings": 32}},
    {"rope_theta": 1000000.0, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
    {"rope_parameters": {**YARN, "beta_fast": 16, "beta_slow": 2.0, "attention_factor": 0.75}},
    {"rope_parameters": {**YARN, "mscale": 0.8, "mscale_all_dim": 0.5}},
    {"original_max_position_embeddings": 40, "rope_parameters": {**YARN, "factor": 8.0}},
]  # fmt: skip
"""What a config.json of a model with a context of 128 and heads of 16 may say."""


def fill(model: torch.nn.Module, random: np.random.Generator) -> None:
    """Give the model weights that keep activations in scale, and biases that matter."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = random.standard_normal(tuple(parameter.shape))
            if name.endswith(".bias"):
                values *= 0.2
            elif values.ndim == 1:
                values = 1 + 0.1 * values
            elif "embed_tokens" not in name:
                values *= 1.5 / np.sqrt(values.shape[-1])
            parameter.copy_(torch.from_numpy(values))


def ropes() -> list[dict[str, Any]]:
    """What Transformers makes of each of ROPES."""
    found = []
    for config in ROPES:
        rotary = LlamaRotaryEmbedding(LlamaConfig(**SIZES, head_dim=16, **json.loads(json.dumps(config))))
        frequencies = rotary.inv_freq.tolist()
        found.append({"config": config, "frequencies": frequencies, "magnitude": rotary.attention_scaling})
    return found


def main() -> None:
    """Write the folders, logits.npz and ropes.json into the folder named on the command line."""
    target = Path(sys.argv[1])
    random = np.random.default_rng(21)
    tokens = random.integers(0, SIZES["vocab_size"], TOKENS)
    arrays: dict[str, np.ndarray] = {"tokens": tokens.astype(np.int32)}
    for name, (config, dtype, most) in MODELS.items():
        made = AutoModelForCausalLM.from_config(config)
        fill(made, random)
        made.generation_config = GenerationConfig(
            bos_token_id=config.bos_token_id, eos_token_id=[config.eos_token_id, 5]
        )
        made.to(dtype).save_pretrained(target / name, max_shard_size=most)
        model = AutoModelForCausalLM.from_pretrained(
            target / name, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        with torch.no_grad():
            arrays[name] = model(torch.from_numpy(tokens)[None]).logits[0].numpy()[3::4]
    np.savez_compressed(target / "logits.npz", **arrays)
    (target / "ropes.json").write_text(json.dumps(ropes(), indent=1) + "\n")


if __name__ == "__main__":
    main()
