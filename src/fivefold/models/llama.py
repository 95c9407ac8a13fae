"""The Llama family: Llama 2 and 3.x, SmolLM2, Mistral, and Qwen2 by its biases.

Reads GGUF metadata or a config.json, refuses what it does not know, and records the forward pass: pre-norm
blocks, grouped-query attention with rotary positions, gated SiLU feed-forward. A Program names its weights
as they are called in the checkpoint, so none is renamed or copied. The members differ in biases and in how
rotary pairs lie: halves in Hugging Face's files, neighbours in GGUF's of Llama, which permute q and k so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.core.layout import CacheGroup, CacheLayout, ModelShape
from fivefold.program import Builder, Model, Program, RopeScaling, inverse_frequencies

from .config import HARMLESS_KEYS, ROPE_KEYS, Keys, read_rope, require_tensor

HALVES, NEIGHBOURS = 0, 1
ROPE_STYLES = {"llama": NEIGHBOURS, "qwen2": HALVES}
"""How rotary pairs lie in GGUF files, by architecture."""

"""What frequencies are divided by is above this in any file, or they would have no end."""

_PLAIN = "use a model of plain Llama, Mistral or Qwen2 form"
_GGUF_KEYS = {
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
    "attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon",
    "attention.key_length", "attention.value_length", "rope.freq_base", "rope.dimension_count",
    "rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length",
    "rope.scaling.finetuned", "rope.scaling.attn_factor", "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow", "rope.scale_linear",
}  # fmt: skip
_JSON_KEYS = {
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "vocab_size", "max_position_embeddings", "rms_norm_eps", "hidden_act",
    "tie_word_embeddings", "attention_bias", "mlp_bias", "sliding_window", "use_sliding_window",
    "max_window_layers", "layer_types", "is_encoder_decoder", "add_cross_attention", "pruned_heads",
}  # fmt: skip

_QKV = frozenset({"attn_q", "attn_k", "attn_v"})
_ATTENTION, _FEED_FORWARD = _QKV | {"attn_output"}, frozenset({"ffn_gate", "ffn_up", "ffn_down"})


@dataclass(frozen=True, slots=True)
class Names:
    """How a kind of checkpoint calls the family's weights; `parts` maps GGUF's words for a block's."""

    embedding: str
    norm: str
    head: str
    block: str
    parts: Mapping[str, str]

    def weight(self, layer: int, part: str, kind: str = "weight") -> str:
        """The name of one weight, or bias, of a block."""
        return f"{self.block}.{layer}.{self.parts.get(part, part)}.{kind}"


GGUF_NAMES = Names("token_embd.weight", "output_norm.weight", "output.weight", "blk", {})
JSON_NAMES = Names(
    "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "model.layers",
    {
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    },
)  # fmt: skip
FACTORS = "rope_freqs.weight"
"""The tensor of GGUF files that divides the rotary frequencies."""


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """The numbers of one model of the family. `biases` are the parts of a block that have one."""

    shape: ModelShape
    eps: float
    rope_base: float
    rotary: int
    scaling: RopeScaling
    style: int
    tied: bool
    biases: frozenset[str]
    rope_factors: bool
    names: Names


def read_config(checkpoint: Checkpoint, architecture: str) -> LlamaConfig:
    """The config of a checkpoint; FileError or UnsupportedError names the file and the key.

    What is read is held against the first tensors, so that no size is believed that the file has no
    bytes for.
    """
    if checkpoint.kind == "gguf":
        config = _read_gguf(checkpoint, architecture)
    else:
        config = _read_json(checkpoint, architecture)
    shape, names, where = config.shape, config.names, str(checkpoint.path)
    if shape.heads % shape.kv_heads:
        raise FileError(
            f"{shape.heads} heads do not share {shape.kv_heads} KV heads evenly", where=where,
            remedy="fetch the file again or convert the model again",
        )  # fmt: skip
    if config.rotary % 2 or config.rotary > shape.head_size:
        raise FileError(
            f"{config.rotary} dimensions of heads of {shape.head_size} cannot rotate in pairs", where=where,
            remedy="fetch the file again or convert the model again",
        )  # fmt: skip
    if shape.layers > len(checkpoint.tensors):
        raise FileError(
            f"tensor {names.weight(len(checkpoint.tensors), 'attn_norm')} is missing", where=where,
            remedy=f"the config says {shape.layers} layers: fetch the file again",
        )  # fmt: skip
    require_tensor(checkpoint, names.embedding, (shape.vocabulary, shape.hidden))
    require_tensor(checkpoint, names.weight(0, "attn_q"), (shape.heads * shape.head_size, shape.hidden))
    return config


