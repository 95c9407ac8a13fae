"""The Llama family: Llama 2 and 3.x, SmolLM2, Mistral, and Qwen2 by its biases.

Reads GGUF metadata, refuses what it does not know, and records the forward pass: pre-norm blocks,
grouped-query attention with rotary positions, gated SiLU feed-forward. Weights keep their GGUF
names. The two GGUF architectures differ only in how rotary pairs lie and in q/k/v biases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.core.layout import CacheGroup, CacheLayout, ModelShape
from fivefold.program import Builder, Model, Program, RopeScaling, inverse_frequencies

ROPE_STYLES = {"llama": 1, "qwen2": 0}
"""How rotary pairs lie: 1 neighbours (GGUF permutes Llama's q and k so), 0 halves."""

_KNOWN = {
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
    "attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon",
    "attention.key_length", "attention.value_length", "rope.freq_base", "rope.dimension_count",
    "rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length",
    "rope.scaling.finetuned", "rope.scaling.attn_factor", "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow", "rope.scale_linear",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """The numbers of one model of the family."""

    shape: ModelShape
    eps: float
    rope_base: float
    rotary: int
    scaling: RopeScaling
    style: int
    tied: bool
    biases: bool
    rope_factors: bool


class _Keys:
    """Metadata under an architecture's prefix, with errors that name file and key."""

    def __init__(self, checkpoint: Checkpoint, architecture: str) -> None:
        self._file = str(checkpoint.path)
        self._values: Mapping[str, Any] = checkpoint.metadata
        self._prefix = f"{architecture}."
        for key in self._values:
            if key.startswith(self._prefix) and key[len(self._prefix) :] not in _KNOWN:
                raise UnsupportedError(
                    f"key {key} is not known to the {architecture} family",
                    where=self._file,
                    remedy="use a model of plain Llama or Qwen2 form",
                )

    def number(self, key: str, default: float | None = None) -> float:
        """A number under the prefix; without a default it must be there."""
        value = self._values.get(self._prefix + key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            found = "missing" if value is None else f"{value!r}, not a number"
            raise FileError(
                f"key {self._prefix}{key} is {found}", where=self._file, remedy="convert the model again"
            )
        return value

    def size(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self.number(key, default)
        if value != int(value) or value < 1:
            raise FileError(
                f"key {self._prefix}{key} is {value}, not a size",
                where=self._file,
                remedy="convert the model again",
            )
        return int(value)

    def scaling(self, context: int) -> RopeScaling:
        """The rotary scaling that the keys ask for."""
        kind = self._values.get(f"{self._prefix}rope.scaling.type", "none")
        legacy = self.number("rope.scale_linear", 1.0)
        if kind == "none":
            return RopeScaling("linear", legacy) if legacy != 1.0 else RopeScaling()
        if kind not in ("linear", "yarn"):
            raise UnsupportedError(
                f"key {self._prefix}rope.scaling.type is {kind!r}",
                where=self._file,
                remedy="known are none, linear and yarn",
            )
        original = self.size("rope.scaling.original_context_length", context)
        factor = self.number("rope.scaling.factor")
        return RopeScaling(
            str(kind), factor, original,
            self.number("rope.scaling.yarn_beta_fast", 32.0), self.number("rope.scaling.yarn_beta_slow", 1.0),
        )  # fmt: skip


def read_config(checkpoint: Checkpoint, architecture: str) -> LlamaConfig:
    """The config of a GGUF checkpoint; FileError or UnsupportedError names the key."""
    keys = _Keys(checkpoint, architecture)
    hidden, heads = keys.size("embedding_length"), keys.size("attention.head_count")
    kv_heads = keys.size("attention.head_count_kv", heads)
    head_size = keys.size("attention.key_length", max(hidden // heads, 1))
    if heads % kv_heads:
        raise FileError(
            f"{heads} heads do not share {kv_heads} KV heads evenly", where=str(checkpoint.path),
            remedy=f"check {architecture}.attention.head_count_kv",
        )  # fmt: skip
    table = checkpoint.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != len(("rows", "columns")):
        raise FileError("tensor token_embd.weight is missing or not a matrix", where=str(checkpoint.path),
                        remedy="fetch the file again or convert the model again")  # fmt: skip
    context = keys.size("context_length")
    shape = ModelShape(
        architecture, keys.size("block_count"), hidden, heads, kv_heads, head_size,
        keys.size("feed_forward_length"), table.shape[0], context,
    )  # fmt: skip
    return LlamaConfig(
        shape, keys.number("attention.layer_norm_rms_epsilon"), keys.number("rope.freq_base", 10000.0),
        keys.size("rope.dimension_count", head_size), keys.scaling(context), ROPE_STYLES[architecture],
        tied="output.weight" not in checkpoint.tensors, biases="blk.0.attn_q.bias" in checkpoint.tensors,
        rope_factors="rope_freqs.weight" in checkpoint.tensors,
    )  # fmt: skip


def layout_of(shape: ModelShape) -> CacheLayout:
    """One cache group: all layers keep all positions."""
    layers = tuple(range(shape.layers))
    return CacheLayout((CacheGroup("main", layers, shape.kv_heads, shape.head_size, shape.head_size),))


def build(config: LlamaConfig) -> Model:
    """The model from its config alone."""
    layout = layout_of(config.shape)
    return Model(config.shape, layout, {"main": _program(config, layout)})


def _program(config: LlamaConfig, layout: CacheLayout) -> Program:
    shape = config.shape
    record = Builder("main", layout)
    table = record.weight("token_embd.weight", shape.vocabulary, shape.hidden)
    values, magnitude = inverse_frequencies(config.rope_base, config.rotary, config.scaling)
    frequency = record.constant("inverse_frequency", values)
    factors = record.weight("rope_freqs.weight", config.rotary // 2) if config.rope_factors else None
    x = record.embed(table)
    angles = record.rope_angles(frequency, factors, magnitude)
    for number in range(shape.layers):
        with record.layer(number):
            x = _block(record, config, number, x, angles)
    x = record.gather_rows(x, "logits")
    x = record.rms_norm(x, record.weight("output_norm.weight", shape.hidden), config.eps)
    head = table if config.tied else record.weight("output.weight", shape.vocabulary, shape.hidden)
    return record.build(record.linear(x, head, label="logits"))


def _block(record: Builder, config: LlamaConfig, number: int, x: str, angles: str) -> str:
    """One layer: attention, then feed-forward, each added to its input."""
    shape, blk = config.shape, f"blk.{number}"

    def project(source: str, name: str, outer: int, bias: bool = False) -> str:
        weight = record.weight(f"{blk}.{name}.weight", outer, record.width(source))
        return record.linear(source, weight, record.weight(f"{blk}.{name}.bias", outer) if bias else None)

    h = record.rms_norm(x, record.weight(f"{blk}.attn_norm.weight", shape.hidden), config.eps)
    q = project(h, "attn_q", shape.heads * shape.head_size, config.biases)
    k = project(h, "attn_k", shape.kv_heads * shape.head_size, config.biases)
    v = project(h, "attn_v", shape.kv_heads * shape.head_size, config.biases)
    q = record.rope(q, angles, shape.heads, config.style)
    k = record.rope(k, angles, shape.kv_heads, config.style)
    o = record.attention(q, (k, v), group="main", heads=shape.heads, scale=shape.head_size**-0.5)
    x = record.add(x, project(o, "attn_output", shape.hidden))
    h = record.rms_norm(x, record.weight(f"{blk}.ffn_norm.weight", shape.hidden), config.eps)
    h = record.gated(project(h, "ffn_gate", shape.ffn), project(h, "ffn_up", shape.ffn))
    return record.add(x, project(h, "ffn_down", shape.hidden))


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program."""
    return build(read_config(checkpoint, architecture))
