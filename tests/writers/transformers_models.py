"""Tiny models of Hugging Face Transformers with random weights, saved as it saves them, and what it computes.

Each is small, but its context is longer than its windows, and its config asks for what makes the family.
Weights are sized so that activations keep their scale and norms differ from 1. Nothing here knows fivefold.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PROMPT, WRITTEN, WINDOW = 41, 64, 12
SIZES: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    "attn_implementation": "eager", "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
HEADS = {"head_dim": 16}
YARN = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32,
    "mscale": 1.0, "mscale_all_dim": 1.0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 24}
LATENT = {
    "num_key_value_heads": 4, "kv_lora_rank": 20, "q_lora_rank": 28, "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8, "v_head_dim": 10, "n_routed_experts": 8, "num_experts_per_tok": 3,
    "moe_intermediate_size": 24, "first_k_dense_replace": 1,
}  # fmt: skip
DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 12,
    "linear_value_head_dim": 16,
}  # fmt: skip
QUARTER = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}
SLIDING, FULL = "sliding_attention", "full_attention"
CHUNKED = "chunked_attention"
ROUTED = {
    **HEADS, "intermediate_size": 24, "intermediate_size_mlp": 80, "num_local_experts": 4,
    "attention_chunk_size": WINDOW, "floor_scale": 10, "attn_scale": 0.3,
}  # fmt: skip
GEMMA4 = {
    **HEADS, "global_head_dim": 32, "vocab_size_per_layer_input": 96, "sliding_window": WINDOW,
    "hidden_size_per_layer_input": 0,
}  # fmt: skip
LOOKS = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
"""The part of a model that looks, which text does not need."""
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": False}),
    "llama-biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 20}),
    "qwen2": ("Qwen2", {}),
    "qwen2-window": (
        "Qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2}
    ),
    "qwen3": ("Qwen3", {**HEADS}),
    "qwen3-window": (
        "Qwen3",
        {**HEADS, "tie_word_embeddings": True, "use_sliding_window": True, "sliding_window": WINDOW,
         "max_window_layers": 1},
    ),
    "qwen3-moe": ("Qwen3Moe", {**HEADS, **EXPERTS, "norm_topk_prob": True}),
    "qwen3-moe-between": (
        "Qwen3Moe",
        {**HEADS, **EXPERTS, "norm_topk_prob": False, "decoder_sparse_step": 2, "mlp_only_layers": [3],
         "attention_bias": True, "use_sliding_window": True, "sliding_window": WINDOW},
    ),
    "gpt-oss": (
        "GptOss",
        {**HEADS, "sliding_window": WINDOW, "num_local_experts": 6, "num_experts_per_tok": 3,
         "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "truncate": False,
                             "original_max_position_embeddings": 32}},
    ),
    "gpt-oss-whole": (
        "GptOss",
        {**HEADS, "sliding_window": WINDOW, "num_local_experts": 4, "num_experts_per_tok": 1,
         "layer_types": [FULL, SLIDING, SLIDING, FULL], "swiglu_alpha": 1.2, "swiglu_limit": 0.7,
         "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "attention_bias": False},
    ),
    "gpt-oss-blocks": (  # rows of whole blocks
        "GptOss",
        {**HEADS, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
         "sliding_window": WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "llama4": ("Llama4Text", {**ROUTED, "rope_parameters": LLAMA3}),
    "llama4-between": (
        "Llama4Text",
        {**ROUTED, "num_hidden_layers": 5, "interleave_moe_layer_step": 2, "num_experts_per_tok": 2,
         "use_qk_norm": False, "no_rope_layers": [1, 0, 1, 1, 0], "attention_bias": True,
         "layer_types": [CHUNKED, FULL, FULL, CHUNKED, CHUNKED]},
    ),
    "qwen3-5": ("Qwen3_5Text", {**HEADS, **DELTA, "rope_parameters": QUARTER, "tie_word_embeddings": True}),
    "qwen3-5-shared": (  # heads of values that share those of keys, and layers in an order of their own
        "Qwen3_5Text",
        {**HEADS, **DELTA, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "attention_bias": True,
         "linear_conv_kernel_dim": 3, "layer_types": [FULL, "linear_attention", FULL, "linear_attention"]},
    ),
    "qwen3-5-moe": (
        "Qwen3_5MoeText",
        {**HEADS, **DELTA, **EXPERTS, "shared_expert_intermediate_size": 40, "rope_parameters": QUARTER},
    ),
    "smollm3": ("SmolLM3", {"num_hidden_layers": 5}),
    "smollm3-window": (
        "SmolLM3",
        {"no_rope_layers": [1, 0, 1, 0], "use_sliding_window": True, "sliding_window": WINDOW,
         "tie_word_embeddings": False},
    ),
    "mistral": ("Mistral", {"sliding_window": WINDOW}),
    "mistral-whole": ("Mistral", {"sliding_window": None, **HEADS}),
    "ministral": (
        "Ministral", {**HEADS, "sliding_window": WINDOW, "layer_types": [SLIDING, SLIDING, FULL, SLIDING]}
    ),
    "ministral3": ("Ministral3", {**HEADS, "rope_parameters": {**YARN, "llama_4_scaling_beta": 0.3}}),
    "ministral3-window": (
        "Ministral3",
        {**HEADS, "sliding_window": WINDOW, "rope_parameters": {**YARN, "llama_4_scaling_beta": 0.0}},
    ),
    "deepseek-v2-lite": (
        "DeepseekV2",
        {**LATENT, "q_lora_rank": None, "n_shared_experts": 2, "n_group": 1, "topk_group": 1,
         "rope_parameters": {**YARN, "mscale": 0.707, "mscale_all_dim": 0.707}},
    ),
    "deepseek-v2": (
        "DeepseekV2",
        {**LATENT, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2,
         "routed_scaling_factor": 3.0, "attention_bias": True},
    ),
    "deepseek-v3-groups": (
        "DeepseekV3",
        {**LATENT, "n_group": 4, "topk_group": 2, "n_shared_experts": 1, "rope_parameters": YARN},
    ),
    "deepseek-v3-halves": (
        "DeepseekV3",
        {**LATENT, "q_lora_rank": None, "n_group": 1, "topk_group": 1, "n_shared_experts": 2,
         "rope_interleave": False, "norm_topk_prob": False, "first_k_dense_replace": 2,
         "rms_norm_eps": 1e-3, "attention_bias": True},
    ),
    "deepseek-blocks": (  # rows of whole blocks, in each head too
        "DeepseekV3",
        {**LATENT, "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32, "q_lora_rank": 64,
         "num_hidden_layers": 2, "kv_lora_rank": 64, "qk_nope_head_dim": 32, "v_head_dim": 32,
         "n_group": 2, "topk_group": 1, "n_shared_experts": 1},
    ),
    "gemma2": ("Gemma2", {**HEADS, "sliding_window": WINDOW, "query_pre_attn_scalar": 24}),
    "gemma2-uncapped": (
        "Gemma2",
        {**HEADS, "sliding_window": WINDOW, "attn_logit_softcapping": None, "final_logit_softcapping": None,
         "layer_types": [FULL, SLIDING, SLIDING, FULL]},
    ),
    "gemma3": ("Gemma3Text", {**HEADS, "num_hidden_layers": 7, "sliding_window": WINDOW}),
    "gemma3-linear": (
        "Gemma3Text",
        {**HEADS, "sliding_window": WINDOW, "layer_types": [SLIDING, FULL, SLIDING, FULL],
         "rope_parameters": LINEAR, "query_pre_attn_scalar": 24, "final_logit_softcapping": 20.0},
    ),
    "gemma4": (
        "Gemma4Text",
        {**GEMMA4, "num_hidden_layers": 6, "layer_types": [SLIDING, FULL] * 3, "num_kv_shared_layers": 3,
         "use_double_wide_mlp": True, "hidden_size_per_layer_input": 8, "final_logit_softcapping": 20.0},
    ),
    "gemma4-keys": ("Gemma4Text", {**GEMMA4, "attention_k_eq_v": True, "num_global_key_value_heads": 1}),
    "gemma4-experts": (
        "Gemma4Text",
        {**GEMMA4, "num_hidden_layers": 3, "enable_moe_block": True, "num_experts": 6, "top_k_experts": 3,
         "moe_intermediate_size": 24,
         "rope_parameters": {FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.5,
                                    "rope_theta": 100000.0, "factor": 2.0},
                             SLIDING: {"rope_type": "default", "rope_theta": 10000.0}}},
    ),
    "gemma3-looks": (
        "Gemma3",
        {"text_config": {**HEADS, "sliding_window": WINDOW}, "vision_config": LOOKS,
         "mm_tokens_per_image": 4},
    ),
    "mistral3-looks": (
        "Mistral3",
        {"text_config": {**HEADS, "model_type": "mistral", "sliding_window": None},
         "vision_config": {**LOOKS, "model_type": "pixtral", "head_dim": 8}, "tie_word_embeddings": False},
    ),
    "ministral3-looks": (
        "Mistral3",
        {"text_config": {**HEADS, "model_type": "ministral3",
                         "rope_parameters": {**YARN, "llama_4_scaling_beta": 0.3}},
         "vision_config": {**LOOKS, "model_type": "pixtral", "head_dim": 8}},
    ),
    "llama4-looks": (
        "Llama4",
        {"text_config": ROUTED,
         "vision_config": {**LOOKS, "vision_output_dim": 16, "projector_input_dim": 16,
                           "projector_output_dim": 16}},
    ),
    "gemma4-looks": (
        "Gemma4",
        {"text_config": {**GEMMA4, "num_kv_shared_layers": 1, "layer_types": [SLIDING, FULL, SLIDING, FULL],
                         "hidden_size_per_layer_input": 8, "pad_token_id": 0},
         "vision_config": {**LOOKS, "num_key_value_heads": 2, "head_dim": 8, "position_embedding_size": 16}},
    ),
}  # fmt: skip
"""Config class and values by name of the variant; sizes are for the text part, if there is one."""

SHARDED = "llama"


@dataclass(frozen=True)
class Generated:
    """A saved model: its folder, tokens of a prompt and of what it writes greedily, and logits after each."""

    folder: Path
    tokens: list[int]
    logits: npt.NDArray[np.float32]


def transformers() -> Any:
    """The package, which warns about others while it is imported; it is not to ask a hub for anything."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        import transformers as package
    torch.set_num_threads(1)
    return package


