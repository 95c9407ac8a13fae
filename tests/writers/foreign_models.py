"""Tiny models for the Transformers backend, most of architectures without a family here.

They are whole folders: weights that Transformers saves, and a tokenizer with a token for each byte.
Nothing here knows fivefold.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers_models import random_weights, transformers

WINDOW = 12
BYTES = 256
SIZES: dict[str, Any] = {
    "vocab_size": BYTES, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
    "num_attention_heads": 4, "max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": None,
    "pad_token_id": None,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2}
FOREIGN: dict[str, tuple[str, dict[str, Any]]] = {
    "olmo3": ("Olmo3", {**GROUPED, "num_hidden_layers": 4, "sliding_window": WINDOW}),
    "gpt-neox": ("GPTNeoX", {"rotary_pct": 0.5, "hidden_act": "relu"}),
    "cohere2": (
        "Cohere2", {**GROUPED, "num_hidden_layers": 4, "sliding_window": WINDOW, "logit_scale": 0.5}
    ),
    "phi3": ("Phi3", {**GROUPED, "partial_rotary_factor": 0.5}),
    "gpt2": ("GPT2", {}),
    "gemma2": (
        "Gemma2", {**GROUPED, "head_dim": 16, "sliding_window": WINDOW, "attn_logit_softcapping": 2.0}
    ),
    "gpt-oss": (
        "GptOss",
        {**GROUPED, "head_dim": 16, "sliding_window": WINDOW, "num_local_experts": 4,
         "num_experts_per_tok": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    ),
    "deepseek3": (
        "DeepseekV3",
        {"num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
         "qk_nope_head_dim": 16, "v_head_dim": 16, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
         "num_experts_per_tok": 2, "moe_intermediate_size": 24, "first_k_dense_replace": 1},
    ),
    "mamba": ("Mamba", {}),
    "jamba": ("Jamba", {**GROUPED, "num_experts": 2}),
    "bloom": ("Bloom", {"n_layer": 2, "n_head": 4}),
    "llama4": (
        "Llama4Text",
        {**GROUPED, "num_local_experts": 2, "intermediate_size_mlp": 64, "head_dim": 16,
         "attention_chunk_size": 16},
    ),
}  # fmt: skip
"""Config class and values by name."""


def save_foreign(name: str, folder: Path, brain: bool = False, **changes: Any) -> None:
    """A model in float32, or in bf16, with its tokenizer; `changes` are of its config."""
    package = transformers()
    import torch

    kind, values = FOREIGN[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = getattr(package, f"{kind}Config")(**{**SIZES, **values, **changes})
        model = package.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        random_weights(model, len(name) + 7 * sum(map(ord, name)))
        (model.to(torch.bfloat16) if brain else model).save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))


def byte_tokenizer() -> Tokenizer:
    """A token for each byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def greedy(folder: Path, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """What Transformers' own `generate` writes after each prompt, alone, in float32 with plain attention."""
    package = transformers()
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = package.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
        model.generation_config = package.GenerationConfig(do_sample=False, max_new_tokens=count)
        written = []
        for prompt in prompts:
            tokens = torch.tensor([list(prompt)])
            with torch.no_grad():
                answer = model.generate(tokens, attention_mask=torch.ones_like(tokens))
            written.append(answer[0, len(prompt) :].tolist())
    return written
