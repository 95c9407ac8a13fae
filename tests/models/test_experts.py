"""Qwen3-MoE and GPT-OSS: GGUF files of the same weights, MXFP4 in both layouts, values that matter, refusals.

The models are those that Transformers makes for `test_against_transformers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantized_writer as writer
from configured import assert_refused, changed
from transformers_models import Generated

from fivefold.core.batch import Float32
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.errors import InputError
from fivefold.executor import dequantize
from fivefold.files import open_checkpoint, write_gguf
from fivefold.formats import FORMATS
from fivefold.formats.format import nibbles
from fivefold.models import load_model

Give = Callable[[str], Generated]
Logits = Callable[..., Float32]
TOKENS = [int(token) for token in np.random.default_rng(8).integers(0, 96, 45)]
ARCHITECTURES = {"qwen3_moe": "qwen3moe", "gpt_oss": "gpt-oss"}
WORDS = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate": "ffn_gate_inp", "mlp.router": "ffn_gate_inp",
}  # fmt: skip
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """What converters write of a config."""
    own = config["model_type"] == "gpt_oss"
    rope, experts = config["rope_parameters"], config.get("num_experts", config.get("num_local_experts"))
    keys: dict[str, Any] = {
        "block_count": config["num_hidden_layers"], "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"], "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": np.float64(config["rms_norm_eps"]),
        "attention.key_length": config["head_dim"], "attention.value_length": config["head_dim"],
        "rope.freq_base": rope["rope_theta"], "expert_count": experts,
        "expert_used_count": config["num_experts_per_tok"],
        "expert_feed_forward_length": config["intermediate_size" if own else "moe_intermediate_size"],
    }  # fmt: skip
    if own:
        keys["attention.sliding_window"] = config["sliding_window"]
    if rope["rope_type"] == "yarn":
        original = rope["original_max_position_embeddings"]
        keys |= {"rope.scaling.type": "yarn", "rope.scaling.factor": rope["factor"],
                 "rope.scaling.original_context_length": original}  # fmt: skip
    name = ARCHITECTURES[config["model_type"]]
    return {"general.architecture": name, **{f"{name}.{key}": value for key, value in keys.items()}}


def gguf_arrays(folder: Checkpoint) -> dict[str, Float32]:
    """Weights by GGUF's names: experts stacked, gate and up apart, outputs as rows."""
    own = folder.metadata["model_type"] == "gpt_oss"
    words = {**WORDS, "post_attention_layernorm": "post_attention_norm" if own else "ffn_norm"}
    found: dict[str, Float32] = {}
    stacks: dict[str, dict[int, Float32]] = {}
    for name, tensor in folder.tensors.items():
        values = dequantize(tensor)
        stem, _, kind = name.rpartition(".")
        if stem in OUTSIDE:
            found[f"{OUTSIDE[stem]}.{kind}"] = values
            continue
        _, _, layer, inner = name.split(".", 3)
        block = f"blk.{layer}"
        if inner.startswith("mlp.experts.") and not own:
            _, _, expert, part, _ = inner.split(".")
            stack = f"{block}.ffn_{part.removesuffix('_proj')}_exps.weight"
            stacks.setdefault(stack, {})[int(expert)] = values
        elif inner.startswith("mlp.experts."):
            part, bias = inner.removeprefix("mlp.experts.").removesuffix("_bias"), inner.endswith("_bias")
            values = values if bias else values.swapaxes(1, 2)
            halves = (
                {"down": values} if part == "down_proj" else {"gate": values[:, ::2], "up": values[:, 1::2]}
            )
            for half, taken in halves.items():
                found[f"{block}.ffn_{half}_exps.{'bias' if bias else 'weight'}"] = taken
        elif inner.endswith("sinks"):
            found[f"{block}.attn_sinks.weight"] = values
        else:
            inner, _, kind = inner.rpartition(".")
            found[f"{block}.{words[inner]}.{kind}"] = values
    for stack, experts in stacks.items():
        found[stack] = np.stack([experts[number] for number in range(len(experts))])
    return found


def as_gguf(folder: Checkpoint, path: Path, form: str = "f32", **keys: Any) -> Checkpoint:
    """The folder as a GGUF file; experts are in the format."""
    metadata = gguf_keys(folder.metadata)
    architecture = metadata["general.architecture"]
    metadata |= {f"{architecture}.{key.replace('__', '.')}": value for key, value in keys.items()}
    tensors = []
    for name, values in gguf_arrays(folder).items():
        own = form if name.endswith("_exps.weight") else "f32"
        data = FORMATS[own].pack(np.ascontiguousarray(values).ravel())
        tensors.append(Tensor(name, own, values.shape, data))
    file = path / f"{len(list(path.iterdir()))}.gguf"
    write_gguf(file, metadata, tensors)
    return open_checkpoint(file)


