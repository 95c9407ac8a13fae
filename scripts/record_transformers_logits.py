"""Record the logits of tiny random models by Hugging Face Transformers, for tests/models to compare with.

    python -m venv DIR && DIR/bin/pip install torch==2.13.0 transformers==5.23.0
    DIR/bin/python scripts/record_transformers_logits.py tests/models/data/transformers_logits.npz

Weights are small whole numbers over 64, exact in every format, kept under Transformers' names. Variants
share them: what differs is the config, so that each tests a rule and not luck. Computed in float32 on
the CPU, with its plain attention.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 48, "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}  # fmt: skip
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64, "rope_theta": 500000.0,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0,
}  # fmt: skip
KINDS = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"rope_parameters": PLAIN}),
    "llama_tied": ("llama", {"rope_parameters": PLAIN, "tie_word_embeddings": True}),
    "llama_linear": ("llama", {"rope_parameters": LINEAR}),
    "llama_llama3": ("llama", {"rope_parameters": LLAMA3}),
    "llama_yarn": ("llama", {"rope_parameters": YARN}),
    "mistral": ("mistral", {"rope_parameters": PLAIN, "sliding_window": None}),
    "qwen2": ("qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}),
    "qwen2_yarn": ("qwen2", {"rope_parameters": YARN}),
}
TOKENS = 64


def weights(model: torch.nn.Module, known: dict[str, np.ndarray], random: np.random.Generator) -> None:
    """Fill the model with known or new whole numbers over 64; norms lie around 1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in known:
                spread = 40 if name == "model.embed_tokens.weight" else 16
                known[name] = np.clip(
                    np.rint(random.standard_normal(tuple(parameter.shape)) * spread), -127, 127
                ).astype(np.int8)
            offset = 1.0 if "norm" in name else 0.0
            values = known[name].astype(np.float32) / 64 * (0.25 if offset else 1.0) + offset
            parameter.copy_(torch.from_numpy(values))


def main() -> None:
    """Write the arrays and what they are to the file named on the command line."""
    random = np.random.default_rng(20)
    tokens = random.integers(0, SIZES["vocab_size"], TOKENS)
    known: dict[str, np.ndarray] = {}
    arrays: dict[str, np.ndarray] = {"tokens": tokens.astype(np.int32)}
    for name, (kind, changes) in VARIANTS.items():
        config_class, model_class = KINDS[kind]
        config = config_class(**{**SIZES, **changes}, attn_implementation="eager")
        model = model_class(config).eval().to(torch.float32)
        weights(model, known, random)
        with torch.no_grad():
            logits = model(torch.from_numpy(tokens)[None]).logits[0]
        arrays[f"logits/{name}"] = logits.numpy()[3::4]
    arrays |= {f"weights/{name}": values for name, values in known.items()}
    about = {
        "torch": torch.__version__, "transformers": transformers.__version__, "rows": "3::4",
        "variants": {name: {"kind": kind, **SIZES, **changes} for name, (kind, changes) in VARIANTS.items()},
    }  # fmt: skip
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez_compressed(Path(sys.argv[1]), **arrays)


if __name__ == "__main__":
    main()