def _read_gguf(checkpoint: Checkpoint, architecture: str) -> LlamaConfig:
    keys = Keys(checkpoint.metadata, str(checkpoint.path), architecture, f"{architecture}.")
    keys.refuse_unknown(_GGUF_KEYS, _PLAIN)
    hidden, heads = keys.size("embedding_length"), keys.size("attention.head_count")
    head_size = keys.size("attention.key_length", max(hidden // heads, 1))
    table = checkpoint.tensors.get(GGUF_NAMES.embedding)
    if table is None or len(table.shape) != len(("rows", "columns")):
        raise FileError(f"tensor {GGUF_NAMES.embedding} is missing or not a matrix", where=keys.where,
                        remedy="fetch the file again or convert the model again")  # fmt: skip
    keys.only("attention.value_length", head_size, head_size)
    keys.only("vocab_size", table.shape[0], table.shape[0])
    context = keys.size("context_length")
    shape = ModelShape(
        architecture, keys.size("block_count"), hidden, heads, keys.size("attention.head_count_kv", heads),
        head_size, keys.size("feed_forward_length"), table.shape[0], context,
    )  # fmt: skip
    biased = {
        part for part in _ATTENTION | _FEED_FORWARD
        if GGUF_NAMES.weight(0, part, "bias") in checkpoint.tensors
    }  # fmt: skip
    return LlamaConfig(
        shape, keys.number("attention.layer_norm_rms_epsilon", above=0),
        keys.number("rope.freq_base", 10000.0, above=1), keys.size("rope.dimension_count", head_size),
        _gguf_scaling(keys, context), ROPE_STYLES[architecture],
        tied=GGUF_NAMES.head not in checkpoint.tensors, biases=frozenset(biased),
        rope_factors=FACTORS in checkpoint.tensors, names=GGUF_NAMES,
    )  # fmt: skip


def _gguf_scaling(keys: Keys, context: int) -> RopeScaling:
    """The rotary scaling that GGUF's keys ask for."""
    kind = str(keys.only("rope.scaling.type", "none", "none", "linear", "yarn"))
    keys.only("rope.scaling.attn_factor", 1.0, 1.0)
    keys.flag("rope.scaling.finetuned", False)
    if kind == "none":
        legacy = _factor(keys, "rope.scale_linear", 1.0)
        return RopeScaling("linear", legacy) if legacy != 1.0 else RopeScaling()
    fast = keys.number("rope.scaling.yarn_beta_fast", 32.0, above=0)
    slow = keys.number("rope.scaling.yarn_beta_slow", 1.0, above=0)
    if slow >= fast:
        raise keys.malformed("rope.scaling.yarn_beta_slow", f"is {slow:g}, not below yarn_beta_fast {fast:g}")
    factor = _factor(keys, "rope.scaling.factor")
    return RopeScaling(kind, factor, keys.size("rope.scaling.original_context_length", context), fast, slow)


def _factor(keys: Keys, key: str, default: float | None = None) -> float:
    """By how much positions are stretched: at least 1."""
    value = keys.number(key, default, above=0)
    if value < 1:
        raise keys.malformed(key, f"is {value:g}, less than 1")
    return value


def _read_json(checkpoint: Checkpoint, architecture: str) -> LlamaConfig:
    member = {"MistralForCausalLM": "mistral", "Qwen2ForCausalLM": "qwen2"}.get(architecture, "llama")
    keys = Keys(checkpoint.metadata, str(checkpoint.path / "config.json"), architecture)
    keys.refuse_unknown(_JSON_KEYS | ROPE_KEYS | HARMLESS_KEYS, _PLAIN)
    keys.only("model_type", member, member)
    keys.only("hidden_act", "silu", "silu")
    keys.only("pruned_heads", {}, {})
    for key in ("is_encoder_decoder", "add_cross_attention"):
        keys.only(key, False, False)
    hidden, heads = keys.size("hidden_size"), keys.size("num_attention_heads")
    # Absent, it is as many as heads in Llama's config only; null means that in all.
    as_many = member == "llama" or "num_key_value_heads" in keys
    kv_heads = keys.size("num_key_value_heads", heads if as_many else None)
    head_size = keys.size("head_dim", max(hidden // heads, 1))
    context = keys.size("max_position_embeddings")
    _refuse_window(keys, member, context)
    base, scaling = read_rope(keys, context)
    shape = ModelShape(
        member, keys.size("num_hidden_layers"), hidden, heads, kv_heads, head_size,
        keys.size("intermediate_size"), keys.size("vocab_size"), context,
    )  # fmt: skip
    # A head of its own is used wherever there is one, as Transformers 5 does.
    tied = keys.flag("tie_word_embeddings", False) and JSON_NAMES.head not in checkpoint.tensors
    return LlamaConfig(
        shape, keys.number("rms_norm_eps", 1e-6, above=0), base, head_size, scaling, HALVES, tied,
        biases=_json_biases(keys, member), rope_factors=False, names=JSON_NAMES,
    )  # fmt: skip


def _json_biases(keys: Keys, member: str) -> frozenset[str]:
    """Parts with a bias: Llama's config says which, the others' must not say otherwise than they are."""
    if member == "llama":
        attention = _ATTENTION if keys.flag("attention_bias", False) else frozenset()
        return attention | (_FEED_FORWARD if keys.flag("mlp_bias", False) else frozenset())
    own = member == "qwen2"
    keys.only("attention_bias", own, own)
    keys.only("mlp_bias", False, False)
    return _QKV if own else frozenset()


def _refuse_window(keys: Keys, member: str, context: int) -> None:
    """UnsupportedError for attention through a sliding window that is smaller than the context."""
    window = keys.size("sliding_window", context)
    if member == "mistral" and "sliding_window" not in keys:
        window = 4096  # what Mistral's config means by silence
    used = member == "mistral" or (member == "qwen2" and keys.flag("use_sliding_window", False))
    if used and window < context:
        raise UnsupportedError(
            f"key sliding_window is {window}, less than the context of {context}", where=keys.where,
            remedy=f"use a model without a window, or set max_position_embeddings to {window}",
        )  # fmt: skip
    alike = ("full_attention", "sliding_attention") if used else ("full_attention",)
    kinds = keys.get("layer_types", [])
    if not isinstance(kinds, list) or not all(kind in alike for kind in kinds):
        raise UnsupportedError("key layer_types has other layers than full_attention", where=keys.where,
                               remedy=_PLAIN)  # fmt: skip


def layout_of(shape: ModelShape) -> CacheLayout:
    """One cache group: all layers keep all positions."""
    layers = tuple(range(shape.layers))
    return CacheLayout((CacheGroup("main", layers, shape.kv_heads, shape.head_size, shape.head_size),))


def build(config: LlamaConfig) -> Model:
    """The model from its config alone."""
    layout = layout_of(config.shape)
    return Model(config.shape, layout, {"main": _program(config, layout)})


def _program(config: LlamaConfig, layout: CacheLayout) -> Program:
    shape, names = config.shape, config.names
    record = Builder("main", layout)
    table = record.weight(names.embedding, shape.vocabulary, shape.hidden)
    values, magnitude = inverse_frequencies(config.rope_base, config.rotary, config.scaling)
    frequency = record.constant("inverse_frequency", values)
    factors = record.weight(FACTORS, config.rotary // 2) if config.rope_factors else None
    x = record.embed(table)
    angles = record.rope_angles(frequency, factors, magnitude)
    for number in range(shape.layers):
        with record.layer(number):
            x = _block(record, config, number, x, angles)
    x = record.gather_rows(x, "logits")
    x = record.rms_norm(x, record.weight(names.norm, shape.hidden), config.eps)
    head = table if config.tied else record.weight(names.head, shape.vocabulary, shape.hidden)
    return record.build(record.linear(x, head, label="logits"))


def _block(record: Builder, config: LlamaConfig, number: int, x: str, angles: str) -> str:
    """One layer: attention, then feed-forward, each added to its input."""
    shape, names = config.shape, config.names

    def project(source: str, part: str, outer: int) -> str:
        weight = record.weight(names.weight(number, part), outer, record.width(source))
        biased = part in config.biases
        bias = record.weight(names.weight(number, part, "bias"), outer) if biased else None
        return record.linear(source, weight, bias)

    def norm(source: str, part: str) -> str:
        return record.rms_norm(source, record.weight(names.weight(number, part), shape.hidden), config.eps)

    h = norm(x, "attn_norm")
    q = project(h, "attn_q", shape.heads * shape.head_size)
    k = project(h, "attn_k", shape.kv_heads * shape.head_size)
    v = project(h, "attn_v", shape.kv_heads * shape.head_size)
    q = record.rope(q, angles, shape.heads, config.style)
    k = record.rope(k, angles, shape.kv_heads, config.style)
    o = record.attention(q, (k, v), group="main", heads=shape.heads, scale=shape.head_size**-0.5)
    x = record.add(x, project(o, "attn_output", shape.hidden))
    h = norm(x, "ffn_norm")
    h = record.gated(project(h, "ffn_gate", shape.ffn), project(h, "ffn_up", shape.ffn))
    return record.add(x, project(h, "ffn_down", shape.hidden))


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program."""
    return build(read_config(checkpoint, architecture))
