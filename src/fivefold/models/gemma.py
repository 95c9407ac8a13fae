"""The Gemma family: Gemma 2, and the text models of Gemma 3.

Blocks have four norms: before and after attention, before and after the feed-forward, whose gate is a GELU.
Embeddings are multiplied by the root of the hidden size. Folders hold what norms differ from 1 by, GGUF files
the norms themselves. Layers with a window alternate with those that see all, one to one in Gemma 2, five to
one in Gemma 3. Gemma 2 caps attention scores and logits. Gemma 3 norms the heads of queries and keys instead,
and turns heads of layers with a window by a base of their own, which no scaling stretches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.layout import ModelShape
from fivefold.program import Model, RopeScaling

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
    Keys,
    open_keys,
    read_gguf_rope,
    read_gguf_shape,
    read_gguf_windows,
    read_json_shape,
    read_rope,
    read_scaling,
    read_tied,
    read_window,
    read_windows,
    require_plain,
    require_sizes,
    root_as_stored,
    rope_object,
)
from .recording import Decoder, Layer, Recorder, Rotation, model_of, record_blocks

MEMBERS = {
    "gemma2": "gemma2", "gemma3": "gemma3", "Gemma2ForCausalLM": "gemma2", "Gemma3ForCausalLM": "gemma3",
}  # fmt: skip
"""Which of the two an architecture is, in both kinds of checkpoint."""

PATTERNS = {"gemma2": 2, "gemma3": 6}
"""Each so many-th layer sees all."""

LARGE = {"gemma2": 46, "gemma3": 62}
"""Layers of the 27B models, by which llama.cpp tells them; their scores are scaled by the share of a head in
the hidden size. GGUF has no key for it."""

SILENT = {
    "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072,
}  # fmt: skip
"""What silence about a size means to Gemma 3: published configs of text parts say only what is otherwise."""

_PLAIN = "use a model of plain Gemma 2 form, or a text model of Gemma 3"
_GGUF_KEYS = (
    GGUF_SIZE_KEYS | GGUF_ROPE_KEYS
    | {"attention.layer_norm_rms_epsilon", "attention.sliding_window", "attention.sliding_window_pattern",
       "rope.freq_base_swa", "attn_logit_softcapping", "final_logit_softcapping"}
)  # fmt: skip
_JSON_KEYS = (
    JSON_SIZE_KEYS | ROPE_KEYS | PLAIN_KEYS | HARMLESS_KEYS
    | {"rms_norm_eps", "hidden_act", "hidden_activation", "tie_word_embeddings", "attention_bias",
       "query_pre_attn_scalar", "sliding_window", "sliding_window_pattern", "_sliding_window_pattern",
       "layer_types", "attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention",
       "rope_local_base_freq"}
)  # fmt: skip
_JSON_NAMES = JSON_NAMES.but(
    post_attention_norm="post_attention_layernorm", ffn_norm="pre_feedforward_layernorm",
    post_ffw_norm="post_feedforward_layernorm",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gemma:
    """What is Gemma's own.

    embedding   what embeddings are multiplied by.
    scale       of attention scores; `score_cap` and `logit_cap` are 0 where there is none.
    rotations   of layers that see all, and of those with a window.
    """

    embedding: float
    scale: float
    rotations: tuple[Rotation, Rotation]
    score_cap: float = 0.0
    logit_cap: float = 0.0


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program; FileError or UnsupportedError names the file and the key."""
    read = _read_gguf if checkpoint.kind == "gguf" else _read_json
    decoder, gemma = read(checkpoint, architecture)
    require_sizes(checkpoint, decoder.shape, decoder.names, gemma.rotations[0].rotary)
    return _record(decoder, gemma, heads_are_normed=MEMBERS[architecture] == "gemma3")


def _read_gguf(checkpoint: Checkpoint, architecture: str) -> tuple[Decoder, Gemma]:
    keys = open_keys(checkpoint, architecture, _GGUF_KEYS, _PLAIN)
    shape, second = read_gguf_shape(keys, checkpoint), architecture == "gemma2"
    silent = 4096 if second else None
    window = silent if keys.get("attention.sliding_window") is None else keys.size("attention.sliding_window")
    decoder = Decoder(
        shape, GGUF_NAMES, keys.number("attention.layer_norm_rms_epsilon", above=0),
        tied=GGUF_NAMES.head not in checkpoint.tensors,
        windows=read_gguf_windows(keys, shape.layers, window, PATTERNS[architecture]),
    )  # fmt: skip
    base, scaling = read_gguf_rope(keys, shape.context)
    rotary = keys.size("rope.dimension_count", shape.head_size)
    near = keys.number("rope.freq_base_swa", base if second else 10000.0, above=1)
    whole = shape.hidden // shape.heads if shape.layers == LARGE[architecture] else shape.head_size
    if not second:
        keys.only("attn_logit_softcapping", None, None)
    return decoder, Gemma(
        math.sqrt(shape.hidden), whole**-0.5,
        (Rotation(base, scaling, rotary), Rotation(near, scaling if second else RopeScaling(), rotary)),
        _cap(keys, "attn_logit_softcapping", 50.0 if second else 0.0),
        _cap(keys, "final_logit_softcapping", 30.0 if second else 0.0),
    )  # fmt: skip