def random_weights(model: Any, seed: int) -> None:
    """Fill a model: matrices keep the scale of what goes through, norms and biases are moved, and so is what
    is added to the scores of experts."""
    import torch

    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, values in model.named_parameters():
            drawn = torch.randn(values.shape, generator=random)
            if name.endswith(("norm.weight", "norm_1.weight", "norm_2.weight")):
                values.add_(0.2 * drawn)
            elif name.endswith((".bias", "dt_bias", "A_log")):
                values.copy_(0.3 * drawn)
            else:
                values.copy_(1.5 * drawn / values.shape[-1] ** 0.5)
        for name, values in model.named_buffers():
            if name.endswith("correction_bias"):
                values.copy_(0.3 * torch.randn(values.shape, generator=random))
            if name.endswith("layer_scalar"):
                values.copy_(0.8 + 0.1 * torch.randn(values.shape, generator=random))


def generate(name: str, folder: Path) -> Generated:
    """Make a model, save it, read it back, and let it write; all in float32 with its plain attention."""
    package = transformers()
    import torch

    kind, values = MODELS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        several = "text_config" in values
        sized = {"text_config": {**SIZES, **values["text_config"]}} if several else SIZES
        config = getattr(package, f"{kind}Config")(
            **({**values, **sized} if several else {**sized, **values})
        )
        maker = package.AutoModelForImageTextToText if several else package.AutoModelForCausalLM
        model = maker.from_config(config, dtype=torch.float32, attn_implementation="eager")
        random_weights(model, len(name) + 7 * sum(map(ord, name)))
        model.save_pretrained(folder, **({"max_shard_size": "60KB"} if name == SHARDED else {}))
        model = maker.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        draws = torch.Generator().manual_seed(5)
        prompt = torch.randint(0, SIZES["vocab_size"], (1, PROMPT), generator=draws)
        if kind == "Llama4":  # without an image the whole of it does not run in 5.24
            model = model.language_model
        model.generation_config = package.GenerationConfig(do_sample=False, max_new_tokens=WRITTEN)
        with torch.no_grad():
            tokens = model.generate(prompt, attention_mask=torch.ones_like(prompt))
            logits = model(tokens).logits[0]
    return Generated(folder, tokens[0].tolist(), logits.numpy())
