"""The Qwen3.5 family: the text models of Qwen3.5, dense and with experts.

Most layers are gated delta nets, which keep a state of fixed size; each fourth attends to all positions, with
heads that are normed, turn by a quarter of their width, and are gated by what their own matrix gives beside
the queries. With experts, one more is shared by all rows, under a gate of its own. Folders hold what norms
differ from 1 by (but for those of the delta nets), GGUF files the norms themselves, and the heads of values
in another order. What a file holds of vision and of prediction of several tokens is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from fivefold.core.checkpoint import CHAT_TEMPLATE, Checkpoint
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.core.layout import ModelShape
from fivefold.program import Model, Routing, Source, Weight, stacked, taken

from .config import (
    ATTENTION,
    FULL,
    GGUF_NAMES,
    GGUF_ROPE_KEYS,
    GGUF_SIZE_KEYS,
    HARMLESS_KEYS,
    JSON_NAMES,
    JSON_SIZE_KEYS,
    PLAIN_KEYS,
    ROPE_KEYS,
    Keys,
    Names,
    open_keys,
    read_gguf_rope,
    read_gguf_shape,
    read_json_shape,
    read_rope,
    read_tied,
    require_plain,
    require_tensor,
    rope_object,
)
from .delta_net import DeltaNet, DeltaWeights, record_delta_net
from .mixture import ExpertWeights, Mixture, gguf_experts, read_chosen, record_mixture
from .recording import Decoder, Layer, Rotation, record_model

LINEAR = "linear_attention"
"""The layers that are delta nets, in `layer_types`."""

EVERY = 4
"""Each so many-th layer attends, where nothing else is said."""

_TEXT = {
    "Qwen3_5ForCausalLM": "qwen3_5_text", "Qwen3_5ForConditionalGeneration": "qwen3_5",
    "Qwen3_5MoeForCausalLM": "qwen3_5_moe_text", "Qwen3_5MoeForConditionalGeneration": "qwen3_5_moe",
}  # fmt: skip
"""The model type of each architecture; that of a whole model has the text's config inside."""

_PLAIN = "use a model of plain Qwen3.5 form"
_GGUF_KEYS = (
    GGUF_SIZE_KEYS | GGUF_ROPE_KEYS
    | {"attention.layer_norm_rms_epsilon", "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size",
       "ssm.time_step_rank", "ssm.group_count", "full_attention_interval", "attention.recurrent_layers",
       "rope.dimension_sections", "nextn_predict_layers", "expert_count", "expert_used_count",
       "expert_feed_forward_length", "expert_shared_feed_forward_length"}
)  # fmt: skip
_BESIDE = frozenset({"partial_rotary_factor", "mrope_section", "mrope_interleaved"})
"""Rotary parameters that are read here, or tell apart what positions of text have alike."""

_JSON_KEYS = (
    JSON_SIZE_KEYS | ROPE_KEYS | PLAIN_KEYS | HARMLESS_KEYS
    | {"rms_norm_eps", "hidden_act", "tie_word_embeddings", "attention_bias", "layer_types",
       "full_attention_interval", "attn_output_gate", "linear_conv_kernel_dim", "linear_key_head_dim",
       "linear_value_head_dim", "linear_num_key_heads", "linear_num_value_heads", "mamba_ssm_dtype",
       "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings", "mlp_only_layers", "moe_intermediate_size",
       "shared_expert_intermediate_size", "num_experts", "num_experts_per_tok", "output_router_logits",
       "router_aux_loss_coef"}
)  # fmt: skip
_WHOLE_KEYS = HARMLESS_KEYS | {
    "text_config", "vision_config", "image_token_id", "video_token_id", "vision_start_token_id",
    "vision_end_token_id", "tie_word_embeddings", "language_model_only",
}  # fmt: skip
_PARTS = {
    "attn_qkv": "linear_attn.in_proj_qkv", "attn_gate": "linear_attn.in_proj_z",
    "ssm_alpha": "linear_attn.in_proj_a", "ssm_beta": "linear_attn.in_proj_b",
    "ssm_conv1d": "linear_attn.conv1d", "ssm_norm": "linear_attn.norm", "ssm_out": "linear_attn.out_proj",
    "ffn_gate_inp": "mlp.gate", "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj", "ffn_down_shexp": "mlp.shared_expert.down_proj",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
}  # fmt: skip
_GGUF = GGUF_NAMES.but(ffn_norm="post_attention_norm")


