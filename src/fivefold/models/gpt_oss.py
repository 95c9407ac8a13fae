"""The GPT-OSS family: experts with biases, a sink for each head, and windows in every other layer.

A sink is a score without a value: what attention pays to it goes nowhere. The router weighs its chosen
experts by a softmax of theirs alone; their gate and up are held by a limit, and up is raised by one. YaRN's
ramp ends between dimensions, which GGUF does not say and means all the same (openai/gpt-oss,
gpt_oss/torch/model.py).

Folders hold gate and up of all experts in one tensor, their outputs in turn: floats as (E, K, 2 M), as
Transformers multiplies them, MXFP4 as (E, 2 M, K). GGUF files hold them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fivefold.core.checkpoint import Checkpoint
from fivefold.program import Model, RopeScaling, Routing, Source, Weight, taken

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
    SLIDING,
    gguf_biases,
    has_factors,
    open_keys,
    read_gguf_rope,
    read_gguf_shape,
    read_gguf_windows,
    read_json_shape,
    read_rope,
    read_tied,
    read_window,
    read_windows,
    require_plain,
    require_sizes,
)
from .mixture import ExpertWeights, Mixture, gguf_experts, read_chosen, read_experts, record_mixture
from .recording import Decoder, Layer, Rotation, record_model

_PLAIN = "use a model of plain GPT-OSS form"
_GGUF_KEYS = (
    GGUF_SIZE_KEYS | GGUF_ROPE_KEYS
    | {"attention.layer_norm_rms_epsilon", "attention.sliding_window", "attention.sliding_window_pattern",
       "expert_count", "expert_used_count", "expert_feed_forward_length"}
)  # fmt: skip
_JSON_KEYS = (
    JSON_SIZE_KEYS | ROPE_KEYS | PLAIN_KEYS | HARMLESS_KEYS
    | {"rms_norm_eps", "hidden_act", "tie_word_embeddings", "attention_bias", "sliding_window", "layer_types",
       "num_experts", "num_local_experts", "num_experts_per_tok", "experts_per_token", "swiglu_alpha",
       "swiglu_limit", "initial_context_length", "output_router_logits", "router_aux_loss_coef"}
)  # fmt: skip
_GGUF_WORDS = GGUF_NAMES.but(ffn_norm="post_attention_norm")
_JSON_WORDS = JSON_NAMES.but(ffn_gate_inp="mlp.router")
_ALPHA, _LIMIT = 1.702, 7.0


@dataclass(frozen=True, slots=True)
class Swish:
    """gate sigmoid(alpha gate) (up + 1), both held by the limit."""

    alpha: float = _ALPHA
    limit: float = _LIMIT

    def __call__(self, layer: Layer, gate: str, up: str) -> str:
        """Record it."""
        return layer.build.clamped_gated(gate, up, self.alpha, self.limit)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What one model is made of."""

    decoder: Decoder
    rotation: Rotation
    mixture: Mixture
    swish: Swish


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program; FileError or UnsupportedError names the file and the key."""
    read = _read_gguf if checkpoint.kind == "gguf" else _read_json
    numbers = read(checkpoint, architecture)
    decoder = numbers.decoder
    require_sizes(checkpoint, decoder.shape, decoder.names, numbers.rotation.rotary)
    return _record(numbers, checkpoint)


def _read_gguf(checkpoint: Checkpoint, architecture: str) -> Numbers:
    keys = open_keys(checkpoint, architecture, _GGUF_KEYS, _PLAIN)
    shape = read_gguf_shape(keys, checkpoint, ffn="expert_feed_forward_length")
    decoder = Decoder(
        shape, _GGUF_WORDS, keys.number("attention.layer_norm_rms_epsilon", above=0),
        tied=GGUF_NAMES.head not in checkpoint.tensors,
        biases=gguf_biases(checkpoint, ATTENTION | {"ffn_gate_inp"}),
        windows=read_gguf_windows(keys, shape.layers, keys.size("attention.sliding_window"), 2),
    )  # fmt: skip
    base, scaling = read_gguf_rope(keys, shape.context)
    rotation = Rotation(
        base, replace(scaling, truncate=False), keys.size("rope.dimension_count", shape.head_size),
        factors=has_factors(checkpoint),
    )  # fmt: skip
    experts = keys.size("expert_count")
    chosen = read_chosen(keys, "expert_used_count", experts)
    return Numbers(decoder, rotation, _mixture(experts, chosen, shape.ffn), Swish())


def _read_json(checkpoint: Checkpoint, architecture: str) -> Numbers:
    keys = open_keys(checkpoint, architecture, _JSON_KEYS, _PLAIN)
    require_plain(keys, "gpt_oss")
    keys.only("hidden_act", "silu", "silu")
    shape = read_json_shape(keys, checkpoint, "gpt-oss", head_size=64)
    window = read_window(keys, 128)
    kinds = [FULL if number % 2 or window is None else SLIDING for number in range(shape.layers)]
    decoder = Decoder(
        shape, _JSON_WORDS, keys.number("rms_norm_eps", 1e-5, above=0),
        tied=read_tied(keys, checkpoint),
        biases=frozenset({"ffn_gate_inp", *(ATTENTION if keys.flag("attention_bias", True) else ())}),
        windows=read_windows(keys, kinds, window),
    )  # fmt: skip
    base, scaling = read_rope(keys, shape.context, 150000.0)
    if keys.get("rope_scaling") is None and keys.get("rope_parameters") is None:
        scaling = RopeScaling("yarn", 32.0, 4096, truncate=False)  # what silence means
    original = scaling.original_context or shape.context
    keys.only("initial_context_length", original, original)
    experts = read_experts(keys, 128)
    chosen = read_chosen(keys, "num_experts_per_tok", experts, 4)
    keys.only("experts_per_token", chosen, chosen)
    swish = Swish(keys.number("swiglu_alpha", _ALPHA, above=0), keys.number("swiglu_limit", _LIMIT, above=0))
    return Numbers(
        decoder, Rotation(base, scaling, shape.head_size), _mixture(experts, chosen, shape.ffn), swish
    )


def _mixture(experts: int, chosen: int, ffn: int) -> Mixture:
    return Mixture(experts, chosen, ffn, Routing("softmax_of_chosen"))


def _experts(numbers: Numbers, number: int, tensors: Mapping[str, object]) -> ExpertWeights:
    """The matrices and biases of a layer's experts, as the opened checkpoint names them."""
    mixture, names = numbers.mixture, numbers.decoder.names
    hidden, experts, ffn = numbers.decoder.shape.hidden, mixture.experts, mixture.ffn
    if names is _GGUF_WORDS:
        return gguf_experts(lambda part, kind: names.weight(number, part, kind), mixture, hidden, biases=True)
    folder = f"{names.block}.{number}.mlp.experts"

    def matrices(part: str, outer: int, inner: int, start: int, step: int) -> Weight:
        """Every `step`th output: rows of MXFP4, columns of floats."""
        rows = f"{folder}.{part}.weight"
        if rows in tensors:
            return taken(Source(rows, (experts, outer, inner), start, step))
        return taken(Source(f"{folder}.{part}", (experts, inner, outer), start, step, transposed=True))

    def biases(part: str, outer: int, start: int, step: int) -> Weight:
        return taken(Source(f"{folder}.{part}_bias", (experts, outer), start, step, vectors=True))

    return ExpertWeights(
        matrices("gate_up_proj", 2 * ffn, hidden, 0, 2), matrices("gate_up_proj", 2 * ffn, hidden, 1, 2),
        matrices("down_proj", hidden, ffn, 0, 1), biases("gate_up_proj", 2 * ffn, 0, 2),
        biases("gate_up_proj", 2 * ffn, 1, 2), biases("down_proj", hidden, 0, 1),
    )  # fmt: skip


def _record(numbers: Numbers, checkpoint: Checkpoint) -> Model:
    decoder = numbers.decoder

    def block(layer: Layer, x: str, angles: str) -> str:
        """Attention with sinks, then experts, each added to its input."""
        q, k, v = layer.heads(layer.norm(x, "attn_norm"))
        q, k = layer.rotate(q, k, angles, numbers.rotation.style)
        sinks = layer.build.weight(_sinks(decoder, layer.number), decoder.shape.heads)
        x = layer.build.add(x, layer.attend(q, k, v, sinks=sinks))
        weights = _experts(numbers, layer.number, checkpoint.tensors)
        h = layer.norm(x, "ffn_norm")
        return layer.build.add(x, record_mixture(layer, h, numbers.mixture, weights, numbers.swish))

    return record_model(decoder, numbers.rotation, block)


def _sinks(decoder: Decoder, number: int) -> str:
    if decoder.names is _GGUF_WORDS:
        return decoder.names.weight(number, "attn_sinks")
    return f"{decoder.names.block}.{number}.self_attn.sinks"
