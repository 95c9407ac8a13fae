"""The Llama family: Llama 2 and 3.x, SmolLM2, and Qwen2 by its biases.

Reads GGUF metadata or a config.json, refuses what it does not know, and records the forward pass: pre-norm
blocks, grouped-query attention with rotary positions, gated SiLU feed-forward. A Program names its weights
as they are called in the checkpoint, so none is renamed or copied. The members differ in biases, in windows
of attention, and in how rotary pairs lie: halves in Hugging Face's files, neighbours in GGUF's of Llama,
which permute q and k so.
"""

from __future__ import annotations

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
    QKV,
    ROPE_KEYS,
    Keys,
    gguf_biases,
    has_factors,
    open_keys,
    read_gguf_rope,
    read_gguf_shape,
    read_json_shape,
    read_late_windows,
    read_rope,
    read_tied,
    read_windows,
    require_plain,
    require_sizes,
)
from .recording import HALVES, NEIGHBOURS, Decoder, Layer, Rotation, record_model

ROPE_STYLES = {"llama": NEIGHBOURS, "qwen2": HALVES}
"""How rotary pairs lie in GGUF files, by architecture."""

_PLAIN = "use a model of plain Llama or Qwen2 form"
_GGUF_KEYS = GGUF_SIZE_KEYS | GGUF_ROPE_KEYS | {"attention.layer_norm_rms_epsilon"}
_JSON_KEYS = (
    JSON_SIZE_KEYS | ROPE_KEYS | PLAIN_KEYS | HARMLESS_KEYS
    | {"rms_norm_eps", "hidden_act", "tie_word_embeddings", "attention_bias", "mlp_bias", "sliding_window",
       "use_sliding_window", "max_window_layers", "layer_types", "use_mrope"}
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
        biases=gguf_biases(checkpoint, ATTENTION | FEED_FORWARD),
    )  # fmt: skip
    return decoder, Rotation(
        *read_gguf_rope(keys, shape.context), keys.size("rope.dimension_count", shape.head_size),
        ROPE_STYLES[architecture], has_factors(checkpoint),
    )  # fmt: skip


def _read_json(checkpoint: Checkpoint, architecture: str) -> tuple[Decoder, Rotation]:
    member = "qwen2" if architecture == "Qwen2ForCausalLM" else "llama"
    keys = open_keys(checkpoint, architecture, _JSON_KEYS, _PLAIN)
    require_plain(keys, member)
    keys.only("hidden_act", "silu", "silu")
    keys.only("use_mrope", False, False)
    shape = read_json_shape(keys, checkpoint, member, one_for_each=member == "llama")
    decoder = Decoder(
        shape, JSON_NAMES, keys.number("rms_norm_eps", 1e-6, above=0),
        tied=read_tied(keys, checkpoint),
        biases=_json_biases(keys, member),
        # What Llama's config says of a window is for others.
        windows=(
            read_late_windows(keys, shape.layers) if member == "qwen2"
            else read_windows(keys, [FULL] * shape.layers, None)
        ),
    )  # fmt: skip
    return decoder, Rotation(*read_rope(keys, shape.context), shape.head_size)


def _json_biases(keys: Keys, member: str) -> frozenset[str]:
    """Parts with a bias: Llama's config says which, Qwen2's must not say otherwise than they are."""
    if member == "llama":
        attention = ATTENTION if keys.flag("attention_bias", False) else frozenset()
        return attention | (FEED_FORWARD if keys.flag("mlp_bias", False) else frozenset())
    keys.only("attention_bias", True, True)
    keys.only("mlp_bias", False, False)
    return QKV


def _record(decoder: Decoder, rotation: Rotation) -> Model:
    def block(layer: Layer, x: str, angles: str) -> str:
        """Attention, then feed-forward, each added to its input."""
        q, k, v = layer.heads(layer.norm(x, "attn_norm"))
        q, k = layer.rotate(q, k, angles, rotation.style)
        x = layer.build.add(x, layer.attend(q, k, v))
        return layer.build.add(x, layer.feed_forward(layer.norm(x, "ffn_norm")))

    return record_model(decoder, rotation, block)