@dataclass(frozen=True, slots=True)
class Numbers:
    """All that a file says of a model; `shared` is the inner width of the expert that all rows take."""

    decoder: Decoder
    rotation: Rotation
    net: DeltaNet
    mixture: Mixture | None = None
    shared: int = 0
    others: tuple[str, ...] = ()


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program; FileError or UnsupportedError names the file and the key."""
    numbers = (_read_gguf if checkpoint.kind == "gguf" else _read_json)(checkpoint, architecture)
    _require(checkpoint, numbers)
    model = _record(numbers, checkpoint.tensors)
    other = (name for name in checkpoint.tensors if name.startswith(numbers.others))
    return replace(model, left=tuple(name for name in other if name not in model.main.tensors))


def _read_gguf(checkpoint: Checkpoint, architecture: str) -> Numbers:
    keys = open_keys(checkpoint, architecture, _GGUF_KEYS, _PLAIN)
    sparse = architecture == "qwen35moe"
    shape = read_gguf_shape(
        keys, checkpoint, "expert_feed_forward_length" if sparse else "feed_forward_length"
    )
    ahead = int(keys.number("nextn_predict_layers", 0, above=-1))
    if ahead >= shape.layers:
        raise keys.malformed("nextn_predict_layers", f"is {ahead} of {shape.layers} layers")
    shape = replace(shape, layers=shape.layers - ahead)
    value_heads = keys.size("ssm.time_step_rank")
    inner = keys.size("ssm.inner_size")
    if inner % value_heads:
        raise keys.malformed("ssm.inner_size", f"is {inner}, no multiple of {value_heads} heads")
    net = DeltaNet(
        keys.size("ssm.group_count"), value_heads, keys.size("ssm.state_size"), inner // value_heads,
        keys.size("ssm.conv_kernel"), tiled=True,
    )  # fmt: skip
    recurrent = _gguf_recurrent(keys, shape.layers, ahead)
    attending = sorted(set(range(shape.layers)) - set(recurrent))[:1]
    decoder = Decoder(
        shape, _GGUF, keys.number("attention.layer_norm_rms_epsilon", above=0),
        tied=_GGUF.head not in checkpoint.tensors, states=net.states(recurrent),
        biases=frozenset(
            part for part in ATTENTION for number in attending
            if _GGUF.weight(number, part, "bias") in checkpoint.tensors
        ),
    )  # fmt: skip
    rotary = keys.size("rope.dimension_count", shape.head_size)
    rotation = Rotation(*read_gguf_rope(keys, shape.context), rotary)
    mixture = None
    if sparse:
        experts = keys.size("expert_count")
        chosen = read_chosen(keys, "expert_used_count", experts)
        mixture = Mixture(experts, chosen, shape.ffn, Routing("softmax", normalise=True))
    return Numbers(
        decoder, rotation, net, mixture, keys.size("expert_shared_feed_forward_length", shape.ffn),
        tuple(f"blk.{number}." for number in range(shape.layers, shape.layers + ahead)),
    )  # fmt: skip


def _gguf_recurrent(keys: Keys, layers: int, ahead: int) -> list[int]:
    """The layers that are delta nets, by a list of all or by which one attends."""
    said = keys.get("attention.recurrent_layers")
    if said is None:
        every = keys.size("full_attention_interval", EVERY)
        return [number for number in range(layers) if (number + 1) % every]
    if not isinstance(said, list | np.ndarray) or len(said) != layers + ahead:
        raise keys.malformed("attention.recurrent_layers", "does not name all layers")
    return [number for number in range(layers) if said[number]]


def _read_json(checkpoint: Checkpoint, architecture: str) -> Numbers:
    checkpoint, whole = _text_of(checkpoint, architecture)
    kind = _TEXT[architecture] if _TEXT[architecture].endswith("text") else f"{_TEXT[architecture]}_text"
    keys = open_keys(checkpoint, architecture, _JSON_KEYS, _PLAIN)
    require_plain(keys, kind)
    keys.only("hidden_act", "silu", "silu")
    keys.only("attn_output_gate", True, True)
    keys.only("mlp_only_layers", [], [])
    sparse = "moe" in kind
    shape = read_json_shape(keys, checkpoint, "qwen35moe" if sparse else "qwen35", head_size=256)
    net = DeltaNet(
        keys.size("linear_num_key_heads", 16), keys.size("linear_num_value_heads", 32),
        keys.size("linear_key_head_dim", 128), keys.size("linear_value_head_dim", 128),
        keys.size("linear_conv_kernel_dim", 4), tiled=False,
    )  # fmt: skip
    inside = "model.language_model"
    nested = f"{inside}.embed_tokens.weight" in checkpoint.tensors
    decoder = Decoder(
        shape, _json_names(inside if nested else "model"), keys.number("rms_norm_eps", 1e-6, above=0),
        tied=read_tied(whole or keys, checkpoint),
        biases=ATTENTION if keys.flag("attention_bias", False) else frozenset(), norm_offset=1.0,
        states=net.states(_json_recurrent(keys, shape.layers)),
    )  # fmt: skip
    base, scaling = read_rope(keys, shape.context, beside=_BESIDE)
    share = rope_object(keys).number("partial_rotary_factor", keys.number("partial_rotary_factor", 0.25))
    rotation = Rotation(base, scaling, int(shape.head_size * share))
    mixture = None
    if sparse:
        experts = keys.size("num_experts", 256)
        chosen = read_chosen(keys, "num_experts_per_tok", experts, 8)
        mixture = Mixture(experts, chosen, shape.ffn, Routing("softmax", normalise=True))
    return Numbers(
        decoder, rotation, net, mixture, keys.size("shared_expert_intermediate_size", 512),
        ("model.visual.", "mtp."),
    )  # fmt: skip


def _json_names(model: str) -> Names:
    """The words of a folder, whose text model lies in the whole one or alone."""
    return Names(
        f"{model}.embed_tokens.weight", f"{model}.norm.weight", JSON_NAMES.head, f"{model}.layers",
        {**JSON_NAMES.parts, **_PARTS},
    )  # fmt: skip


def _text_of(checkpoint: Checkpoint, architecture: str) -> tuple[Checkpoint, Keys | None]:
    """The checkpoint with the text's config for its own, and the keys of the whole model if there is one."""
    said: Mapping[str, Any] = checkpoint.metadata
    whole = None
    if not _TEXT[architecture].endswith("text"):
        whole = open_keys(checkpoint, architecture, _WHOLE_KEYS, _PLAIN)
        whole.only("model_type", _TEXT[architecture], _TEXT[architecture])
        inside = whole.get("text_config")
        if not isinstance(inside, Mapping):
            raise whole.malformed("text_config", "is missing or not an object")
        beside = {key: said[key] for key in (CHAT_TEMPLATE, "quantization_config") if key in said}
        said = {**inside, **beside}
    if "moe" in _TEXT[architecture]:
        said = {**said, "intermediate_size": said.get("moe_intermediate_size", 512)}
    return replace(checkpoint, metadata=MappingProxyType(dict(said))), whole


