"""The Gemma 4 family: the text models of E2B and E4B, of 26B-A4B and of 31B.

Gemma 3's blocks, and more. Layers that see all have larger heads than those with a window, of which a share
of the pairs turns, and in some models no value matrix: values are the keys before these are normed. All
values are normed without weights, and scores are not scaled. The last layers of some models store nothing
and read the entries of the last layer of their kind before them. Each row brings a part for every layer,
made of a second table of embeddings and of the first one, which the layer's end lets through a gate. Some
models have experts beside the feed-forward part; their router looks at rows that are normed apart. A layer's
result is multiplied with a number of its own.

GGUF files mean the same and name it otherwise. Both kinds may hold keys and values of layers that read
another's; these are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError
from fivefold.core.layout import ModelShape
from fivefold.ops.elementwise import ACTIVATIONS
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
    Keys,
    Windows,
    has_factors,
    open_keys,
    read_each,
    read_gguf_rope,
    read_gguf_shape,
    read_gguf_windows,
    read_json_shape,
    read_scaling,
    read_tied,
    read_windows,
    require_plain,
    require_sizes,
    root_as_stored,
)
from .mixture import ExpertWeights, Mixture, gguf_experts, read_chosen, record_mixture
from .recording import Decoder, Heads, Layer, Recorder, Rotation, model_of, record_blocks

_PLAIN = "use a text model of plain Gemma 4 form"
_GGUF_KEYS = (
    GGUF_SIZE_KEYS | GGUF_ROPE_KEYS
    | {"attention.layer_norm_rms_epsilon", "attention.sliding_window", "attention.sliding_window_pattern",
       "attention.shared_kv_layers", "attention.key_length_swa", "attention.value_length_swa",
       "embedding_length_per_layer_input", "rope.freq_base_swa", "rope.dimension_count_swa",
       "final_logit_softcapping", "expert_count", "expert_used_count", "expert_feed_forward_length"}
)  # fmt: skip
_JSON_KEYS = (
    JSON_SIZE_KEYS | ROPE_KEYS | PLAIN_KEYS | HARMLESS_KEYS
    | {"rms_norm_eps", "hidden_activation", "tie_word_embeddings", "attention_bias", "sliding_window",
       "layer_types", "final_logit_softcapping", "use_bidirectional_attention", "vocab_size_per_layer_input",
       "hidden_size_per_layer_input", "attention_k_eq_v", "num_kv_shared_layers", "enable_moe_block",
       "use_double_wide_mlp", "num_experts", "top_k_experts", "moe_intermediate_size", "global_head_dim",
       "num_global_key_value_heads", "per_layer_config"}
)  # fmt: skip
_JSON_WORDS = JSON_NAMES.but(
    post_attention_norm="post_attention_layernorm", ffn_norm="pre_feedforward_layernorm",
    post_ffw_norm="post_feedforward_layernorm", post_ffw_norm_1="post_feedforward_layernorm_1",
    post_ffw_norm_2="post_feedforward_layernorm_2", pre_ffw_norm_2="pre_feedforward_layernorm_2",
    ffn_gate_inp="router.proj", inp_gate="per_layer_input_gate", proj="per_layer_projection",
    post_norm="post_per_layer_input_norm",
)  # fmt: skip
_TABLES = {
    "gguf": ("per_layer_token_embd.weight", "per_layer_model_proj.weight", "per_layer_proj_norm.weight"),
    "huggingface": (
        "model.embed_tokens_per_layer.weight", "model.per_layer_model_projection.weight",
        "model.per_layer_projection_norm.weight",
    ),
}  # fmt: skip
"""Where rows get their parts for each layer: the second table, what is made of the first, and its norm."""

_KEPT = (("attn_k", "weight"), ("attn_v", "weight"), ("attn_k_norm", "weight"), ("attn_k", "bias"),
         ("attn_v", "bias"))  # fmt: skip
_EVERY = 6
"""Silence about layers means that each so many-th sees all, and the last one."""


@dataclass(frozen=True, slots=True)
class Gemma4:
    """What is Gemma 4's own.

    rotations  of layers that see all, and of those with a window.
    roots      what rows of both tables of embeddings are multiplied by.
    part       width of a row's part for each layer, 0 where there are none.
    one        of each layer, whether keys and values are one projection; `wide` is the inner width of its
               feed-forward part.
    mixture    the experts, if there are some.
    """

    decoder: Decoder
    rotations: tuple[Rotation, Rotation]
    roots: tuple[float, float]
    part: int
    one: tuple[bool, ...]
    wide: tuple[int, ...]
    mixture: Mixture | None
    logit_cap: float


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program; FileError or UnsupportedError names the file and the key."""
    read = _read_gguf if checkpoint.kind == "gguf" else _read_json
    gemma = read(checkpoint, architecture)
    decoder = gemma.decoder
    for number, heads in enumerate(decoder.heads):
        shape = replace(decoder.shape, kv_heads=heads.kv, head_size=heads.size)
        if number == 0:
            require_sizes(checkpoint, shape, decoder.names, heads.size)
        if shape.heads % heads.kv:
            raise FileError(f"{shape.heads} heads do not share {heads.kv} KV heads evenly",
                            where=str(checkpoint.path), remedy="fetch the model again")  # fmt: skip
    return _record(gemma, checkpoint)