def _read_json(checkpoint: Checkpoint, architecture: str) -> tuple[Decoder, Gemma]:
    member = MEMBERS[architecture]
    second = member == "gemma2"
    keys = open_keys(checkpoint, architecture, _JSON_KEYS, _PLAIN)
    require_plain(keys, member if second else "gemma3_text")
    for key in ("hidden_act", "hidden_activation"):
        keys.only(key, "gelu_pytorch_tanh", "gelu_pytorch_tanh")
    keys.only("use_bidirectional_attention", False, False)
    sizes = keys if second else keys.with_silent(SILENT)
    shape = read_json_shape(sizes, checkpoint, member, head_size=256)
    every = keys.size("sliding_window_pattern", PATTERNS[member])
    kinds = [SLIDING if (number + 1) % every else FULL for number in range(shape.layers)]
    decoder = Decoder(
        shape, _JSON_NAMES, keys.number("rms_norm_eps", 1e-6, above=0),
        tied=read_tied(keys, checkpoint, silent=True),
        biases=ATTENTION if keys.flag("attention_bias", False) else frozenset(), norm_offset=1.0,
        windows=read_windows(keys, kinds, read_window(keys, 4096)),
    )  # fmt: skip
    if not second:
        keys.only("attn_logit_softcapping", None, None)
    return decoder, Gemma(
        root_as_stored(checkpoint, _JSON_NAMES.embedding, shape.hidden),
        keys.number("query_pre_attn_scalar", 256, above=0) ** -0.5,
        _json_rotations(keys, shape, second), _cap(keys, "attn_logit_softcapping", 50.0 if second else 0.0),
        _cap(keys, "final_logit_softcapping", 30.0 if second else 0.0),
    )  # fmt: skip


def _cap(keys: Keys, key: str, silent: float) -> float:
    """A bound of a soft cap, 0 for none, which null means; `silent` is what absence means."""
    if key in keys and keys.get(key) is None:
        return 0.0
    return keys.number(key, above=0) if key in keys else silent


def _json_rotations(keys: Keys, shape: ModelShape, second: bool) -> tuple[Rotation, Rotation]:
    """Gemma 3 has parameters for each kind of layer, or, in the old form, a base more."""
    if second:
        rotation = Rotation(*read_rope(keys, shape.context), shape.head_size)
        return rotation, rotation
    whole = rope_object(keys)
    near = keys.inside("rope_parameters").inside(SLIDING)
    if keys.get("rope_parameters"):
        whole.refuse_unknown((FULL, SLIDING), f"known are {FULL} and {SLIDING}")
        whole = whole.inside(FULL)
    bases = keys.number("rope_theta", 1e6, above=1.0), keys.number("rope_local_base_freq", 1e4, above=1.0)
    far = Rotation(
        whole.number("rope_theta", bases[0], above=1.0), read_scaling(keys, whole, shape.context),
        shape.head_size,
    )  # fmt: skip
    return far, replace(
        far, base=near.number("rope_theta", bases[1], above=1.0),
        scaling=read_scaling(keys, near, shape.context),
    )  # fmt: skip


def _record(decoder: Decoder, gemma: Gemma, heads_are_normed: bool) -> Model:
    recorder = Recorder(decoder)
    build, windows = recorder.build, decoder.windows
    far, near = gemma.rotations
    frequency = recorder.frequency(far)
    apart = far != near and any(window is not None for window in windows)
    near_frequency = recorder.frequency(near, "inverse_frequency_near") if apart else frequency
    x = build.scale(recorder.embed(), gemma.embedding)
    angles = build.rope_angles(*frequency)
    near_angles = build.rope_angles(*near_frequency) if apart else angles

    def block(layer: Layer, x: str) -> str:
        """Attention, then feed-forward, each normed before and after and added to its input."""
        q, k, v = layer.heads(layer.norm(x, "attn_norm"))
        if heads_are_normed:
            q, k = layer.norm_heads(q, k)
        q, k = layer.rotate(q, k, angles if windows[layer.number] is None else near_angles, far.style)
        attended = layer.attend(q, k, v, gemma.scale, gemma.score_cap)
        x = build.add(x, layer.norm(attended, "post_attention_norm"))
        fed = layer.feed_forward(layer.norm(x, "ffn_norm"), "gelu_tanh")
        return build.add(x, layer.norm(fed, "post_ffw_norm"))

    x = record_blocks(recorder, x, block)
    return model_of(decoder, recorder.finish(x, gemma.logit_cap))
