"""The Llama 4 family: experts behind a router that weighs what they read, and attention in chunks.

In most layers heads are turned by their positions, neighbours in pairs, then normed without weights in some
models, and see their own chunk of the text alone. Each fourth layer sees all and turns nothing; there queries
grow with their position. Of the experts a row takes the best, which reads the row times a sigmoid of its
logit, and beside it one that is shared by all rows. Layers without experts have a feed-forward part of
their own width.

Folders hold gate and up of all experts in one tensor (E, K, 2 M), halves of its columns, or a tensor for each
expert and part. GGUF does not say how long a chunk is, nor how queries grow, nor whether heads are normed:
what llama.cpp's src/models/llama4.cpp takes for it is meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fivefold.core.checkpoint import Checkpoint
from fivefold.program import Model, Routing, Source, Weight, stacked, taken

from .config import (
    ATTENTION,
    CHUNKED,
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
    gguf_biases,
    has_factors,
    open_keys,
    read_gguf_rope,
    read_gguf_shape,
    read_json_shape,
    read_rope,
    read_tied,
    read_turning,
    read_windows,
    require_plain,
    require_sizes,
    turning_layers,
)
from .mixture import ExpertWeights, Mixture, gguf_experts, read_chosen, record_mixture
from .recording import NEIGHBOURS, Decoder, Layer, Rotation, record_model

_PLAIN = "use a model of plain Llama 4 form"
_GGUF_KEYS = (
    GGUF_SIZE_KEYS | GGUF_ROPE_KEYS
    | {"attention.layer_norm_rms_epsilon", "attention.sliding_window", "expert_count", "expert_used_count",
       "expert_feed_forward_length", "interleave_moe_layer_step"}
)  # fmt: skip
_JSON_KEYS = (
    JSON_SIZE_KEYS | ROPE_KEYS | PLAIN_KEYS | HARMLESS_KEYS
    | {"rms_norm_eps", "hidden_act", "tie_word_embeddings", "attention_bias", "intermediate_size_mlp",
       "num_local_experts", "num_experts_per_tok", "moe_layers", "interleave_moe_layer_step", "use_qk_norm",
       "no_rope_layers", "no_rope_layer_interval", "attention_chunk_size", "layer_types",
       "attn_temperature_tuning", "floor_scale", "attn_scale", "output_router_logits", "router_aux_loss_coef",
       "router_jitter_noise", "for_llm_compressor"}
)  # fmt: skip
_SHARED = {f"ffn_{part}_shexp": f"feed_forward.shared_expert.{part}_proj" for part in ("gate", "up", "down")}
_OWN = {f"ffn_{part}": f"feed_forward.{part}_proj" for part in ("gate", "up", "down")}
_NAMES = JSON_NAMES.but(ffn_gate_inp="feed_forward.router", **_OWN, **_SHARED)
_INTERVAL, _CHUNK, _LENGTH, _BETA = 4, 8192, 8192, 0.1
"""What silence means: each so many-th layer sees all, the length of a chunk, whence and how queries grow."""

_UNNORMED = 128
"""Experts of the model whose heads are not normed, by which llama.cpp tells it."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How queries grow where heads are not turned: 1 + beta * log(1 + floor((position + 1) / length))."""

    beta: float
    length: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """What one model is made of.

    turning  of each layer, whether its heads are turned.
    normed   whether heads that are turned are normed then.
    dense    the inner width of layers without experts; `sparse` are those with them.
    """

    decoder: Decoder
    rotation: Rotation
    turning: tuple[bool, ...]
    normed: bool
    growth: Growth | None
    mixture: Mixture
    sparse: frozenset[int]
    dense: int


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program; FileError or UnsupportedError names the file and the key."""
    read = _read_gguf if checkpoint.kind == "gguf" else _read_json
    numbers = read(checkpoint, architecture)
    decoder = numbers.decoder
    require_sizes(checkpoint, decoder.shape, decoder.names, numbers.rotation.rotary)
    return _record(numbers, checkpoint.tensors)


def _read_gguf(checkpoint: Checkpoint, architecture: str) -> Numbers:
    keys = open_keys(checkpoint, architecture, _GGUF_KEYS, _PLAIN)
    shape = read_gguf_shape(keys, checkpoint, ffn="expert_feed_forward_length")
    # Without chunks all heads are turned, and queries do not grow.
    whole = keys.only("attention.sliding_window", _CHUNK, 0, _CHUNK) == 0
    turning = (True,) * shape.layers if whole else turning_layers(_INTERVAL, shape.layers)
    decoder = Decoder(
        shape, GGUF_NAMES, keys.number("attention.layer_norm_rms_epsilon", above=0),
        tied=GGUF_NAMES.head not in checkpoint.tensors, biases=gguf_biases(checkpoint, ATTENTION),
        windows=tuple(_CHUNK if turns and not whole else None for turns in turning), chunked=True,
    )  # fmt: skip
    rotation = Rotation(
        *read_gguf_rope(keys, shape.context), keys.size("rope.dimension_count", shape.head_size), NEIGHBOURS,
        has_factors(checkpoint),
    )  # fmt: skip
    experts, step = keys.size("expert_count"), keys.size("interleave_moe_layer_step")
    mixture = _mixture(experts, read_chosen(keys, "expert_used_count", experts), shape.ffn)
    return Numbers(
        decoder, rotation, turning, experts != _UNNORMED, None if whole else Growth(_BETA, _LENGTH), mixture,
        frozenset(range(step - 1, shape.layers, step)), keys.size("feed_forward_length"),
    )  # fmt: skip


def _read_json(checkpoint: Checkpoint, architecture: str) -> Numbers:
    keys = open_keys(checkpoint, architecture, _JSON_KEYS, _PLAIN)
    require_plain(keys, "llama4_text")
    keys.only("hidden_act", "silu", "silu")
    shape = read_json_shape(keys, checkpoint, "llama4", head_size=128)
    turning = turning_layers(keys.size("no_rope_layer_interval", _INTERVAL), shape.layers)
    if keys.get("no_rope_layers"):  # an empty list says nothing
        turning = read_turning(keys, shape.layers)
    said = "attention_chunk_size" not in keys or keys.get("attention_chunk_size") is not None
    chunk = keys.size("attention_chunk_size", _CHUNK) if said else None
    kinds = [CHUNKED if turns and chunk is not None else FULL for turns in turning]
    decoder = Decoder(
        shape, _NAMES, keys.number("rms_norm_eps", 1e-5, above=0), tied=read_tied(keys, checkpoint),
        biases=ATTENTION if keys.flag("attention_bias", False) else frozenset(),
        windows=read_windows(keys, kinds, chunk, CHUNKED), chunked=True,
    )  # fmt: skip
    growth = Growth(keys.number("attn_scale", _BETA), keys.size("floor_scale", _LENGTH))
    experts = keys.size("num_local_experts", 16)
    mixture = _mixture(experts, read_chosen(keys, "num_experts_per_tok", experts, 1), shape.ffn)
    return Numbers(
        decoder, Rotation(*read_rope(keys, shape.context, 500000.0), shape.head_size, NEIGHBOURS), turning,
        keys.flag("use_qk_norm", True), growth if _grows(keys) else None, mixture,
        _sparse_layers(keys, shape.layers), keys.size("intermediate_size_mlp", 16384),
    )  # fmt: skip


def _mixture(experts: int, chosen: int, ffn: int) -> Mixture:
    return Mixture(experts, chosen, ffn, Routing("sigmoid_of_chosen", normalise=False), weighs_inputs=True)


def _grows(keys: Keys) -> bool:
    """attn_temperature_tuning: a flag, or a whole number in older configs."""
    value = keys.get("attn_temperature_tuning", True)
    return value > 0 if type(value) is int else keys.flag("attn_temperature_tuning", True)


def _sparse_layers(keys: Keys, layers: int) -> frozenset[int]:
    """Those that `moe_layers` lists, or each `interleave_moe_layer_step`-th."""
    step = keys.size("interleave_moe_layer_step", 1)
    listed = keys.get("moe_layers", list(range(step - 1, layers, step)))
    if not isinstance(listed, list) or not all(type(one) is int and 0 <= one < layers for one in listed):
        raise keys.malformed("moe_layers", "is not a list of layers")
    return frozenset(listed)


def _experts(numbers: Numbers, number: int, tensors: Mapping[str, object]) -> ExpertWeights:
    """The matrices of a layer's experts, as the opened checkpoint names them."""
    mixture, names = numbers.mixture, numbers.decoder.names
    hidden, experts, ffn = numbers.decoder.shape.hidden, mixture.experts, mixture.ffn
    if names is GGUF_NAMES:
        return gguf_experts(
            lambda part, kind: names.weight(number, part, kind), mixture, hidden, biases=False
        )
    folder = f"{names.block}.{number}.feed_forward.experts"

    def stack(part: str, outer: int, inner: int) -> Weight:
        each = [f"{folder}.{expert}.{part}.weight" for expert in range(experts)]
        return stacked(each, f"{folder}.*.{part}.weight", outer, inner)

    if f"{folder}.0.gate_proj.weight" in tensors:
        return ExpertWeights(
            stack("gate_proj", ffn, hidden), stack("up_proj", ffn, hidden), stack("down_proj", hidden, ffn)
        )
    both = f"{folder}.gate_up_proj"

    def half(start: int) -> Weight:
        return taken(Source(both, (experts, hidden, 2 * ffn), start, count=ffn, transposed=True))

    down = Source(f"{folder}.down_proj", (experts, ffn, hidden), transposed=True)
    return ExpertWeights(half(0), half(ffn), taken(down))


