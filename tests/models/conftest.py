"""What tests of families share: Hugging Face models converted to GGUF, and those that Transformers makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from transformers_models import Generated, generate

from fivefold.core.batch import Float32

NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
}  # fmt: skip
GEMMA_NAMES = {
    **NAMES, "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
ARCHITECTURES = {
    "qwen2": "qwen2", "qwen3": "qwen3", "smollm3": "smollm3", "ministral3": "mistral3", "gemma2": "gemma2",
    "gemma3_text": "gemma3",
}  # fmt: skip
"""GGUF's word for a model type, where it is not llama."""
PERMUTED = {"llama", "smollm3", "mistral3"}
"""Architectures whose rows of q and k are in another order."""
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name: str, names: Mapping[str, str] = NAMES) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.{kind}"
    _, _, layer, inner = stem.split(".", 3)
    return f"blk.{layer}.{names[inner]}.{kind}"


def neighbours(rows: Float32, heads: int) -> Float32:
    """Rows of each head so that those which rotate together follow each other."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def llama3_factors(rope: Mapping[str, Any], size: int) -> Float32:
    """What converters write as rope_freqs.weight: by how much each frequency is divided."""
    original, low, high = (
        rope[key] for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    factors = []
    for pair in range(size // 2):
        length = 2 * math.pi * rope["rope_theta"] ** (2 * pair / size)
        smooth = (original / length - low) / (high - low)
        mixed = 1 / ((1 - smooth) / rope["factor"] + smooth)
        factors.append(
            rope["factor"] if length > original / low else 1 if length < original / high else mixed
        )
    assert len(set(factors)) > 2, "the model should have kept, mixed and divided frequencies"
    return np.array(factors, np.float32)


@dataclass(frozen=True)
class Converted:
    """A Hugging Face model as converters write it to GGUF: keys, and arrays by GGUF name."""

    metadata: dict[str, Any]
    arrays: dict[str, Float32]


def convert(config: Mapping[str, Any], weights: Mapping[str, Float32], architecture: str = "") -> Converted:
    """With new names, for some the rows of q and k in another order, for Gemma norms whole. `architecture`
    forces one."""
    architecture = architecture or ARCHITECTURES.get(config["model_type"], "llama")
    heads = config["num_attention_heads"]
    rope = config["rope_parameters"].get("full_attention", config["rope_parameters"])
    size = config.get("head_dim") or config["hidden_size"] // heads
    keys: dict[str, Any] = {
        "block_count": config["num_hidden_layers"], "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"], "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads, "attention.head_count_kv": config["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": np.float64(config["rms_norm_eps"]),
        "attention.key_length": size, "attention.value_length": size,
        "rope.dimension_count": size, "rope.freq_base": rope["rope_theta"],
    }  # fmt: skip
    if rope["rope_type"] in ("linear", "yarn"):
        keys |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": rope["factor"]}
    if rope["rope_type"] == "yarn":
        keys["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
    if architecture == "mistral3":
        keys["rope.scaling.yarn_log_multiplier"] = rope["mscale_all_dim"]
        keys["attention.temperature_scale"] = rope["llama_4_scaling_beta"]
    gemma = architecture.startswith("gemma")
    if gemma:
        named = ("attn_logit_softcapping", "final_logit_softcapping")
        keys |= {key: config[key] for key in named if config.get(key) is not None}
        keys["attention.sliding_window"] = config["sliding_window"]
    arrays: dict[str, Float32] = {}
    for name, values in weights.items():
        given = gguf_name(name, GEMMA_NAMES if gemma else NAMES)
        if architecture in PERMUTED and ("q_proj" in name or "k_proj" in name):
            shared = heads if "q_proj" in name else config["num_key_value_heads"]
            arrays[given] = neighbours(values, shared)
        else:
            arrays[given] = values + np.float32(1) if gemma and name.endswith("norm.weight") else values
    if rope["rope_type"] == "llama3":
        arrays["rope_freqs.weight"] = llama3_factors(rope, size)
    named = {f"{architecture}.{key}": value for key, value in keys.items()}
    return Converted({"general.architecture": architecture, **named}, arrays)


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Generated]:
    """A variant's model as Transformers makes it, made once."""
    made: dict[str, Generated] = {}

    def give(name: str) -> Generated:
        if name not in made:
            made[name] = generate(name, tmp_path_factory.mktemp("transformers") / name)
        return made[name]

    return give


@pytest.fixture
def converted() -> Callable[..., Converted]:
    return convert