@pytest.mark.parametrize("name", ["qwen3-moe", "gpt-oss"])
@pytest.mark.parametrize("by", ["reference", "float", "int8"])
def test_a_gguf_file_of_the_same_weights_gives_the_same_bits(
    name: str, by: str, generated: Give, tmp_path: Path, logits: Logits
) -> None:
    folder = open_checkpoint(generated(name).folder)
    assert np.array_equal(logits(folder, TOKENS, by), logits(as_gguf(folder, tmp_path), TOKENS, by))


def mxfp4_folder(folder: Checkpoint, target: Path) -> Checkpoint:
    """GPT-OSS as it is published: matrices of experts as codes and scales, outputs as rows."""
    tensors: dict[str, writer.Stored] = {}
    for name, tensor in folder.tensors.items():
        values = dequantize(tensor)
        if not name.endswith("_proj"):
            tensors[name] = ("F32", values)
            continue
        rows = np.ascontiguousarray(values.swapaxes(1, 2))  # (E, M, K)
        blocks = FORMATS["mxfp4"].pack(rows.ravel()).reshape(-1, 17)
        shape = (*rows.shape[:2], rows.shape[2] // 32)
        tensors[f"{name}_blocks"] = ("U8", writer.pairs(nibbles(blocks[:, 1:])).reshape(*shape, 16))
        tensors[f"{name}_scales"] = ("U8", blocks[:, 0].reshape(shape))
    config = {**folder.metadata, "quantization_config": {"quant_method": "mxfp4"}}
    return open_checkpoint(writer.write_folder(target, config, tensors))


@pytest.mark.parametrize("by", ["reference", "float", "int8"])
def test_both_layouts_of_mxfp4_are_the_same_model(
    by: str, generated: Give, tmp_path: Path, logits: Logits
) -> None:
    folder = open_checkpoint(generated("gpt-oss-blocks").folder)
    published = mxfp4_folder(folder, tmp_path / "published")
    assert published.tensors["model.layers.0.mlp.experts.gate_up_proj.weight"].shape == (4, 192, 64)
    file = as_gguf(folder, tmp_path, "mxfp4")
    ours = logits(published, TOKENS, by)
    assert np.array_equal(ours, logits(file, TOKENS, by))
    assert np.abs(ours - logits(folder, TOKENS, by)).max() > 1e-3, "the experts were rounded"


MATTERS: list[tuple[str, dict[str, Any]]] = [
    ("qwen3-moe", {"num_experts_per_tok": 2}),
    ("qwen3-moe", {"norm_topk_prob": False}),
    ("qwen3-moe", {"use_sliding_window": True, "sliding_window": 9}),
    ("gpt-oss", {"num_experts_per_tok": 2}),
    ("gpt-oss", {"sliding_window": 13}),
    ("gpt-oss", {"layer_types": ["full_attention", "sliding_attention"] * 2}),
    ("gpt-oss", {"swiglu_alpha": 1.5}),
    ("gpt-oss", {"swiglu_limit": 0.5}),
    ("gpt-oss", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0,
                                     "original_max_position_embeddings": 32}}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values"), MATTERS, ids=str)
def test_each_value_matters(name: str, values: dict[str, Any], generated: Give, logits: Logits) -> None:
    checkpoint = open_checkpoint(generated(name).folder)
    difference = np.abs(logits(checkpoint, TOKENS) - logits(changed(checkpoint, **values), TOKENS))
    assert difference.max() > 1e-3


YARN = {"rope_type": "yarn", "factor": 8.0, "truncate": False, "original_max_position_embeddings": 32}
OLD: list[tuple[str, dict[str, Any]]] = [
    ("qwen3-moe", {"rope_parameters": ..., "rope_theta": 10000.0, "num_local_experts": ...,
                   "num_experts": 8}),
    ("qwen3-moe", {"num_experts": 8, "num_local_experts": 8, "mlp_only_layers": None,
                   "max_window_layers": 48}),
    ("gpt-oss", {"rope_parameters": ..., "rope_theta": 10000, "rope_scaling": YARN, "layer_types": ...,
                 "initial_context_length": 32, "experts_per_token": 3, "swiglu_limit": 7.0,
                 "swiglu_alpha": ..., "num_local_experts": ..., "num_experts": 6}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values"), OLD, ids=str)
def test_old_forms_and_silence_mean_what_transformers_means(
    name: str, values: dict[str, Any], generated: Give, logits: Logits
) -> None:
    checkpoint = open_checkpoint(generated(name).folder)
    assert np.array_equal(logits(checkpoint, TOKENS), logits(changed(checkpoint, **values), TOKENS))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("qwen3-moe", {"shared_expert_intermediate_size": 8}, "key shared_expert_intermediate_size is not known"),
    ("qwen3-moe", {"num_experts": 8, "num_local_experts": 9}, "key num_experts is not num_local_experts"),
    ("qwen3-moe", {"num_experts_per_tok": 9}, "num_experts_per_tok is 9, and there are 8 experts"),
    ("qwen3-moe", {"mlp_only_layers": [4]}, "key mlp_only_layers is not a list of layers"),
    ("qwen3-moe", {"decoder_sparse_step": 0}, "key decoder_sparse_step is 0, not a size"),
    ("qwen3-moe", {"decoder_sparse_step": 2}, "tensor model.layers.0.mlp.gate_proj.weight is missing"),
    ("qwen3-moe", {"moe_intermediate_size": 32}, "experts.0.gate_proj.weight is (24, 48), not (32, 48)"),
    ("qwen3-moe", {"num_experts": 9, "num_local_experts": 9}, "is (8, 48), not (9, 48)"),
    ("qwen3-moe", {"hidden_act": "gelu"}, "key hidden_act is 'gelu'"),
    ("gpt-oss", {"swiglu_limit": 0.0}, "key swiglu_limit is 0.0, not a number above 0"),
    ("gpt-oss", {"experts_per_token": 4}, "key experts_per_token is 4; known are 3"),
    ("gpt-oss", {"initial_context_length": 64}, "key initial_context_length is 64; known are 32"),
    ("gpt-oss", {"router_jitter_noise": 0.1}, "key router_jitter_noise is not known"),
    ("gpt-oss", {"attention_bias": False}, "_proj.bias has no place"),
    ("gpt-oss", {"layer_types": ["chunked_attention"] * 4}, "key layer_types has other layers than"),
    ("gpt-oss", {"rope_parameters": {**YARN, "truncate": 1}}, "truncate is 1, not true or false"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "said"), REFUSED, ids=str)
def test_what_is_not_known_is_refused_by_name(
    name: str, values: dict[str, Any], said: str, generated: Give
) -> None:
    checkpoint = changed(open_checkpoint(generated(name).folder), **values)
    assert_refused(lambda: load_model(checkpoint), checkpoint.path, said)


REFUSED_GGUF: list[tuple[str, dict[str, Any], str]] = [
    ("qwen3-moe", {"expert_shared_count": 1}, "key qwen3moe.expert_shared_count is not known"),
    ("qwen3-moe", {"expert_used_count": 9}, "expert_used_count is 9, and there are 8 experts"),
    ("gpt-oss", {"expert_count": 7}, "blk.0.ffn_gate_inp.weight is (6, 48), not (7, 48)"),
    ("gpt-oss", {"expert_gating_func": 2}, "key gpt-oss.expert_gating_func is not known"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "keys", "said"), REFUSED_GGUF, ids=str)
def test_what_is_not_known_in_gguf_is_refused_by_name(
    name: str, keys: dict[str, Any], said: str, generated: Give, tmp_path: Path
) -> None:
    file = as_gguf(open_checkpoint(generated(name).folder), tmp_path, **keys)
    with pytest.raises(InputError) as caught:
        load_model(file)
    assert said in caught.value.line()


def test_a_tensor_that_is_no_expert_s_is_refused(generated: Give) -> None:
    """One expert more than the config says."""
    whole = open_checkpoint(generated("qwen3-moe").folder)
    extra = whole.tensors["model.layers.0.mlp.experts.0.gate_proj.weight"]
    name = "model.layers.0.mlp.experts.8.gate_proj.weight"
    tensors = {**whole.tensors, name: Tensor(name, extra.format, extra.shape, extra.stored)}
    with pytest.raises(InputError, match=r"experts\.8\.gate_proj\.weight has no place"):
        load_model(Checkpoint(whole.path, whole.kind, whole.metadata, tensors))
