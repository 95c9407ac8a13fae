"""The Qwen3-MoE family: Qwen3's blocks, in which experts take the place of the feed-forward part.

Of a row's shares of all experts, the best are taken, and divided by their sum if the config says so; GGUF
files mean that always. A folder has a tensor for each expert and part, and may have plain layers between
(`decoder_sparse_step`, `mlp_only_layers`); GGUF has one tensor for all experts, in each layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from fivefold.core.checkpoint import Checkpoint
from fivefold.program import Model, Routing

from .config import (
    ATTENTION,
    GGUF_NAMES,
    GGUF_ROPE_KEYS,
    GGUF_SIZE_KEYS,
    HARMLESS_KEYS,
    JSON_NAMES,
    JSON_SIZE_KEYS,
    PLAIN_KEYS,
    ROPE_KEYS,
    Keys,
    has_factors,
    open_keys,
    read_gguf_rope,
    read_gguf_shape,
    read_json_shape,
    read_rope,
    read_tied,
    read_window,
    require_plain,
    require_sizes,
)
from .mixture import (
    ExpertWeights,
    Mixture,
    folder_experts,
    gguf_experts,
    read_chosen,
    read_experts,
    record_mixture,
    silu_gate,
)
from .recording import Decoder, Layer, Rotation, record_model

_PLAIN = "use a model of plain Qwen3-MoE form"
_GGUF_KEYS = (
    GGUF_SIZE_KEYS | GGUF_ROPE_KEYS
    | {"attention.layer_norm_rms_epsilon", "expert_count", "expert_used_count", "expert_feed_forward_length"}
)  # fmt: skip
_JSON_KEYS = (
    JSON_SIZE_KEYS | ROPE_KEYS | PLAIN_KEYS | HARMLESS_KEYS
    | {"rms_norm_eps", "hidden_act", "tie_word_embeddings", "attention_bias", "sliding_window",
       "use_sliding_window", "max_window_layers", "decoder_sparse_step", "mlp_only_layers",
       "moe_intermediate_size", "num_experts", "num_local_experts", "num_experts_per_tok", "norm_topk_prob",
       "output_router_logits", "router_aux_loss_coef"}
)  # fmt: skip
_NAMES = JSON_NAMES.but(ffn_gate_inp="mlp.gate")


@dataclass(frozen=True, slots=True)
class Sparse:
    """The experts, and the layers that have them."""

    mixture: Mixture
    layers: frozenset[int]


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program; FileError or UnsupportedError names the file and the key."""
    read = _read_gguf if checkpoint.kind == "gguf" else _read_json
    decoder, rotation, sparse = read(checkpoint, architecture)
    require_sizes(checkpoint, decoder.shape, decoder.names, rotation.rotary)
    return _record(decoder, rotation, sparse)


def _read_gguf(checkpoint: Checkpoint, architecture: str) -> tuple[Decoder, Rotation, Sparse]:
    keys = open_keys(checkpoint, architecture, _GGUF_KEYS, _PLAIN)
    shape = read_gguf_shape(keys, checkpoint)
    decoder = Decoder(
        shape, GGUF_NAMES, keys.number("attention.layer_norm_rms_epsilon", above=0),
        tied=GGUF_NAMES.head not in checkpoint.tensors,
    )  # fmt: skip
    rotary = keys.size("rope.dimension_count", shape.head_size)
    rotation = Rotation(*read_gguf_rope(keys, shape.context), rotary, factors=has_factors(checkpoint))
    experts = keys.size("expert_count")
    chosen = read_chosen(keys, "expert_used_count", experts)
    ffn = keys.size("expert_feed_forward_length", max(shape.ffn // chosen, 1))
    mixture = Mixture(experts, chosen, ffn, Routing("softmax", normalise=True))
    return decoder, rotation, Sparse(mixture, frozenset(range(shape.layers)))


def _read_json(checkpoint: Checkpoint, architecture: str) -> tuple[Decoder, Rotation, Sparse]:
    keys = open_keys(checkpoint, architecture, _JSON_KEYS, _PLAIN)
    require_plain(keys, "qwen3_moe")
    keys.only("hidden_act", "silu", "silu")
    shape = read_json_shape(keys, checkpoint, "qwen3moe")
    window = read_window(keys, 4096) if keys.flag("use_sliding_window", False) else None
    decoder = Decoder(
        shape, _NAMES, keys.number("rms_norm_eps", 1e-6, above=0),
        tied=read_tied(keys, checkpoint),
        biases=ATTENTION if keys.flag("attention_bias", False) else frozenset(),
        windows=() if window is None else (window,) * shape.layers,
    )  # fmt: skip
    rotation = Rotation(*read_rope(keys, shape.context), shape.head_size)
    experts = read_experts(keys, 128)
    routing = Routing("softmax", normalise=keys.flag("norm_topk_prob", False))
    chosen = read_chosen(keys, "num_experts_per_tok", experts, 8)
    mixture = Mixture(experts, chosen, keys.size("moe_intermediate_size", 768), routing)
    return decoder, rotation, Sparse(mixture, _sparse_layers(keys, shape.layers))


def _sparse_layers(keys: Keys, layers: int) -> frozenset[int]:
    """Each `decoder_sparse_step`-th layer, without those that `mlp_only_layers` lists."""
    step, plain = keys.size("decoder_sparse_step", 1), keys.get("mlp_only_layers", [])
    if not isinstance(plain, list) or not all(type(one) is int and 0 <= one < layers for one in plain):
        raise keys.malformed("mlp_only_layers", "is not a list of layers")
    return frozenset(range(step - 1, layers, step)) - frozenset(plain)


def _experts(decoder: Decoder, number: int, mixture: Mixture) -> ExpertWeights:
    """The matrices of a layer's experts, as the opened checkpoint names them."""
    if decoder.names is GGUF_NAMES:
        return gguf_experts(
            lambda part, kind: GGUF_NAMES.weight(number, part, kind), mixture, decoder.shape.hidden,
            biases=False,
        )  # fmt: skip
    return folder_experts(decoder, number, mixture)


def _record(decoder: Decoder, rotation: Rotation, sparse: Sparse) -> Model:
    def block(layer: Layer, x: str, angles: str) -> str:
        """Attention over heads that are normed, then experts or feed-forward, each added to its input."""
        q, k, v = layer.heads(layer.norm(x, "attn_norm"))
        q, k = layer.norm_heads(q, k)
        q, k = layer.rotate(q, k, angles, rotation.style)
        x = layer.build.add(x, layer.attend(q, k, v))
        h = layer.norm(x, "ffn_norm")
        if layer.number not in sparse.layers:
            return layer.build.add(x, layer.feed_forward(h))
        weights = _experts(decoder, layer.number, sparse.mixture)
        return layer.build.add(x, record_mixture(layer, h, sparse.mixture, weights, silu_gate))

    return record_model(decoder, rotation, block)
