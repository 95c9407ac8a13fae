"""DeepSeek models of Hugging Face folders as GGUF files, in both forms of the matrices of heads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fivefold.core.batch import Float32
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.executor import dequantize
from fivefold.files import open_checkpoint, write_gguf
from fivefold.formats import FORMATS

WORDS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b", "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm", "self_attn.kv_b_proj": "attn_kv_b",
    "self_attn.o_proj": "attn_output", "mlp.gate": "ffn_gate_inp", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp", "mlp.shared_experts.down_proj": "ffn_down_shexp",
}  # fmt: skip
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_keys(config: Mapping[str, Any], apart: bool) -> dict[str, Any]:
    """What converters write of a config."""
    rope, third = config["rope_parameters"], config["model_type"] == "deepseek_v3"
    head = config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
    keys: dict[str, Any] = {
        "block_count": config["num_hidden_layers"], "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"], "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"], "vocab_size": config["vocab_size"],
        "attention.head_count_kv": 1 if apart else config["num_attention_heads"],
        "attention.layer_norm_rms_epsilon": np.float64(config["rms_norm_eps"]),
        "attention.kv_lora_rank": config["kv_lora_rank"], "rope.freq_base": rope["rope_theta"],
        "rope.dimension_count": config["qk_rope_head_dim"],
        "attention.key_length": config["kv_lora_rank"] + config["qk_rope_head_dim"] if apart else head,
        "attention.value_length": config["kv_lora_rank" if apart else "v_head_dim"],
        "leading_dense_block_count": config["first_k_dense_replace"],
        "expert_count": config["n_routed_experts"], "expert_used_count": config["num_experts_per_tok"],
        "expert_feed_forward_length": config["moe_intermediate_size"],
        "expert_shared_count": config["n_shared_experts"],
        "expert_weights_scale": np.float64(config["routed_scaling_factor"]),
        "expert_weights_norm": bool(config["norm_topk_prob"]), "expert_gating_func": 2 if third else 1,
    }  # fmt: skip
    if apart:
        keys |= {"attention.key_length_mla": head, "attention.value_length_mla": config["v_head_dim"]}
    if config["q_lora_rank"] is not None:
        keys["attention.q_lora_rank"] = config["q_lora_rank"]
    if config["n_group"] is not None:
        keys |= {"expert_group_count": config["n_group"], "expert_group_used_count": config["topk_group"]}
    if rope["rope_type"] == "yarn":
        keys |= {
            "rope.scaling.type": "yarn", "rope.scaling.factor": rope["factor"],
            "rope.scaling.original_context_length": rope["original_max_position_embeddings"],
            "rope.scaling.yarn_log_multiplier": np.float64(0.1 * rope["mscale_all_dim"]),
        }  # fmt: skip
    return {"general.architecture": "deepseek2", **{f"deepseek2.{key}": value for key, value in keys.items()}}


def gguf_arrays(folder: Checkpoint, apart: bool) -> dict[str, Float32]:
    """Weights by GGUF's names: experts stacked, the matrices of heads apart if asked, the keys' turned."""
    config = folder.metadata
    still, rank = config["qk_nope_head_dim"], config["kv_lora_rank"]
    found: dict[str, Float32] = {}
    stacks: dict[str, dict[int, Float32]] = {}
    for name, tensor in folder.tensors.items():
        values = dequantize(tensor)
        stem, _, kind = name.rpartition(".")
        if stem in OUTSIDE:
            found[f"{OUTSIDE[stem]}.{kind}"] = values
            continue
        _, _, layer, inner = stem.split(".", 3)
        block = f"blk.{layer}"
        if inner.startswith("mlp.experts."):
            _, _, expert, part = inner.split(".")
            stack = f"{block}.ffn_{part.removesuffix('_proj')}_exps.weight"
            stacks.setdefault(stack, {})[int(expert)] = values
        elif kind == "e_score_correction_bias":
            found[f"{block}.exp_probs_b.bias"] = values
        elif inner == "self_attn.kv_b_proj" and apart:
            heads = values.reshape(config["num_attention_heads"], -1, rank)
            found[f"{block}.attn_k_b.weight"] = heads[:, :still].swapaxes(1, 2)
            found[f"{block}.attn_v_b.weight"] = heads[:, still:]
        else:
            found[f"{block}.{WORDS[inner]}.{kind}"] = values
    for stack, experts in stacks.items():
        found[stack] = np.stack([experts[number] for number in range(len(experts))])
    return found


def as_gguf(
    folder: Checkpoint, path: Path, apart: bool = True, forms: Mapping[str, str] | None = None, **keys: Any
) -> Checkpoint:
    """The folder as a GGUF file; `forms` are formats by the ends of names. `...` takes a key out."""
    metadata = gguf_keys(folder.metadata, apart)
    metadata |= {f"deepseek2.{key.replace('__', '.')}": value for key, value in keys.items()}
    tensors = []
    for name, values in gguf_arrays(folder, apart).items():
        form = next((form for end, form in (forms or {}).items() if name.endswith(end)), "f32")
        data = FORMATS[form].pack(np.ascontiguousarray(values).ravel())
        tensors.append(Tensor(name, form, values.shape, data))
    file = path / f"{len(list(path.iterdir()))}.gguf"
    write_gguf(file, {key: value for key, value in metadata.items() if value is not ...}, tensors)
    return open_checkpoint(file)


def as_f32(name: str, values: Float32) -> Tensor:
    stored = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
    return Tensor(name, "f32", values.shape, stored)
