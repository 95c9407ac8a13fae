"""The SmolLM3 family: Llama's blocks, of which some do not turn heads by their positions.

A config.json lists these layers; GGUF does not, and means each fourth. Layers without rotation may have a
window of attention. GGUF permutes q and k as it does Llama's, in layers without rotation too, where that
changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from fivefold.core.checkpoint import Checkpoint
from fivefold.program import Model

from .config import (
    ATTENTION,
    FEED_FORWARD,
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
    read_json_shape,
    read_rope,
    read_tied,
    read_turning,
    read_window,
    read_windows,
    require_plain,
    require_sizes,
    turning_layers,
)
from .recording import NEIGHBOURS, Decoder, Layer, Rotation, record_model

_PLAIN = "use a model of plain SmolLM3 form"
_INTERVAL = 4
_GGUF_KEYS = GGUF_SIZE_KEYS | GGUF_ROPE_KEYS | {"attention.layer_norm_rms_epsilon"}
_JSON_KEYS = (
    JSON_SIZE_KEYS | ROPE_KEYS | PLAIN_KEYS | HARMLESS_KEYS
    | {"rms_norm_eps", "hidden_act", "tie_word_embeddings", "attention_bias", "mlp_bias", "sliding_window",
       "use_sliding_window", "max_window_layers", "layer_types", "no_rope_layers", "no_rope_layer_interval"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turns:
    """How heads are turned, and in which layers."""

    rotation: Rotation
    layers: tuple[bool, ...]


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program; FileError or UnsupportedError names the file and the key."""
    read = _read_gguf if checkpoint.kind == "gguf" else _read_json
    decoder, turns = read(checkpoint, architecture)
    require_sizes(checkpoint, decoder.shape, decoder.names, turns.rotation.rotary)
    return _record(decoder, turns)


def _read_gguf(checkpoint: Checkpoint, architecture: str) -> tuple[Decoder, Turns]:
    keys = open_keys(checkpoint, architecture, _GGUF_KEYS, _PLAIN)
    shape = read_gguf_shape(keys, checkpoint)
    decoder = Decoder(
        shape, GGUF_NAMES, keys.number("attention.layer_norm_rms_epsilon", above=0),
        tied=GGUF_NAMES.head not in checkpoint.tensors,
        biases=gguf_biases(checkpoint, ATTENTION | FEED_FORWARD),
    )  # fmt: skip
    rotation = Rotation(
        *read_gguf_rope(keys, shape.context), keys.size("rope.dimension_count", shape.head_size), NEIGHBOURS,
        has_factors(checkpoint),
    )  # fmt: skip
    return decoder, Turns(rotation, turning_layers(_INTERVAL, shape.layers))


def _read_json(checkpoint: Checkpoint, architecture: str) -> tuple[Decoder, Turns]:
    keys = open_keys(checkpoint, architecture, _JSON_KEYS, _PLAIN)
    require_plain(keys, "smollm3")
    keys.only("hidden_act", "silu", "silu")
    shape = read_json_shape(keys, checkpoint, "smollm3")
    turning = turning_layers(keys.size("no_rope_layer_interval", _INTERVAL), shape.layers)
    if keys.get("no_rope_layers") is not None:
        turning = read_turning(keys, shape.layers)
    window = read_window(keys, None) if keys.flag("use_sliding_window", False) else None
    kinds = [FULL if turns or window is None else SLIDING for turns in turning]
    biases = ATTENTION if keys.flag("attention_bias", False) else frozenset()
    decoder = Decoder(
        shape, JSON_NAMES, keys.number("rms_norm_eps", 1e-6, above=0),
        tied=read_tied(keys, checkpoint, silent=True),
        biases=biases | (FEED_FORWARD if keys.flag("mlp_bias", False) else frozenset()),
        windows=read_windows(keys, kinds, window),
    )  # fmt: skip
    base, scaling = read_rope(keys, shape.context, 2000000.0)
    return decoder, Turns(Rotation(base, scaling, shape.head_size), turning)


def _record(decoder: Decoder, turns: Turns) -> Model:
    def block(layer: Layer, x: str, angles: str) -> str:
        """Attention, then feed-forward, each added to its input."""
        q, k, v = layer.heads(layer.norm(x, "attn_norm"))
        if turns.layers[layer.number]:
            q, k = layer.rotate(q, k, angles, turns.rotation.style)
        x = layer.build.add(x, layer.attend(q, k, v))
        return layer.build.add(x, layer.feed_forward(layer.norm(x, "ffn_norm")))

    return record_model(decoder, turns.rotation, block)
