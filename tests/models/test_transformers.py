"""Logits against an independent implementation: Hugging Face Transformers on the same tiny weights.

Recorded by scripts/record_transformers_logits.py, which says how, and with which versions. The test
writes the weights as a GGUF file as converters do: new names, and for `llama` the rows of q and k
in another order, so that rotary pairs are neighbours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.core.batch import Float32

RECORDED = np.load(Path(__file__).parent / "data" / "transformers_logits.npz")
ABOUT = json.loads(RECORDED["about"].tobytes())
TOKENS = [int(token) for token in RECORDED["tokens"]]
NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.{kind}"
    _, _, layer, inner = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[inner]}.{kind}"


def neighbours(rows: Float32, heads: int) -> Float32:
    """Rows of each head so that those which rotate together follow each other."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def arrays(config: dict[str, Any]) -> dict[str, Float32]:
    """The recorded weights that this variant has, by GGUF name."""
    result: dict[str, Float32] = {}
    for key in RECORDED.files:
        name = key.removeprefix("weights/")
        absent = (name.endswith(".bias") and config["kind"] != "qwen2") or (
            name == "lm_head.weight" and config["tie_word_embeddings"]
        )
        if name == key or absent:
            continue
        values = RECORDED[key].astype(np.float32) / 64
        values = 1 + values / 4 if "norm" in name else values
        if config["kind"] != "qwen2" and ("q_proj" in name or "k_proj" in name):
            kind = "num_attention_heads" if "q_proj" in name else "num_key_value_heads"
            values = neighbours(values, config[kind])
        result[gguf_name(name)] = values
    return result


def metadata(config: dict[str, Any]) -> dict[str, Any]:
    rope = config["rope_parameters"]
    keys: dict[str, Any] = {
        "block_count": config["num_hidden_layers"], "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"], "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "attention.key_length": config["head_dim"], "attention.value_length": config["head_dim"],
        "rope.dimension_count": config["head_dim"], "rope.freq_base": rope["rope_theta"],
    }  # fmt: skip
    if rope["rope_type"] in ("linear", "yarn"):
        keys |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": rope["factor"]}
    if rope["rope_type"] == "yarn":
        keys["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
    architecture = "qwen2" if config["kind"] == "qwen2" else "llama"
    return {
        "general.architecture": architecture,
        **{f"{architecture}.{key}": value for key, value in keys.items()},
    }


def llama3_factors(config: dict[str, Any]) -> Float32:
    """What converters write as rope_freqs.weight: by how much each frequency is divided."""
    rope, size = config["rope_parameters"], config["head_dim"]
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
    assert len(set(factors)) > 2, "the variant should have kept, mixed and divided frequencies"
    return np.array(factors, np.float32)


@pytest.mark.parametrize("variant", ABOUT["variants"])
@pytest.mark.parametrize("by", ["reference", "float"])
def test_logits_are_those_of_transformers(
    variant: str, by: str, save: Any, logits: Callable[..., Float32]
) -> None:
    config = ABOUT["variants"][variant]
    weights = arrays(config)
    if config["rope_parameters"]["rope_type"] == "llama3":
        weights["rope_freqs.weight"] = llama3_factors(config)
    ours = logits(save(metadata(config), weights), [*TOKENS, 0], by)[3::4]
    bound = 2e-4 if by == "reference" else 1e-2  # the native cache holds f16
    assert np.abs(ours - RECORDED[f"logits/{variant}"]).max() < bound