def _read_gguf(checkpoint: Checkpoint, architecture: str) -> Gemma4:
    keys = open_keys(checkpoint, architecture, _GGUF_KEYS, _PLAIN)
    layers = keys.size("block_count")
    wide, kv = (read_each(keys, key, layers) for key in ("feed_forward_length", "attention.head_count_kv"))
    plain = keys.saying({"feed_forward_length": wide[0], "attention.head_count_kv": kv[0]})
    far = read_gguf_shape(plain, checkpoint)
    near = keys.size("attention.key_length_swa", far.head_size)
    keys.only("attention.value_length_swa", near, near)
    keys.only("rope.dimension_count", far.head_size, far.head_size)
    keys.only("rope.dimension_count_swa", near, near)
    windows = read_gguf_windows(keys, layers, keys.size("attention.sliding_window"), _EVERY)
    decoder = Decoder(
        replace(far, head_size=near), GGUF_NAMES, keys.number("attention.layer_norm_rms_epsilon", above=0),
        tied=GGUF_NAMES.head not in checkpoint.tensors, windows=windows,
        heads=tuple(Heads(kv[n], far.head_size if windows[n] is None else near) for n in range(layers)),
        kept_by=_keepers(keys, "attention.shared_kv_layers", windows),
    )  # fmt: skip
    base, scaling = read_gguf_rope(keys, far.context)
    rotations = (
        Rotation(base, scaling, far.head_size, factors=has_factors(checkpoint)),
        Rotation(keys.number("rope.freq_base_swa", 10000.0, above=1), RopeScaling(), near),
    )
    experts = _count(keys, "expert_count", 0)
    mixture = Mixture(
        experts, read_chosen(keys, "expert_used_count", experts), keys.size("expert_feed_forward_length"),
        Routing("softmax"),
    ) if experts else None  # fmt: skip
    part = _count(keys, "embedding_length_per_layer_input", 0)
    one = tuple(GGUF_NAMES.weight(number, "attn_v") not in checkpoint.tensors for number in range(layers))
    return Gemma4(decoder, rotations, (far.hidden**0.5, part**0.5), part, one, wide, mixture, _cap(keys))


