"""Qwen3.5: GGUF files of the same weights, the text inside a whole model, values that matter, refusals.

The models are those that Transformers makes for `test_against_transformers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from configured import assert_refused, changed
from transformers_models import Generated

from fivefold.core.batch import Float32
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.executor import dequantize
from fivefold.files import open_checkpoint, write_gguf
from fivefold.formats import FORMATS
from fivefold.models import load_model

Give = Callable[[str], Generated]
Logits = Callable[..., Float32]
TOKENS = [int(token) for token in np.random.default_rng(8).integers(0, 96, 45)]
WORDS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "linear_attn.in_proj_qkv": "attn_qkv", "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.in_proj_a": "ssm_alpha", "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.conv1d": "ssm_conv1d", "linear_attn.norm": "ssm_norm", "linear_attn.out_proj": "ssm_out",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp", "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp", "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}  # fmt: skip
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """What converters write of a config."""
    sparse = "moe" in config["model_type"]
    rope = config["rope_parameters"]
    keys: dict[str, Any] = {
        "block_count": config["num_hidden_layers"], "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": np.float64(config["rms_norm_eps"]),
        "attention.key_length": config["head_dim"], "attention.value_length": config["head_dim"],
        "rope.freq_base": rope["rope_theta"],
        "rope.dimension_count": int(config["head_dim"] * rope["partial_rotary_factor"]),
        "rope.dimension_sections": np.array([11, 11, 10, 0], np.int32),
        "ssm.conv_kernel": config["linear_conv_kernel_dim"],
        "ssm.state_size": config["linear_key_head_dim"], "ssm.group_count": config["linear_num_key_heads"],
        "ssm.time_step_rank": config["linear_num_value_heads"],
        "ssm.inner_size": config["linear_num_value_heads"] * config["linear_value_head_dim"],
        "attention.recurrent_layers": np.array(
            [kind == "linear_attention" for kind in config["layer_types"]]
        ),
    }  # fmt: skip
    if sparse:
        keys |= {
            "expert_count": config["num_experts"], "expert_used_count": config["num_experts_per_tok"],
            "expert_feed_forward_length": config["moe_intermediate_size"],
            "expert_shared_feed_forward_length": config["shared_expert_intermediate_size"],
        }  # fmt: skip
    else:
        keys["feed_forward_length"] = config["intermediate_size"]
    name = "qwen35moe" if sparse else "qwen35"
    return {"general.architecture": name, **{f"{name}.{key}": value for key, value in keys.items()}}


def in_turn(values: Float32, axis: int, config: Mapping[str, Any], size: int) -> Float32:
    """Heads of values so that those of one head of keys stand apart: 0 2 1 3 of four for two."""
    shared, heads = config["linear_num_key_heads"], config["linear_num_value_heads"]
    order = np.arange(heads * size).reshape(shared, heads // shared, size).swapaxes(0, 1).ravel()
    return np.take(values, order, axis)


def gguf_delta(part: str, values: Float32, config: Mapping[str, Any]) -> Float32:
    """A weight of a delta net as converters write it."""
    size = config["linear_value_head_dim"]
    keyed = 2 * config["linear_num_key_heads"] * config["linear_key_head_dim"]
    if part == "conv1d":
        values = values[:, 0]
    if part in ("conv1d", "in_proj_qkv"):
        return np.concatenate([values[:keyed], in_turn(values[keyed:], 0, config, size)])
    if part == "out_proj":
        return in_turn(values, 1, config, size)
    if part == "in_proj_z":
        return in_turn(values, 0, config, size)
    if part == "A_log":
        values = -np.exp(values.astype(np.float64)).astype(np.float32)
    return values if part == "norm" else in_turn(values, 0, config, 1)


def gguf_arrays(folder: Checkpoint) -> dict[str, Float32]:
    """Weights by GGUF's names."""
    found: dict[str, Float32] = {}
    stacks: dict[str, dict[int, Float32]] = {}
    for name, tensor in folder.tensors.items():
        values = dequantize(tensor)
        if name.endswith("norm.weight") and "linear_attn" not in name:
            values = values + np.float32(1)
        stem, _, kind = name.rpartition(".")
        if stem in OUTSIDE:
            found[f"{OUTSIDE[stem]}.{kind}"] = values
            continue
        _, _, layer, inner = name.split(".", 3)
        block = f"blk.{layer}"
        if inner.startswith("mlp.experts."):
            _, _, expert, part, _ = inner.split(".")
            stack = f"{block}.ffn_{part.removesuffix('_proj')}_exps.weight"
            stacks.setdefault(stack, {})[int(expert)] = values
            continue
        if inner.startswith("linear_attn."):
            values = gguf_delta(inner.split(".")[1], values, folder.metadata)
        stem, _, kind = inner.rpartition(".")
        own = {"linear_attn.A_log": "ssm_a", "linear_attn.dt_bias": "ssm_dt.bias"}
        found[f"{block}.{own.get(inner) or f'{WORDS[stem]}.{kind}'}"] = values
    for stack, experts in stacks.items():
        found[stack] = np.stack([experts[number] for number in range(len(experts))])
    return found


