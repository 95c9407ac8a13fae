"""Llama 4 and Gemma 4, and text parts: GGUF files of the same weights, values that matter, refusals.

The models are those that Transformers makes for `test_against_transformers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from configured import assert_refused, changed
from transformers_models import Generated

from fivefold.core.batch import Float32
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.errors import InputError
from fivefold.engine import inspect_model
from fivefold.executor import dequantize
from fivefold.files import open_checkpoint
from fivefold.models import left_by_part, load_model

Give = Callable[[str], Generated]
Logits = Callable[..., Float32]
TOKENS = [int(token) for token in np.random.default_rng(8).integers(0, 96, 45)]
OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
    "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
    "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
}  # fmt: skip
ATTENTION = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}  # fmt: skip
LLAMA4 = {
    **ATTENTION, "post_attention_layernorm": "ffn_norm", "feed_forward.router": "ffn_gate_inp",
    **{f"feed_forward.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
    **{f"feed_forward.shared_expert.{part}_proj": f"ffn_{part}_shexp" for part in ("gate", "up", "down")},
}  # fmt: skip
GEMMA4 = {
    **ATTENTION, "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm", "post_feedforward_layernorm_1": "post_ffw_norm_1",
    "post_feedforward_layernorm_2": "post_ffw_norm_2", "pre_feedforward_layernorm_2": "pre_ffw_norm_2",
    "router.proj": "ffn_gate_inp", "per_layer_input_gate": "inp_gate", "per_layer_projection": "proj",
    "post_per_layer_input_norm": "post_norm",
    **{f"mlp.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
}  # fmt: skip
WHOLE = {
    "layer_scalar": "layer_output_scale.weight", "router.scale": "ffn_gate_inp.scale",
    "router.per_expert_scale": "ffn_down_exps.scale", "experts.gate_up_proj": "ffn_gate_up_exps.weight",
    "experts.down_proj": "ffn_down_exps.weight",
}  # fmt: skip
"""Tensors of Gemma 4's blocks whose names have no kind at their end."""


def arrays(folder: Checkpoint, words: Mapping[str, str]) -> dict[str, Float32]:
    """Weights by GGUF's names; Llama 4's experts apart, outputs as rows."""
    found: dict[str, Float32] = {}
    for name, tensor in folder.tensors.items():
        values = dequantize(tensor)
        if name in OUTSIDE:
            found[OUTSIDE[name]] = values
            continue
        _, _, layer, inner = name.split(".", 3)
        if inner in WHOLE:
            found[f"blk.{layer}.{WHOLE[inner]}"] = values
        elif inner.startswith("feed_forward.experts."):
            rows = values.swapaxes(1, 2)
            half = rows.shape[1] // 2
            parts = {"gate": rows[:, :half], "up": rows[:, half:]} if "gate_up" in inner else {"down": rows}
            for part, taken in parts.items():
                found[f"blk.{layer}.ffn_{part}_exps.weight"] = np.ascontiguousarray(taken)
        else:
            stem, _, kind = inner.rpartition(".")
            found[f"blk.{layer}.{words[stem]}.{kind}"] = values
    return found


def common(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "block_count": config["num_hidden_layers"], "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"], "attention.head_count": config["num_attention_heads"],
        "attention.layer_norm_rms_epsilon": np.float64(config["rms_norm_eps"]),
    }  # fmt: skip


def llama4_gguf(folder: Checkpoint, save: Any, **more: Any) -> Checkpoint:
    config = folder.metadata
    keys = {
        **common(config), "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"], "attention.value_length": config["head_dim"],
        "feed_forward_length": config["intermediate_size_mlp"],
        "expert_feed_forward_length": config["intermediate_size"],
        "expert_count": config["num_local_experts"], "expert_used_count": config["num_experts_per_tok"],
        "interleave_moe_layer_step": config["interleave_moe_layer_step"],
        "rope.freq_base": config["rope_parameters"]["rope_theta"], **more,
    }  # fmt: skip
    named = {f"llama4.{key}": value for key, value in keys.items()}
    file: Checkpoint = save({"general.architecture": "llama4", **named}, arrays(folder, LLAMA4))
    return file