def _read_json(checkpoint: Checkpoint, architecture: str) -> Gemma4:
    keys = open_keys(checkpoint, architecture, _JSON_KEYS, _PLAIN)
    require_plain(keys, "gemma4_text")
    keys.only("hidden_activation", "gelu_pytorch_tanh", "gelu_pytorch_tanh")
    keys.only("use_bidirectional_attention", "vision", "vision")  # which tokens of text are not
    shape = read_json_shape(keys, checkpoint, "gemma4", head_size=256)
    windows = _windows(keys, shape.layers)
    one = keys.flag("attention_k_eq_v", False)
    kept_by = _keepers(keys, "num_kv_shared_layers", windows)
    decoder = Decoder(
        shape, _JSON_WORDS, keys.number("rms_norm_eps", 1e-6, above=0),
        tied=read_tied(keys, checkpoint, silent=True),
        biases=ATTENTION if keys.flag("attention_bias", False) else frozenset(), windows=windows,
        heads=_heads(keys, shape, windows, one), kept_by=kept_by,
    )  # fmt: skip
    mixture = None
    if keys.flag("enable_moe_block", False):
        experts = keys.size("num_experts")
        chosen = read_chosen(keys, "top_k_experts", experts)
        mixture = Mixture(experts, chosen, keys.size("moe_intermediate_size"), Routing("softmax"))
    part = _count(keys, "hidden_size_per_layer_input", 256)
    if part:
        keys.only("vocab_size_per_layer_input", 262144, shape.vocabulary)
    double = keys.flag("use_double_wide_mlp", False)
    roots = (
        root_as_stored(checkpoint, _JSON_WORDS.embedding, shape.hidden),
        root_as_stored(checkpoint, _TABLES["huggingface"][0], part),
    )
    return Gemma4(
        decoder, _rotations(keys, decoder), roots, part,
        tuple(one and window is None for window in windows),
        tuple(shape.ffn * (2 if double and kept_by[n] != n else 1) for n in range(shape.layers)),
        mixture, _cap(keys),
    )  # fmt: skip


def _count(keys: Keys, key: str, silent: int) -> int:
    """A size, or 0 for none."""
    return 0 if keys.get(key, silent) == 0 else keys.size(key, silent or None)


def _cap(keys: Keys) -> float:
    """The bound of the logits, 0 for none."""
    key = "final_logit_softcapping"
    return 0.0 if keys.get(key) is None else keys.number(key, above=0)


def _windows(keys: Keys, layers: int) -> Windows:
    """The window of each layer; the last one sees all."""
    kinds = [SLIDING if (number + 1) % _EVERY else FULL for number in range(layers)]
    kinds[-1] = FULL
    windows = read_windows(keys, kinds, keys.size("sliding_window", 512))
    if windows[-1] is not None:
        raise keys.malformed("layer_types", "has a window in the last layer, which must see all")
    return windows


def _keepers(keys: Keys, key: str, windows: Windows) -> tuple[int, ...]:
    """The layer whose entries each reads: the last ones those of the last of their kind before them."""
    own = len(windows) - _count(keys, key, 0)
    kept_by = list(range(len(windows)))
    for number in range(max(own, 0), len(windows)):
        alike = [n for n in range(max(own, 0)) if (windows[n] is None) == (windows[number] is None)]
        if not alike:
            raise keys.malformed(key, f"leaves no layer whose entries layer {number} could read")
        kept_by[number] = alike[-1]
    return tuple(kept_by)


def _heads(keys: Keys, shape: ModelShape, windows: Windows, one: bool) -> tuple[Heads, ...]:
    """The heads of each layer: those that see all have others, or `per_layer_config` says which have."""
    near = Heads(shape.kv_heads, shape.head_size)
    kv = keys.size("num_global_key_value_heads", near.kv) if one else near.kv
    far = Heads(kv, keys.size("global_head_dim", 512))
    if keys.get("per_layer_config") is None:
        return tuple(far if window is None else near for window in windows)
    said = keys.inside("per_layer_config")
    found = [near] * shape.layers
    for name in keys.get("per_layer_config"):
        if not (name.isascii() and name.isdigit() and int(name) < shape.layers):
            raise keys.malformed("per_layer_config", "names a layer that there is not")
        layer = said.inside(name)
        layer.refuse_unknown({"head_dim", "num_key_value_heads"}, _PLAIN)
        found[int(name)] = Heads(
            layer.size("num_key_value_heads", near.kv), layer.size("head_dim", near.size)
        )
    for kind in (True, False):
        if len({heads for heads, window in zip(found, windows, strict=True) if (window is None) == kind}) > 1:
            raise keys.malformed("per_layer_config", "gives layers of one kind different heads")
    return tuple(found)