def _silu(layer: Layer, gate: str, up: str) -> str:
    return layer.build.gated(gate, up)


def _record(numbers: Numbers, tensors: Mapping[str, object]) -> Model:
    mixture = numbers.mixture

    def block(layer: Layer, x: str, angles: str) -> str:
        """Attention, then experts or feed-forward, each added to its input."""
        q, k, v = layer.heads(layer.norm(x, "attn_norm"))
        if numbers.turning[layer.number]:
            q, k = layer.rotate(q, k, angles, numbers.rotation.style)
            if numbers.normed:
                q, k = layer.bare_norm(q, layer.decoder.shape.heads), layer.bare_norm(k, layer.own.kv)
        elif numbers.growth is not None:
            q = layer.build.scale_by_position(q, numbers.growth.beta, numbers.growth.length, shift=1)
        x = layer.build.add(x, layer.attend(q, k, v))
        h = layer.norm(x, "ffn_norm")
        if layer.number not in numbers.sparse:
            return layer.build.add(x, layer.feed_forward(h, ffn=numbers.dense))
        shared = layer.feed_forward(h, ffn=mixture.ffn, kind="_shexp")
        chosen = record_mixture(layer, h, mixture, _experts(numbers, layer.number, tensors), _silu)
        return layer.build.add(x, layer.build.add(shared, chosen))

    return record_model(numbers.decoder, numbers.rotation, block)
