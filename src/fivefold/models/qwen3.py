"""The Qwen3 family: Llama's blocks with a norm of each head of queries and keys, and no biases.

Heads have a size of their own. Later layers may have a window of attention, as Qwen2's may. GGUF keeps rotary
pairs in halves, as Hugging Face does.
"""

from __future__ import annotations

from fivefold.core.checkpoint import Checkpoint
from fivefold.program import Model

from .config import (
    GGUF_NAMES,
    GGUF_ROPE_KEYS,
    GGUF_SIZE_KEYS,
    HARMLESS_KEYS,
    JSON_NAMES,
    JSON_SIZE_KEYS,
    PLAIN_KEYS,
    ROPE_KEYS,
    has_factors,
    open_keys,
    read_gguf_rope,
    read_gguf_shape,
    read_json_shape,
    read_late_windows,
    read_rope,
    read_tied,
    require_plain,
    require_sizes,
)
from .recording import Decoder, Layer, Rotation, record_model

_PLAIN = "use a model of plain Qwen3 form"
_GGUF_KEYS = GGUF_SIZE_KEYS | GGUF_ROPE_KEYS | {"attention.layer_norm_rms_epsilon"}
_JSON_KEYS = (
    JSON_SIZE_KEYS | ROPE_KEYS | PLAIN_KEYS | HARMLESS_KEYS
    | {"rms_norm_eps", "hidden_act", "tie_word_embeddings", "attention_bias", "sliding_window",
       "use_sliding_window", "max_window_layers", "layer_types"}
)  # fmt: skip


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program; FileError or UnsupportedError names the file and the key."""
    read = _read_gguf if checkpoint.kind == "gguf" else _read_json
    decoder, rotation = read(checkpoint, architecture)
    require_sizes(checkpoint, decoder.shape, decoder.names, rotation.rotary)
    return _record(decoder, rotation)


def _read_gguf(checkpoint: Checkpoint, architecture: str) -> tuple[Decoder, Rotation]:
    keys = open_keys(checkpoint, architecture, _GGUF_KEYS, _PLAIN)
    shape = read_gguf_shape(keys, checkpoint)
    decoder = Decoder(
        shape, GGUF_NAMES, keys.number("attention.layer_norm_rms_epsilon", above=0),
        tied=GGUF_NAMES.head not in checkpoint.tensors,
    )  # fmt: skip
    rotary = keys.size("rope.dimension_count", shape.head_size)
    return decoder, Rotation(
        *read_gguf_rope(keys, shape.context), rotary, factors=has_factors(checkpoint)
    )  # fmt: skip


def _read_json(checkpoint: Checkpoint, architecture: str) -> tuple[Decoder, Rotation]:
    keys = open_keys(checkpoint, architecture, _JSON_KEYS, _PLAIN)
    require_plain(keys, "qwen3")
    keys.only("hidden_act", "silu", "silu")
    keys.only("attention_bias", False, False)
    shape = read_json_shape(keys, checkpoint, "qwen3", head_size=128)
    decoder = Decoder(
        shape, JSON_NAMES, keys.number("rms_norm_eps", 1e-6, above=0),
        tied=read_tied(keys, checkpoint),
        windows=read_late_windows(keys, shape.layers),
    )  # fmt: skip
    return decoder, Rotation(*read_rope(keys, shape.context), shape.head_size)


def _record(decoder: Decoder, rotation: Rotation) -> Model:
    def block(layer: Layer, x: str, angles: str) -> str:
        """Attention over heads that are normed, then feed-forward, each added to its input."""
        q, k, v = layer.heads(layer.norm(x, "attn_norm"))
        q, k = layer.norm_heads(q, k)
        q, k = layer.rotate(q, k, angles, rotation.style)
        x = layer.build.add(x, layer.attend(q, k, v))
        return layer.build.add(x, layer.feed_forward(layer.norm(x, "ffn_norm")))

    return record_model(decoder, rotation, block)