def _rotations(keys: Keys, decoder: Decoder) -> tuple[Rotation, Rotation]:
    """Of layers that see all, and of those with a window."""
    silent = {FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
              SLIDING: {"rope_type": "default", "rope_theta": 10000.0}}  # fmt: skip
    rope = (keys if keys.get("rope_parameters") else keys.saying({"rope_parameters": silent})).inside(
        "rope_parameters"
    )
    rope.refuse_unknown((FULL, SLIDING), f"known are {FULL} and {SLIDING}")
    found = []
    sizes = {window is None: heads.size for heads, window in zip(decoder.heads, decoder.windows, strict=True)}
    for kind in (FULL, SLIDING):
        own = rope.inside(kind)
        base, size = own.number("rope_theta", above=1.0), sizes.get(kind == FULL, decoder.shape.head_size)
        found.append(Rotation(base, _scaling(keys, own, decoder.shape.context), size))
    return found[0], found[1]


def _scaling(keys: Keys, rope: Keys, context: int) -> RopeScaling:
    """Of one kind of layer; proportional is Gemma 4's own."""
    if rope.get("rope_type") != "proportional":
        return read_scaling(keys, rope, context)
    known = ("rope_type", "rope_theta", "partial_rotary_factor", "factor")
    rope.refuse_unknown(known, f"known for type proportional are {', '.join(known)}")
    share, factor = rope.number("partial_rotary_factor", 1.0, above=0), rope.number("factor", 1.0)
    if share > 1 or factor < 1:
        raise rope.malformed("partial_rotary_factor" if share > 1 else "factor", "is out of its range")
    return RopeScaling("proportional", factor, share=share)


def _experts(gemma: Gemma4, mixture: Mixture, number: int, tensors: Mapping[str, object]) -> ExpertWeights:
    """The matrices of a layer's experts and numbers for their weights, as the checkpoint names them."""
    names, hidden, ffn = gemma.decoder.names, gemma.decoder.shape.hidden, mixture.ffn
    folder = f"{names.block}.{number}"
    if names is GGUF_NAMES:
        both, down = f"{folder}.ffn_gate_up_exps.weight", f"{folder}.ffn_down_exps.weight"
        scales = f"{folder}.ffn_down_exps.scale"
    else:
        both, down = f"{folder}.experts.gate_up_proj", f"{folder}.experts.down_proj"
        scales = f"{folder}.router.per_expert_scale"
    own = Weight(scales, (mixture.experts,)) if scales in tensors or names is not GGUF_NAMES else None
    if names is GGUF_NAMES and both not in tensors:
        apart = gguf_experts(
            lambda part, kind: names.weight(number, part, kind), mixture, hidden, biases=False
        )
        return replace(apart, scales=own)

    def half(start: int) -> Weight:
        return taken(Source(both, (mixture.experts, 2 * ffn, hidden), start, count=ffn))

    return ExpertWeights(half(0), half(ffn), Weight(down, (mixture.experts, hidden, ffn)), scales=own)


def _gelu(layer: Layer, gate: str, up: str) -> str:
    return layer.build.gated(gate, up, ACTIVATIONS.index("gelu_tanh"))


def _parts(gemma: Gemma4, recorder: Recorder, x: str, kind: str) -> str:
    """What each row brings for all layers, side by side: (N, layers * part)."""
    build, shape = recorder.build, gemma.decoder.shape
    table, matrix, norm = _TABLES[kind]
    width = shape.layers * gemma.part
    made = build.linear(x, build.weight(matrix, width, shape.hidden))
    made = recorder.norm(build.scale(made, shape.hidden**-0.5), norm, shape.layers)
    looked_up = build.scale(build.embed(build.weight(table, shape.vocabulary, width)), gemma.roots[1])
    return build.scale(build.add(made, looked_up), 2**-0.5)