def gemma4_gguf(folder: Checkpoint, save: Any, **more: Any) -> Checkpoint:
    config = folder.metadata
    layers, near = config["num_hidden_layers"], [k == "sliding_attention" for k in config["layer_types"]]
    heads = [config["per_layer_config"].get(str(number), {}) for number in range(layers)]
    size = max(own.get("head_dim", 0) for own in heads)
    own_layers = layers - config["num_kv_shared_layers"]
    width = config["intermediate_size"]
    keys = {
        **common(config),
        "attention.head_count_kv": np.array(
            [own.get("num_key_value_heads", config["num_key_value_heads"]) for own in heads], np.int32
        ),
        "attention.key_length": size, "attention.value_length": size,
        "attention.key_length_swa": config["head_dim"], "attention.value_length_swa": config["head_dim"],
        "attention.shared_kv_layers": config["num_kv_shared_layers"],
        "attention.sliding_window": config["sliding_window"],
        "attention.sliding_window_pattern": np.array(near),
        "embedding_length_per_layer_input": config["hidden_size_per_layer_input"],
        "feed_forward_length": np.array(
            [width * (1 + (config["use_double_wide_mlp"] and n >= own_layers)) for n in range(layers)],
            np.int32,
        ),
        "rope.freq_base": config["rope_parameters"]["full_attention"]["rope_theta"],
        "rope.freq_base_swa": config["rope_parameters"]["sliding_attention"]["rope_theta"], **more,
    }  # fmt: skip
    if config["final_logit_softcapping"]:
        keys["final_logit_softcapping"] = config["final_logit_softcapping"]
    if config["enable_moe_block"]:
        keys |= {
            "expert_count": config["num_experts"], "expert_used_count": config["top_k_experts"],
            "expert_feed_forward_length": config["moe_intermediate_size"],
        }  # fmt: skip
    turning = int(config["rope_parameters"]["full_attention"]["partial_rotary_factor"] * size / 2)
    factors = np.array([1.0] * turning + [1e30] * (size // 2 - turning), np.float32)
    named = {f"gemma4.{key}": value for key, value in keys.items()}
    found = {**arrays(folder, GEMMA4), "rope_freqs.weight": factors}
    file: Checkpoint = save({"general.architecture": "gemma4", **named}, found)
    return file


@pytest.mark.parametrize("by", ["reference", "float", "int8"])
def test_a_gguf_file_of_llama4_gives_the_same_bits(
    by: str, generated: Give, save: Any, logits: Logits
) -> None:
    """With what GGUF means by silence; the text is shorter than its chunks."""
    meant = {
        "attention_chunk_size": 8192, "floor_scale": 8192, "attn_scale": 0.1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }  # fmt: skip
    folder = changed(open_checkpoint(generated("llama4").folder), **meant)
    assert np.array_equal(logits(folder, TOKENS, by), logits(llama4_gguf(folder, save), TOKENS, by))


PLAIN_ROPE = {
    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 100000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}


@pytest.mark.parametrize("name", ["gemma4", "gemma4-keys", "gemma4-experts"])
@pytest.mark.parametrize("by", ["reference", "float"])
def test_a_gguf_file_of_gemma4_gives_the_same_bits(
    name: str, by: str, generated: Give, save: Any, logits: Logits
) -> None:
    folder = changed(open_checkpoint(generated(name).folder), rope_parameters=PLAIN_ROPE)
    assert np.array_equal(logits(folder, TOKENS, by), logits(gemma4_gguf(folder, save), TOKENS, by))


MATTERS: list[tuple[str, dict[str, Any]]] = [
    ("llama4", {"attention_chunk_size": 13}),
    ("llama4", {"attention_chunk_size": None, "layer_types": None}),
    ("llama4", {"attn_temperature_tuning": False}),
    ("llama4", {"attn_scale": 0.2}),
    ("llama4", {"floor_scale": 11}),
    ("llama4", {"use_qk_norm": False}),
    ("llama4", {"no_rope_layers": [1, 1, 0, 1]}),
    ("llama4", {"num_experts_per_tok": 2}),
    ("gemma4", {"sliding_window": 13}),
    ("gemma4", {"final_logit_softcapping": None}),
    ("gemma4", {"rope_parameters": PLAIN_ROPE}),
    ("gemma4-experts", {"top_k_experts": 2}),
]


@pytest.mark.parametrize(("name", "values"), MATTERS, ids=str)
def test_each_value_matters(name: str, values: dict[str, Any], generated: Give, logits: Logits) -> None:
    checkpoint = open_checkpoint(generated(name).folder)
    found = logits(checkpoint, TOKENS) - logits(changed(checkpoint, **values), TOKENS)
    assert np.abs(found).max() > 1e-3


OLD: list[tuple[str, dict[str, Any]]] = [
    ("llama4", {"layer_types": ..., "no_rope_layers": [], "moe_layers": ..., "attn_temperature_tuning": 4}),
    ("llama4", {"num_experts_per_tok": ..., "use_qk_norm": ..., "for_llm_compressor": False}),
    ("gemma4-keys", {"per_layer_config": ..., "global_head_dim": 32, "num_global_key_value_heads": 1}),
    ("gemma4-keys", {"layer_types": ..., "num_kv_shared_layers": ..., "rope_parameters": ...}),
]


@pytest.mark.parametrize(("name", "values"), OLD, ids=str)
def test_old_forms_and_silence_mean_what_transformers_means(
    name: str, values: dict[str, Any], generated: Give, logits: Logits
) -> None:
    checkpoint = open_checkpoint(generated(name).folder)
    assert np.array_equal(logits(checkpoint, TOKENS), logits(changed(checkpoint, **values), TOKENS))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("llama4", {"no_rope_layers": [1, 0]}, "key no_rope_layers names 2 layers of 4"),
    ("llama4", {"moe_layers": [4]}, "key moe_layers is not a list of layers"),
    ("llama4", {"moe_layers": [0]}, "feed_forward.gate_proj.weight is missing"),
    ("llama4", {"layer_types": ["sliding_attention"] * 4}, "key layer_types has other layers than"),
    ("llama4", {"num_experts_per_tok": 5}, "num_experts_per_tok is 5, and there are 4 experts"),
    ("llama4", {"attn_temperature_tuning": "yes"}, "attn_temperature_tuning is 'yes', not true or false"),
    ("llama4", {"intermediate_size": 32}, "shared_expert.gate_proj.weight is (24, 48), not (32, 48)"),
    ("llama4", {"num_local_experts": 5}, "feed_forward.router.weight is (4, 48), not (5, 48)"),
    ("gemma4", {"use_bidirectional_attention": "all"}, "use_bidirectional_attention is 'all'"),
    ("gemma4", {"layer_types": ["sliding_attention"] * 6}, "a window in the last layer"),
    ("gemma4", {"num_kv_shared_layers": 6}, "leaves no layer whose entries layer 0 could read"),
    ("gemma4", {"num_kv_shared_layers": 5}, "leaves no layer whose entries layer 1 could read"),
    ("gemma4", {"vocab_size_per_layer_input": 95}, "key vocab_size_per_layer_input is 95; known are 96"),
    ("gemma4", {"per_layer_config": {"9": {"head_dim": 32}}}, "names a layer that there is not"),
    ("gemma4", {"per_layer_config": {"1": {"head_dim": 32}}}, "gives layers of one kind different heads"),
    ("gemma4", {"per_layer_config": {"1": {"intermediate_size": 3}}}, "intermediate_size is not known"),
    ("gemma4", {"rope_parameters": {**PLAIN_ROPE, "full_attention": {
        "rope_type": "proportional", "partial_rotary_factor": 1.5, "rope_theta": 1e6}}},
     "is out of its range"),
    ("gemma4-experts", {"num_experts": None}, "key num_experts is missing"),
    ("gemma4-looks", {"text_config": None}, "key text_config.model_type is None"),
    ("gemma4-looks", {"text_config": {"model_type": "gemma3_text"}}, "model_type is 'gemma3_text'"),
    ("gemma4-looks", {"talker_config": {}}, "key talker_config is not known"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "said"), REFUSED, ids=str)
def test_what_is_not_known_is_refused_by_name(
    name: str, values: dict[str, Any], said: str, generated: Give
) -> None:
    checkpoint = changed(open_checkpoint(generated(name).folder), **values)
    assert_refused(lambda: load_model(checkpoint), checkpoint.path, said)


def test_layers_that_read_anothers_entries_store_none(generated: Give) -> None:
    model = load_model(open_checkpoint(generated("gemma4").folder))
    assert {group.layers for group in model.layout.groups} == {(1,), (0, 2)}
    reads = {node.layer: node.attributes["entries"] for node in model.main.nodes if node.op == "attention"}
    assert reads == {0: 0, 1: 1, 2: 2, 3: 1, 4: 2, 5: 1}
    with pytest.raises(InputError, match="layer 3 reads what layer 1 stores"):
        model.main.slice(2, 6)
    assert model.main.slice(0, 6).nodes


def test_keys_of_layers_that_read_anothers_are_left(generated: Give, logits: Logits) -> None:
    whole = open_checkpoint(generated("gemma4").folder)
    more = dict(whole.tensors)
    for part in ("k_proj", "v_proj"):
        own = more[f"model.layers.1.self_attn.{part}.weight"]
        name = f"model.layers.3.self_attn.{part}.weight"
        more[name] = Tensor(name, own.format, own.shape, own.stored)
    extended = Checkpoint(whole.path, whole.kind, whole.metadata, more)
    assert left_by_part(load_model(extended).left) == {
        "model.layers.*.self_attn.k_proj.weight": 1, "model.layers.*.self_attn.v_proj.weight": 1,
    }  # fmt: skip
    assert np.array_equal(logits(whole, TOKENS), logits(extended, TOKENS))


@pytest.mark.parametrize("name", ["gemma3-looks", "mistral3-looks", "llama4-looks"])
def test_both_ways_to_name_a_text_part_are_the_same_model(name: str, generated: Give, logits: Logits) -> None:
    folder = open_checkpoint(generated(name).folder)

    def called(key: str) -> str:
        key = key.replace("language_model.lm_head", "lm_head")
        return re.sub(r"^language_model\.model", "model.language_model", key)

    tensors = {called(key): tensor for key, tensor in folder.tensors.items()}
    assert tensors.keys() != folder.tensors.keys()
    other = Checkpoint(folder.path, folder.kind, folder.metadata, tensors)
    assert np.array_equal(logits(folder, TOKENS), logits(other, TOKENS))


def test_what_is_left_is_said(generated: Give) -> None:
    told = inspect_model(generated("gemma3-looks").folder)
    assert told["family"] == "gemma3"
    assert re.fullmatch(
        r"34 tensors of \d+ bytes, .*\(multi_modal_projector 2, vision_tower 32\)", told["left"]
    )
    assert "left" not in inspect_model(generated("gemma3").folder)


def test_a_tensor_that_is_no_part_is_refused(generated: Give) -> None:
    folder = open_checkpoint(generated("gemma3-looks").folder)
    one = next(iter(folder.tensors.values()))
    tensors = {**folder.tensors, "talker.weight": Tensor("talker.weight", one.format, one.shape, one.stored)}
    with pytest.raises(InputError, match=r"talker\.weight has no place"):
        load_model(Checkpoint(folder.path, folder.kind, folder.metadata, tensors))
