"""The Mistral family: Mistral, and the Ministral models of two generations.

Llama's blocks with windows of attention: Mistral's configs give one to all layers or to none, Ministral's to
some. Ministral 3 stretches its positions by YaRN, and scales its queries by a slowly growing number where
they stand beyond the length it was trained on: that is done once a step, on the angles that turn queries.
GGUF has Mistral under `llama`, without its window, and Ministral 3 under `mistral3`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fivefold.core.checkpoint import Checkpoint
from fivefold.program import Model, RopeScaling

from .config import (
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
    Keys,
    Windows,
    has_factors,
    open_keys,
    read_gguf_rope,
    read_gguf_shape,
    read_json_shape,
    read_rope,
    read_tied,
    read_window,
    read_windows,
    require_plain,
    require_sizes,
    rope_object,
)
from .recording import NEIGHBOURS, Decoder, Layer, Recorder, Rotation, model_of, record_blocks

MEMBERS = {
    "MistralForCausalLM": "mistral", "MinistralForCausalLM": "ministral",
    "Ministral3ForCausalLM": "ministral3",
}  # fmt: skip
"""The model type of each of `architectures`."""

_PLAIN = "use a model of plain Mistral form"
_GGUF_KEYS = (
    GGUF_SIZE_KEYS | GGUF_ROPE_KEYS
    | {"attention.layer_norm_rms_epsilon", "attention.temperature_scale", "rope.scaling.yarn_log_multiplier"}
)  # fmt: skip
_JSON_KEYS = (
    JSON_SIZE_KEYS | ROPE_KEYS | PLAIN_KEYS | HARMLESS_KEYS
    | {"rms_norm_eps", "hidden_act", "tie_word_embeddings", "attention_bias", "mlp_bias", "sliding_window",
       "layer_types"}
)  # fmt: skip
_GROWTH_KEYS = ("llama_4_scaling_beta", "max_position_embeddings")
"""Keys that Ministral 3 has among its rotary parameters; the second one says again what the config says."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How queries grow with their position: 1 + beta * log(1 + floor(position / length))."""

    beta: float
    length: int


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program; FileError or UnsupportedError names the file and the key."""
    read = _read_gguf if checkpoint.kind == "gguf" else _read_json
    decoder, rotation, growth = read(checkpoint, architecture)
    require_sizes(checkpoint, decoder.shape, decoder.names, rotation.rotary)
    return _record(decoder, rotation, growth)


def _read_gguf(checkpoint: Checkpoint, architecture: str) -> tuple[Decoder, Rotation, Growth | None]:
    keys = open_keys(checkpoint, architecture, _GGUF_KEYS, _PLAIN)
    shape = read_gguf_shape(keys, checkpoint)
    base, scaling = read_gguf_rope(keys, shape.context)
    multiplier = keys.number("rope.scaling.yarn_log_multiplier", 0.0)
    if scaling.kind == "yarn" and multiplier:
        logarithm = 0.1 * math.log(scaling.factor)
        scaling = replace(scaling, attention_factor=(1 + logarithm) / (1 + multiplier * logarithm))
    decoder = Decoder(
        shape, GGUF_NAMES, keys.number("attention.layer_norm_rms_epsilon", above=0),
        tied=GGUF_NAMES.head not in checkpoint.tensors,
    )  # fmt: skip
    rotary = keys.size("rope.dimension_count", shape.head_size)
    rotation = Rotation(base, scaling, rotary, NEIGHBOURS, has_factors(checkpoint))
    return decoder, rotation, _growth(keys, "attention.temperature_scale", scaling)


def _read_json(checkpoint: Checkpoint, architecture: str) -> tuple[Decoder, Rotation, Growth | None]:
    member = MEMBERS[architecture]
    keys = open_keys(checkpoint, architecture, _JSON_KEYS, _PLAIN)
    require_plain(keys, member)
    keys.only("hidden_act", "silu", "silu")
    for key in ("attention_bias", "mlp_bias"):
        keys.only(key, False, False)
    latest = member == "ministral3"
    shape = read_json_shape(keys, checkpoint, member, head_size=128 if latest else None)
    decoder = Decoder(
        shape, JSON_NAMES, keys.number("rms_norm_eps", 1e-5 if latest else 1e-6, above=0),
        tied=read_tied(keys, checkpoint),
        windows=_windows(keys, member, shape.layers),
    )  # fmt: skip
    if not latest:
        return decoder, Rotation(*read_rope(keys, shape.context), shape.head_size), None
    base, scaling = read_rope(keys, shape.context, beside=_GROWTH_KEYS)
    rope = rope_object(keys)
    rope.number("llama_4_scaling_beta")  # without it Transformers cannot run the model
    return decoder, Rotation(base, scaling, shape.head_size), _growth(rope, "llama_4_scaling_beta", scaling)


def _windows(keys: Keys, member: str, layers: int) -> Windows:
    """Mistral's and Ministral 3's layers are all alike; Ministral's config may say which are not."""
    window = read_window(keys, None if member == "ministral3" else 4096)
    kinds = [FULL if window is None else SLIDING] * layers
    if member != "ministral":
        keys.only("layer_types", kinds, kinds)
    return read_windows(keys, kinds, window)


def _growth(keys: Keys, key: str, scaling: RopeScaling) -> Growth | None:
    """Queries grow by the number under the key, beyond the length that positions are stretched from."""
    beta = keys.number(key, 0.0)
    if beta and not scaling.original_context:
        raise keys.malformed(key, f"is {beta:g}, but no length is known that queries grow from")
    return Growth(beta, scaling.original_context) if beta else None


def _record(decoder: Decoder, rotation: Rotation, growth: Growth | None) -> Model:
    recorder = Recorder(decoder)
    frequency = recorder.frequency(rotation)
    x = recorder.embed()
    angles = of_queries = recorder.build.rope_angles(*frequency)
    if growth is not None:
        of_queries = recorder.build.scale_by_position(angles, growth.beta, growth.length)

    def block(layer: Layer, x: str) -> str:
        """Attention, then feed-forward, each added to its input."""
        q, k, v = layer.heads(layer.norm(x, "attn_norm"))
        q, k = layer.rotate(q, k, angles, rotation.style, of_queries)
        x = layer.build.add(x, layer.attend(q, k, v))
        return layer.build.add(x, layer.feed_forward(layer.norm(x, "ffn_norm")))

    return model_of(decoder, recorder.finish(record_blocks(recorder, x, block)))