def _json_recurrent(keys: Keys, layers: int) -> list[int]:
    """The layers that are delta nets, by a list of all or by which one attends."""
    every = keys.size("full_attention_interval", EVERY)
    kinds = keys.get("layer_types", [LINEAR if (n + 1) % every else FULL for n in range(layers)])
    if not isinstance(kinds, list) or not all(kind in (LINEAR, FULL) for kind in kinds):
        raise UnsupportedError(f"key layer_types has other layers than {LINEAR} and {FULL}",
                               where=keys.where, remedy="use a model with these alone")  # fmt: skip
    if len(kinds) != layers:
        raise keys.malformed("layer_types", f"names {len(kinds)} layers of {layers}")
    return [number for number, kind in enumerate(kinds) if kind == LINEAR]


def _require(checkpoint: Checkpoint, numbers: Numbers) -> None:
    """FileError unless sizes fit together; the table of embeddings has them."""
    shape, where = numbers.decoder.shape, str(checkpoint.path)
    numbers.net.require(where)
    rotary = numbers.rotation.rotary
    if shape.heads % shape.kv_heads or rotary % 2 or not 2 <= rotary <= shape.head_size:
        raise FileError(
            f"{shape.heads} heads do not share {shape.kv_heads} KV heads evenly, or {rotary} dimensions of "
            f"heads of {shape.head_size} cannot rotate in pairs", where=where,
            remedy="fetch the file again or convert the model again",
        )  # fmt: skip
    require_tensor(checkpoint, numbers.decoder.names.embedding, (shape.vocabulary, shape.hidden))