def _attend(gemma: Gemma4, layer: Layer, x: str, angles: str) -> str:
    """Attention to the layer's own entries, or to another's."""
    heads, own, number = layer.decoder.shape.heads, layer.own, layer.number
    style = gemma.rotations[0].style
    q = layer.norm(layer.project(x, "attn_q", heads * own.size), "attn_q_norm", heads)
    q = layer.build.rope(q, angles, heads, style)
    if layer.decoder.keeper(number) != number:
        return layer.attend(q, scale=1.0)
    k = layer.project(x, "attn_k", own.kv * own.size)
    v = k if gemma.one[number] else layer.project(x, "attn_v", own.kv * own.size)
    k = layer.build.rope(layer.norm(k, "attn_k_norm", own.kv), angles, own.kv, style)
    return layer.attend(q, k, layer.bare_norm(v, own.kv), scale=1.0)


def _feed(gemma: Gemma4, layer: Layer, x: str, tensors: Mapping[str, object]) -> str:
    """The feed-forward part, and experts beside it if there are some."""
    build, names, hidden = layer.build, layer.decoder.names, layer.decoder.shape.hidden
    fed = layer.feed_forward(layer.norm(x, "ffn_norm"), "gelu_tanh", ffn=gemma.wide[layer.number])
    if gemma.mixture is None:
        return fed
    gguf = names is GGUF_NAMES
    scale = f"{names.block}.{layer.number}.{'ffn_gate_inp' if gguf else 'router'}.scale"
    seen = build.rms_norm(x, build.weight(scale, hidden), layer.decoder.eps)
    weights = _experts(gemma, gemma.mixture, layer.number, tensors)
    routed = record_mixture(
        layer, layer.norm(x, "pre_ffw_norm_2"), gemma.mixture, weights, _gelu, build.scale(seen, hidden**-0.5)
    )
    return build.add(layer.norm(fed, "post_ffw_norm_1"), layer.norm(routed, "post_ffw_norm_2"))


def _record(gemma: Gemma4, checkpoint: Checkpoint) -> Model:
    decoder, tensors = gemma.decoder, checkpoint.tensors
    recorder = Recorder(decoder)
    build, part = recorder.build, gemma.part
    far, near = (
        recorder.frequency(one, name)
        for one, name in zip(gemma.rotations, ("inverse_frequency", "inverse_frequency_near"), strict=True)
    )
    x = build.scale(recorder.embed(), gemma.roots[0])
    parts = _parts(gemma, recorder, x, checkpoint.kind) if part else ""
    angles = build.rope_angles(*far)
    near_angles = build.rope_angles(*near) if any(window is not None for window in decoder.windows) else ""

    def block(layer: Layer, x: str) -> str:
        """Attention, then feed-forward, then the row's own part, each normed and added to its input."""
        number = layer.number
        turned = angles if decoder.windows[number] is None else near_angles
        attended = _attend(gemma, layer, layer.norm(x, "attn_norm"), turned)
        x = build.add(x, layer.norm(attended, "post_attention_norm"))
        x = build.add(x, layer.norm(_feed(gemma, layer, x, tensors), "post_ffw_norm"))
        if part:
            let = _gelu(
                layer,
                layer.project(x, "inp_gate", part),
                build.head_columns(parts, 1, number * part, part),
            )
            x = build.add(x, layer.norm(layer.project(let, "proj", decoder.shape.hidden), "post_norm"))
        own = _layer_scale(decoder, number, tensors)
        return x if own is None else build.scale_by(x, build.weight(own, 1))

    x = record_blocks(recorder, x, block)
    return model_of(decoder, recorder.finish(x, gemma.logit_cap), _left(decoder, tensors))


def _layer_scale(decoder: Decoder, number: int, tensors: Mapping[str, object]) -> str | None:
    """The number that a layer's result is multiplied with; GGUF files may have none."""
    if decoder.names is not GGUF_NAMES:
        return f"{decoder.names.block}.{number}.layer_scalar"
    name = GGUF_NAMES.weight(number, "layer_output_scale")
    return name if name in tensors else None


def _left(decoder: Decoder, tensors: Mapping[str, object]) -> tuple[str, ...]:
    """Keys and values of layers that read another's entries, where the file has them."""
    readers = [number for number, keeper in enumerate(decoder.kept_by) if number != keeper]
    every = [decoder.names.weight(number, *part) for number in readers for part in _KEPT]
    return tuple(name for name in every if name in tensors)
