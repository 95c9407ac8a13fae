"""Diffusion families: logits are those of a plain forward pass, configs mean what their authors mean.

Real sizes are those of SDAR-4B-Chat's config.json as it is published, and of LLaDA 8B, LLaDA2.0 mini and
LLaDA-MoE as code that checks or quotes their configs has them; those of SDAR-30B-A3B are Qwen3-30B-A3B's,
with SDAR's keys. Weights of these have names and shapes and no bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from configured import assert_refused, changed
from diffusion_models import CONFIGS, MASK, make_diffusion_model

from fivefold.backends import ReferenceRunner
from fivefold.core.batch import LOGITS, Bool, Float32, Span, Step
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.diffusion import DiffusionRules
from fivefold.files import open_checkpoint
from fivefold.models import load_model

TOKENS = [int(token) for token in np.random.default_rng(3).integers(0, 256, 19)]
BLOCK = np.arange(len(TOKENS)) // 4
SIGHTS: dict[str, Bool] = {
    "all": np.ones((len(TOKENS),) * 2, bool),
    "blocks": BLOCK[None, :] <= BLOCK[:, None],
    "causal": np.tri(len(TOKENS), dtype=bool),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("sight", SIGHTS)
def test_logits_are_those_of_a_plain_forward_pass(name: str, sight: str, tmp_path: Path) -> None:
    plain = make_diffusion_model(name, tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    runner, sees = ReferenceRunner(load_model(checkpoint), checkpoint, 64), SIGHTS[sight]
    rows = np.arange(len(TOKENS), dtype=np.int32)
    visible = np.stack([0 * rows, sees.sum(axis=1).astype(np.int32)], axis=1)
    span = Span(runner.open(), np.array(TOKENS, np.int32), rows, visible, row_sets={LOGITS: rows})
    ours: Float32 = runner.run(Step((span,)))
    theirs = plain.logits(TOKENS, rows.tolist(), sees)
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


RULES: dict[str, DiffusionRules] = {
    "sdar": DiffusionRules(
        "block", 4, MASK, "confidence_threshold", {"threshold": 0.85, "as_drawn": True}
    ),
    "fast-dllm": DiffusionRules("block", 16, MASK, "confidence_threshold", shifted=True, sub_block=8),
    "dream": DiffusionRules("full", 0, MASK, "dream", shifted=True),
    "wedlm": DiffusionRules("causal", 16, MASK, "entropy_distance"),
    "wedlm-biases": DiffusionRules("causal", 16, MASK, "entropy_distance"),
    "llada": DiffusionRules("full", 32, MASK, "low_confidence"),
    "llada-moe": DiffusionRules("full", 32, MASK, "low_confidence"),
    "sdar-moe": DiffusionRules(
        "block", 4, MASK, "confidence_threshold", {"threshold": 0.85, "as_drawn": True}
    ),
    "llada2": DiffusionRules(
        "block", 32, MASK, "confidence_threshold", {"threshold": 0.95, "as_drawn": True}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_the_rules_of_decoding_are_read(name: str, tmp_path: Path) -> None:
    make_diffusion_model(name, tmp_path)
    assert load_model(open_checkpoint(tmp_path)).diffusion == RULES[name]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("sdar", {"model_type": "qwen3"}, "key model_type is 'qwen3'; known are 'sdar'"),
    ("sdar", {"num_experts": 8}, "key num_experts is not known"),
    ("sdar", {"block_size": 0}, "key block_size is 0, not a size"),
    ("sdar", {"mask_token_id": 300}, "mask token 300 is not among 258 embeddings"),
    ("fast-dllm", {"attention_bias": False}, "key attention_bias is False"),
    ("dream", {"block_size": 4}, "key block_size is not known"),
    ("wedlm", {"qk_norm": False}, "is neither Qwen2.5 nor Qwen3"),
    ("wedlm", {"qk_norm": "yes"}, "key qk_norm is 'yes', not true or false"),
    ("llada", {"block_type": ...}, "key block_type is 'sequential'; known are 'llama'"),
    ("llada", {"rope": ...}, "key rope is False"),
    ("llada", {"include_bias": True}, "key include_bias is True"),
    ("llada", {"include_qkv_bias": True}, "q_proj.bias is missing"),
    ("llada", {"d_model": ...}, "key hidden_size is missing"),
    ("llada", {"input_emb_norm": True}, "key input_emb_norm is True"),
    ("llada", {"multi_query_attention": True}, "key multi_query_attention is True"),
    ("sdar-moe", {"model_type": "sdar"}, "key model_type is 'sdar'; known are 'sdar_moe'"),
    ("sdar-moe", {"mlp_only_layers": [9]}, "key mlp_only_layers is not a list of layers"),
    ("llada-moe", {"qk_layernorm": False}, "key qk_layernorm is False; known are True"),
    ("llada-moe", {"norm_topk_prob": True}, "key norm_topk_prob is True"),
    ("llada-moe", {"moe_layer_freq": [1]}, "key moe_layer_freq is not a 0 or a 1 for each of 2 layers"),
    ("llada-moe", {"moe_layer_freq": [1, 1]}, "tensor model.layers.0.mlp"),
    ("llada-moe", {"expert_intermediate_size": ...}, "key expert_intermediate_size is missing"),
    ("llada-moe", {"moe_router_score_function": "sigmoid"}, "key moe_router_score_function is 'sigmoid'"),
    ("llada-moe", {"clip_qkv": 8}, "key clip_qkv is 8"),
    ("llada-moe", {"n_group": 2}, "key n_group is not known"),
    ("llada2", {"score_function": "softmax"}, "key score_function is 'softmax'; known are 'sigmoid'"),
    ("llada2", {"norm_topk_prob": False}, "key norm_topk_prob is False"),
    ("llada2", {"use_qk_norm": False}, "key use_qk_norm is False"),
    ("llada2", {"n_group": 3}, "key n_group is 3"),
    ("llada2", {"topk_group": 1}, "key n_group is 4, 1 of which do not have 3 of 8 experts"),
    ("llada2", {"num_shared_experts": 0}, "tensor model.layers.1.mlp.shared_experts"),
    ("llada2", {"partial_rotary_factor": 0.25}, "3 dimensions of heads of 12 cannot rotate in pairs"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "said"), REFUSED, ids=str)
def test_what_is_not_known_is_refused_by_name(
    name: str, values: dict[str, Any], said: str, tmp_path: Path
) -> None:
    make_diffusion_model(name, tmp_path)
    assert_refused(lambda: load_model(changed(open_checkpoint(tmp_path), **values)), tmp_path, said)


SDAR_4B: dict[str, Any] = {
    "architectures": ["SDARForCausalLM"], "model_type": "sdar", "attention_bias": False,
    "attention_dropout": 0.0, "attn_implementation": "flex_attention", "bos_token_id": 151643, "debug": False,
    "eos_token_id": 151643, "block_size": 4, "mask_token_id": 151669, "ep_size": 1,
    "fuse_cross_entropy": True, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2560,
    "initializer_range": 0.02,
    "intermediate_size": 9728, "max_position_embeddings": 32768, "max_window_layers": 36,
    "micro_forward": False, "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6, "rope_scaling": None, "rope_theta": 1000000, "skip_checkpoint": False,
    "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.52.4", "use_cache": False, "use_deepep": False, "use_sliding_window": False,
    "vocab_size": 151936, "auto_map": {"AutoModelForCausalLM": "modeling_sdar.SDARForCausalLM"},
}  # fmt: skip
LLADA_8B: dict[str, Any] = {
    "architectures": ["LLaDAModelLM"], "model_type": "llada", "d_model": 4096, "n_layers": 32, "n_heads": 32,
    "n_kv_heads": 32, "mlp_hidden_size": 12288, "vocab_size": 126464, "embedding_size": 126464,
    "mask_token_id": 126336, "eos_token_id": 126081, "rope_theta": 500000.0, "rms_norm_eps": 1e-5,
    "max_sequence_length": 4096, "activation_type": "silu", "block_type": "llama", "layer_norm_type": "rms",
    "layer_norm_with_affine": True, "attention_layer_norm": False, "bias_for_layer_norm": False, "rope": True,
    "rope_full_precision": True, "include_bias": False, "include_qkv_bias": False, "weight_tying": False,
}  # fmt: skip
LLADA2_MINI: dict[str, Any] = {
    "architectures": ["LLaDA2MoeModelLM"], "model_type": "llada2_moe", "dtype": "bfloat16",
    "first_k_dense_replace": 1, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048,
    "initializer_range": 0.02, "intermediate_size": 5120, "max_position_embeddings": 32768,
    "moe_intermediate_size": 512, "moe_router_enable_expert_bias": True, "n_group": 8, "use_qk_norm": True,
    "use_qkv_bias": False, "norm_topk_prob": True, "num_attention_heads": 16, "num_experts": 256,
    "num_experts_per_tok": 8, "num_hidden_layers": 20, "num_key_value_heads": 4, "num_shared_experts": 1,
    "output_router_logits": False, "pad_token_id": 156892, "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-6,
    "rope_theta": 600000, "routed_scaling_factor": 2.5, "score_function": "sigmoid",
    "tie_word_embeddings": False, "topk_group": 4, "vocab_size": 157184,
}  # fmt: skip


SDAR_30B_A3B: dict[str, Any] = {
    **{key: value for key, value in SDAR_4B.items() if key != "auto_map"},
    "architectures": ["SDARMoeForCausalLM"], "model_type": "sdar_moe", "hidden_size": 2048,
    "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 48, "max_window_layers": 48,
    "num_attention_heads": 32, "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8,
    "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [], "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
}  # fmt: skip
LLADA_MOE_7B: dict[str, Any] = {
    "architectures": ["LLaDAMoEModelLM"], "model_type": "llada", "hidden_size": 2048, "hidden_act": "silu",
    "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 64,
    "num_experts_per_tok": 8, "expert_intermediate_size": 1024, "dense_intermediate_size": 8192,
    "shared_expert_intermediate_size": None, "moe_layer_freq": [1] * 16, "router_aux_loss_coef": 0.01,
    "rope_theta": 50000, "max_position_embeddings": 8192, "qk_layernorm": True, "rms_norm_eps": 1e-5,
    "vocab_size": 157184, "tie_word_embeddings": False, "partial_rotary_factor": 1, "rope_scaling": None,
    "routed_scaling_factor": 1, "moe_router_enable_expert_bias": None, "moe_router_score_function": None,
    "attention_bias": False, "attention_dropout": 0.0, "clip_qkv": None, "norm_topk_prob": None,
    "router_num_group": None, "router_topk_group": None, "output_router_logits": False, "use_cache": False,
    "pad_token_id": 156892, "eos_token_id": 156892, "torch_dtype": "bfloat16",
}  # fmt: skip


def unstored(name: str, *shape: int) -> tuple[str, Tensor]:
    return name, Tensor(name, "bf16", shape, np.zeros(0, np.uint8))


def sdar_tensors() -> list[tuple[str, Tensor]]:
    hidden, ffn, found = 2560, 9728, [unstored("model.norm.weight", 2560)]
    found += [unstored(f"{name}.weight", 151936, hidden) for name in ("model.embed_tokens", "lm_head")]
    for layer in range(36):
        block = f"model.layers.{layer}"
        found += [
            unstored(f"{block}.{part}_layernorm.weight", hidden) for part in ("input", "post_attention")
        ]
        found += [unstored(f"{block}.self_attn.{part}_norm.weight", 128) for part in "qk"]
        found += [unstored(f"{block}.self_attn.{part}_proj.weight", 1024, hidden) for part in "kv"]
        found += [unstored(f"{block}.mlp.{part}_proj.weight", ffn, hidden) for part in ("gate", "up")]
        found += [
            unstored(f"{block}.self_attn.q_proj.weight", 4096, hidden),
            unstored(f"{block}.self_attn.o_proj.weight", hidden, 4096),
            unstored(f"{block}.mlp.down_proj.weight", hidden, ffn),
        ]
    return found


def llada_tensors() -> list[tuple[str, Tensor]]:
    found = [unstored(f"model.transformer.{name}.weight", 126464, 4096) for name in ("wte", "ff_out")]
    found.append(unstored("model.transformer.ln_f.weight", 4096))
    for layer in range(32):
        block = f"model.transformer.blocks.{layer}"
        found += [unstored(f"{block}.{part}_norm.weight", 4096) for part in ("attn", "ff")]
        parts = ("q_proj", "k_proj", "v_proj", "attn_out")
        found += [unstored(f"{block}.{part}.weight", 4096, 4096) for part in parts]
        found += [unstored(f"{block}.{part}_proj.weight", 12288, 4096) for part in ("ff", "up")]
        found.append(unstored(f"{block}.ff_out.weight", 4096, 12288))
    return found


def qwen3_moe_tensors(config: dict[str, Any], size: int) -> list[tuple[str, Tensor]]:
    """Names as Qwen3-MoE has them; heads of that size."""
    hidden, width = config["hidden_size"], config.get("moe_intermediate_size") or 1024
    q, kv = (config[f"num_{part}_heads"] * size for part in ("attention", "key_value"))
    found = [unstored("model.norm.weight", hidden)]
    found += [
        unstored(f"{name}.weight", config["vocab_size"], hidden) for name in ("model.embed_tokens", "lm_head")
    ]
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        found += [
            unstored(f"{block}.{part}_layernorm.weight", hidden) for part in ("input", "post_attention")
        ]
        found += [unstored(f"{block}.self_attn.{part}_norm.weight", size) for part in "qk"]
        found += [unstored(f"{block}.self_attn.{part}_proj.weight", kv, hidden) for part in "kv"]
        found.append(unstored(f"{block}.self_attn.q_proj.weight", q, hidden))
        found.append(unstored(f"{block}.self_attn.o_proj.weight", hidden, q))
        found.append(unstored(f"{block}.mlp.gate.weight", config["num_experts"], hidden))
        for number in range(config["num_experts"]):
            part = f"{block}.mlp.experts.{number}"
            found += [unstored(f"{part}.{one}_proj.weight", width, hidden) for one in ("gate", "up")]
            found.append(unstored(f"{part}.down_proj.weight", hidden, width))
    return found


def llada2_tensors() -> list[tuple[str, Tensor]]:
    hidden, found = 2048, [unstored("model.norm.weight", 2048)]
    found += [unstored(f"{name}.weight", 157184, hidden) for name in ("model.word_embeddings", "lm_head")]
    for layer in range(20):
        block = f"model.layers.{layer}"
        found += [
            unstored(f"{block}.{part}_layernorm.weight", hidden) for part in ("input", "post_attention")
        ]
        found += [unstored(f"{block}.attention.{part}_layernorm.weight", 128) for part in ("query", "key")]
        found.append(unstored(f"{block}.attention.query_key_value.weight", 24 * 128, hidden))
        found.append(unstored(f"{block}.attention.dense.weight", hidden, 2048))
        parts = (
            ["mlp.shared_experts", *[f"mlp.experts.{number}" for number in range(256)]] if layer else ["mlp"]
        )
        for part in parts:
            width = 512 if layer else 5120
            found += [unstored(f"{block}.{part}.{one}_proj.weight", width, hidden) for one in ("gate", "up")]
            found.append(unstored(f"{block}.{part}.down_proj.weight", hidden, width))
        if layer:
            found.append(unstored(f"{block}.mlp.gate.weight", 256, hidden))
            found.append(unstored(f"{block}.mlp.gate.expert_bias", 256))
    return found


@pytest.mark.parametrize(
    ("config", "tensors", "block", "billions"),
    [(SDAR_4B, sdar_tensors(), 4, 4.41), (LLADA_8B, llada_tensors(), 32, 8.02),
     (LLADA2_MINI, llada2_tensors(), 32, 16.3),
     (SDAR_30B_A3B, qwen3_moe_tensors(SDAR_30B_A3B, 128), 4, 30.5),
     (LLADA_MOE_7B, qwen3_moe_tensors(LLADA_MOE_7B, 128), 32, 7.36)],
    ids=["sdar-4b", "llada-8b", "llada2-mini", "sdar-30b-a3b", "llada-moe-7b"],
)  # fmt: skip
def test_every_weight_of_a_model_of_real_size_has_its_place(
    config: dict[str, Any], tensors: list[tuple[str, Tensor]], block: int, billions: float
) -> None:
    model = load_model(Checkpoint(Path("real"), "huggingface", config, dict(tensors)))
    assert model.diffusion is not None and model.diffusion.block == block
    assert set(model.main.tensors) == {name for name, _ in tensors}
    count = sum(int(np.prod(shape)) for shape in model.main.tensors.values())
    assert count / 1e9 == pytest.approx(billions, rel=0.01)