def as_gguf(
    folder: Checkpoint, path: Path, more: Mapping[str, Float32] | None = None, **keys: Any
) -> Checkpoint:
    """The folder as a GGUF file, with other keys and more weights; `...` takes a key out."""
    metadata = gguf_keys(folder.metadata)
    architecture = metadata["general.architecture"]
    metadata |= {f"{architecture}.{key.replace('__', '.')}": value for key, value in keys.items()}
    metadata = {key: value for key, value in metadata.items() if value is not ...}
    arrays = {**gguf_arrays(folder), **(more or {})}
    tensors = [
        Tensor(name, "f32", values.shape, FORMATS["f32"].pack(np.ascontiguousarray(values).ravel()))
        for name, values in arrays.items()
    ]
    file = path / f"{len(list(path.iterdir()))}.gguf"
    write_gguf(file, metadata, tensors)
    return open_checkpoint(file)


@pytest.mark.parametrize("name", ["qwen3-5", "qwen3-5-moe"])
@pytest.mark.parametrize("by", ["reference", "float"])
def test_a_gguf_file_of_the_same_weights_gives_the_same_bits(
    name: str, by: str, generated: Give, tmp_path: Path, logits: Logits
) -> None:
    folder = open_checkpoint(generated(name).folder)
    assert np.array_equal(logits(folder, TOKENS, by), logits(as_gguf(folder, tmp_path), TOKENS, by))


def test_heads_of_values_in_turn_are_the_same_model(generated: Give, tmp_path: Path, logits: Logits) -> None:
    """Their order is another in GGUF files, so sums over them are too."""
    folder = open_checkpoint(generated("qwen3-5-shared").folder)
    file = as_gguf(folder, tmp_path)
    for by, near in (("reference", 1e-5), ("float", 1e-3)):
        ours, theirs = logits(file, TOKENS, by), logits(folder, TOKENS, by)
        assert np.abs(ours - theirs).max() < near * np.abs(theirs).max()


def test_layers_that_predict_further_are_left(generated: Give, tmp_path: Path, logits: Logits) -> None:
    """GGUF counts them among the layers."""
    folder = open_checkpoint(generated("qwen3-5").folder)
    more = {"blk.4.nextn.eh_proj.weight": np.zeros((48, 96), np.float32)}
    file = as_gguf(
        folder, tmp_path, more, block_count=5, nextn_predict_layers=1, attention__recurrent_layers=...
    )
    assert np.array_equal(logits(folder, TOKENS), logits(file, TOKENS))
    assert load_model(file).left == tuple(more)


def whole(text: Checkpoint, architecture: str, kind: str) -> Checkpoint:
    """The text as a part of a model that sees and predicts several tokens, as such are published."""
    tensors = {
        name.replace("model.", "model.language_model.") if name.startswith("model.") else name: tensor
        for name, tensor in text.tensors.items()
    }
    for name in ("model.visual.patch_embed.proj.weight", "mtp.fc.weight"):
        tensors[name] = Tensor(name, "f32", (3,), np.zeros(12, np.uint8))
    inside = {k: v for k, v in text.metadata.items() if k not in ("architectures", "tie_word_embeddings")}
    config = {
        "architectures": [architecture], "model_type": kind, "text_config": inside, "image_token_id": 5,
        "vision_config": {"depth": 2}, "tie_word_embeddings": text.metadata["tie_word_embeddings"],
    }  # fmt: skip
    named = {name: Tensor(name, one.format, one.shape, one.data) for name, one in tensors.items()}
    return Checkpoint(text.path, text.kind, config, named)


@pytest.mark.parametrize(
    ("name", "architecture", "kind"),
    [
        ("qwen3-5", "Qwen3_5ForConditionalGeneration", "qwen3_5"),
        ("qwen3-5-moe", "Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe"),
    ],
)
def test_the_text_of_a_whole_model_is_read(
    name: str, architecture: str, kind: str, generated: Give, logits: Logits
) -> None:
    text = open_checkpoint(generated(name).folder)
    both = whole(text, architecture, kind)
    assert np.array_equal(logits(text, TOKENS), logits(both, TOKENS))
    assert set(load_model(both).left) == {"model.visual.patch_embed.proj.weight", "mtp.fc.weight"}
    assert load_model(text).left == ()
    assert_refused(
        lambda: load_model(changed(both, audio_config={})), both.path, "key audio_config is not known"
    )
    assert_refused(
        lambda: load_model(changed(both, text_config=7)), both.path, "key text_config is missing or not"
    )


def test_experts_that_lie_together_are_the_same(generated: Give, logits: Logits) -> None:
    folder = open_checkpoint(generated("qwen3-5-moe").folder)
    tensors = {name: one for name, one in folder.tensors.items() if ".experts." not in name}
    for layer in range(4):
        place = f"model.layers.{layer}.mlp.experts"
        parts = {
            part: np.stack([dequantize(folder.tensors[f"{place}.{e}.{part}.weight"]) for e in range(8)])
            for part in ("gate_proj", "up_proj", "down_proj")
        }
        both = np.concatenate([parts["gate_proj"], parts["up_proj"]], axis=1)
        for part, values in (("gate_up_proj", both), ("down_proj", parts["down_proj"])):
            data = FORMATS["f32"].pack(values.ravel())
            tensors[f"{place}.{part}"] = Tensor(f"{place}.{part}", "f32", values.shape, data)
    together = Checkpoint(folder.path, folder.kind, folder.metadata, tensors)
    assert np.array_equal(logits(folder, TOKENS), logits(together, TOKENS))