def _delta_weights(decoder: Decoder, number: int, net: DeltaNet) -> DeltaWeights:
    names, block = decoder.names, f"{decoder.names.block}.{number}"
    convolution, norm = names.weight(number, "ssm_conv1d"), names.weight(number, "ssm_norm")
    if names is _GGUF:
        return DeltaWeights(
            convolution, (net.columns, net.taps), f"{block}.ssm_a", f"{block}.ssm_dt.bias", norm,
            logarithm=False,
        )  # fmt: skip
    return DeltaWeights(
        convolution, (net.columns, 1, net.taps), f"{block}.linear_attn.A_log",
        f"{block}.linear_attn.dt_bias", norm, logarithm=True,
    )  # fmt: skip


def _experts(decoder: Decoder, number: int, mixture: Mixture, tensors: Mapping[str, object]) -> ExpertWeights:
    """The matrices of a layer's experts: GGUF's, a folder's of all experts, or one for each."""
    hidden, ffn, count = decoder.shape.hidden, mixture.ffn, mixture.experts
    if decoder.names is _GGUF:
        return gguf_experts(
            lambda part, kind: _GGUF.weight(number, part, kind), mixture, hidden, biases=False
        )
    folder = f"{decoder.names.block}.{number}.mlp.experts"
    both = f"{folder}.gate_up_proj"
    if both in tensors:
        shape = (count, 2 * ffn, hidden)
        return ExpertWeights(
            taken(Source(both, shape, 0, 1, ffn)), taken(Source(both, shape, ffn, 1, ffn)),
            Weight(f"{folder}.down_proj", (count, hidden, ffn)),
        )  # fmt: skip

    def stack(part: str, outer: int, inner: int) -> Weight:
        names = [f"{folder}.{expert}.{part}.weight" for expert in range(count)]
        return stacked(names, f"{folder}.*.{part}.weight", outer, inner)

    return ExpertWeights(
        stack("gate_proj", ffn, hidden), stack("up_proj", ffn, hidden), stack("down_proj", hidden, ffn)
    )


def _silu(layer: Layer, gate: str, up: str) -> str:
    return layer.build.gated(gate, up)


def _attention(layer: Layer, x: str, angles: str, shape: ModelShape) -> str:
    """Queries lie beside their gates, head by head."""
    build, size = layer.build, shape.head_size
    both = layer.project(x, "attn_q", 2 * shape.heads * size)
    k = layer.project(x, "attn_k", shape.kv_heads * size)
    v = layer.project(x, "attn_v", shape.kv_heads * size)
    q = build.head_columns(both, shape.heads, 0, size)
    gate = build.head_columns(both, shape.heads, size, size)
    q, k = layer.norm_heads(q, k)
    q, k = layer.rotate(q, k, angles, 0)
    return layer.attend(q, k, v, gate=gate)


def _record(numbers: Numbers, tensors: Mapping[str, object]) -> Model:
    decoder, net, mixture = numbers.decoder, numbers.net, numbers.mixture
    recurrent = {number for group in decoder.states for number in group.layers}

    def feed_forward(layer: Layer, x: str) -> str:
        """Experts and the one that all rows take, or a plain one."""
        if mixture is None:
            return layer.feed_forward(x)
        weights = _experts(decoder, layer.number, mixture, tensors)
        chosen = record_mixture(layer, x, mixture, weights, _silu)
        gate = layer.project(x, "ffn_gate_shexp", numbers.shared)
        up = layer.project(x, "ffn_up_shexp", numbers.shared)
        shared = layer.project(layer.build.gated(gate, up), "ffn_down_shexp", decoder.shape.hidden)
        share = layer.project(x, "ffn_gate_inp_shexp", 1)
        return layer.build.add(chosen, layer.build.gate_rows(shared, share))

    def block(layer: Layer, x: str, angles: str) -> str:
        """A delta net or attention, then feed-forward, each added to its input."""
        h = layer.norm(x, "attn_norm")
        if layer.number in recurrent:
            mixed = record_delta_net(layer, h, net, _delta_weights(decoder, layer.number, net))
        else:
            mixed = _attention(layer, h, angles, decoder.shape)
        x = layer.build.add(x, mixed)
        return layer.build.add(x, feed_forward(layer, layer.norm(x, "ffn_norm")))

    return record_model(decoder, numbers.rotation, block)