MATTERS: list[tuple[str, dict[str, Any]]] = [
    ("qwen3-5", {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                                     "partial_rotary_factor": 0.5}}),
    ("qwen3-5", {"rms_norm_eps": 0.1}),
    ("qwen3-5-shared", {"linear_key_head_dim": 4, "linear_num_key_heads": 4}),
    ("qwen3-5-moe", {"num_experts_per_tok": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values"), MATTERS, ids=str)
def test_each_value_matters(name: str, values: dict[str, Any], generated: Give, logits: Logits) -> None:
    checkpoint = open_checkpoint(generated(name).folder)
    ours, theirs = logits(checkpoint, TOKENS), logits(changed(checkpoint, **values), TOKENS)
    assert np.abs(ours - theirs).max() > 1e-3


SILENT: list[tuple[str, dict[str, Any]]] = [
    ("qwen3-5", {"layer_types": ..., "full_attention_interval": 4}),
    ("qwen3-5", {"layer_types": ..., "attn_output_gate": True, "mtp_num_hidden_layers": 1}),
    ("qwen3-5", {"rope_parameters": ..., "rope_theta": 10000.0, "partial_rotary_factor": ...}),
    ("qwen3-5", {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                                     "mrope_section": [1, 1, 0], "mrope_interleaved": True,
                                     "partial_rotary_factor": 0.25}}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values"), SILENT, ids=str)
def test_other_forms_and_silence_mean_the_same(
    name: str, values: dict[str, Any], generated: Give, logits: Logits
) -> None:
    checkpoint = open_checkpoint(generated(name).folder)
    assert np.array_equal(logits(checkpoint, TOKENS), logits(changed(checkpoint, **values), TOKENS))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("qwen3-5", {"attn_output_gate": False}, "key attn_output_gate is False"),
    ("qwen3-5", {"hidden_act": "gelu"}, "key hidden_act is 'gelu'"),
    ("qwen3-5", {"layer_types": ["sliding_attention"] * 4}, "key layer_types has other layers than"),
    ("qwen3-5", {"layer_types": ["full_attention"] * 3}, "layer_types names 3 layers of 4"),
    ("qwen3-5", {"layer_types": ["full_attention"] * 4}, "self_attn.q_proj.weight is missing"),
    ("qwen3-5", {"linear_num_value_heads": 3}, "3 heads of values do not share 2 heads of keys evenly"),
    ("qwen3-5", {"linear_value_head_dim": 14}, "heads of delta nets with values of 14 and keys of 12"),
    ("qwen3-5", {"linear_conv_kernel_dim": 5}, "conv1d.weight is (80, 1, 4), not (80, 1, 5)"),
    ("qwen3-5", {"linear_conv_kernel_dim": 1}, "a convolution of 1 rows has no state"),
    ("qwen3-5", {"rope_parameters": {"rope_theta": 10000.0, "partial_rotary_factor": 0.2}},
     "3 dimensions of heads of 16 cannot rotate in pairs"),
    ("qwen3-5", {"mlp_only_layers": [1]}, "key mlp_only_layers is [1]"),
    ("qwen3-5", {"model_type": "qwen3"}, "key model_type is 'qwen3'"),
    ("qwen3-5", {"sliding_window": 8}, "key sliding_window is not known"),
    ("qwen3-5-moe", {"num_experts_per_tok": 9}, "num_experts_per_tok is 9, and there are 8 experts"),
    ("qwen3-5-moe", {"shared_expert_intermediate_size": 8}, "shared_expert.gate_proj.weight is (40, 48)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "said"), REFUSED, ids=str)
def test_what_is_not_known_is_refused(name: str, values: dict[str, Any], said: str, generated: Give) -> None:
    checkpoint = open_checkpoint(generated(name).folder)
    assert_refused(lambda: load_model(changed(checkpoint, **values)), checkpoint.path, said)


GGUF_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"attention__recurrent_layers": np.array([True])}, "recurrent_layers does not name all layers"),
    ({"ssm__inner_size": 33}, "ssm.inner_size is 33, no multiple of 2 heads"),
    ({"nextn_predict_layers": 4}, "nextn_predict_layers is 4 of 4 layers"),
    ({"ssm__dt_b_c_rms": True}, "key qwen35.ssm.dt_b_c_rms is not known"),
]


@pytest.mark.parametrize(("values", "said"), GGUF_REFUSED, ids=str)
def test_what_a_gguf_file_cannot_say_is_refused(
    values: dict[str, Any], said: str, generated: Give, tmp_path: Path
) -> None:
    file = as_gguf(open_checkpoint(generated("qwen3-5").folder), tmp_path, **values)
    assert_refused(lambda: load_model(file), file.path, said)
