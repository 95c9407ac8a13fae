"""The LLaDA family: Llama's blocks whose rows all see each other, under names of OLMo's kind.

LLaDA 8B and 1.5 (arXiv 2502.09992). The config.json is OLMo's: it can ask for blocks, norms and positions
of other kinds, which no LLaDA has and which are refused. Norms, attention and feed-forward are Llama's,
rotary pairs lie in halves; the gate is `ff_proj`. Sight is no matter of a Program: rows say what they see,
so the rules of decoding say it. The family's MoE has Qwen3-MoE's blocks, and is read as such.
"""

from __future__ import annotations

from dataclasses import replace

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.diffusion import DiffusionRules
from fivefold.core.layout import ModelShape
from fivefold.program import Model

from .config import (
    HARMLESS_KEYS,
    QKV,
    ROPE_KEYS,
    Keys,
    Names,
    open_keys,
    read_json_shape,
    read_rope,
    require_sizes,
)
from .recording import Decoder, Layer, Rotation, record_model

NAMES = Names(
    "model.transformer.wte.weight", "model.transformer.ln_f.weight", "model.transformer.ff_out.weight",
    "model.transformer.blocks",
    {"attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj", "attn_output": "attn_out",
     "ffn_norm": "ff_norm", "ffn_gate": "ff_proj", "ffn_up": "up_proj", "ffn_down": "ff_out"},
)  # fmt: skip

_ONLY: dict[str, tuple[object, ...]] = {
    "model_type": ("llada", "llada"), "block_type": ("sequential", "llama"),
    "activation_type": ("swiglu", "silu"), "block_group_size": (1, 1), "alibi": (False, False),
    "rope": (False, True), "rope_full_precision": (True, True, False),
    "multi_query_attention": (None, None, False), "attention_layer_norm": (False, False),
    "input_emb_norm": (False, False), "layer_norm_type": ("default", "rms"),
    "layer_norm_with_affine": (True, True), "bias_for_layer_norm": (None, None, False),
    "include_bias": (False, False), "scale_logits": (False, False),
}  # fmt: skip
"""Keys of what could be otherwise: what silence means, and what is known here."""

_SIZES = {
    "hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads", "intermediate_size": "mlp_hidden_size",
    "max_position_embeddings": "max_sequence_length",
}  # fmt: skip
"""Transformers' words for sizes, and this family's."""

_KEYS = (
    HARMLESS_KEYS | ROPE_KEYS | frozenset(_ONLY) | frozenset(_SIZES.values())
    | {"auto_map", "vocab_size", "embedding_size", "rms_norm_eps", "include_qkv_bias", "weight_tying",
       "mask_token_id",
       # training, and how its code runs it
       "alibi_bias_max", "attention_layer_norm_with_affine", "embedding_dropout", "residual_dropout",
       "flash_attention", "init_cutoff_factor", "init_device", "init_fn", "init_std", "mlp_ratio",
       "precision", "train_max_sequence_length"}
)  # fmt: skip


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program; FileError or UnsupportedError names the file and the key."""
    keys = open_keys(checkpoint, architecture, _KEYS, "use a model of plain LLaDA form")
    for key, (silent, *known) in _ONLY.items():
        keys.only(key, silent, *known)
    shape = _shape(keys, checkpoint)
    decoder = Decoder(
        shape, NAMES, keys.number("rms_norm_eps", 1e-5, above=0), tied=keys.flag("weight_tying", True),
        biases=QKV if keys.flag("include_qkv_bias", False) else frozenset(),
    )  # fmt: skip
    rotation = Rotation(*read_rope(keys, shape.context), shape.head_size)
    require_sizes(checkpoint, shape, NAMES, rotation.rotary)
    rules = DiffusionRules("full", 32, keys.size("mask_token_id", 126336), "low_confidence")
    return replace(_record(decoder, rotation), diffusion=rules)


def _shape(keys: Keys, checkpoint: Checkpoint) -> ModelShape:
    """The table of embeddings may be longer than the vocabulary."""
    said = {theirs: keys.get(ours) for theirs, ours in _SIZES.items() if keys.get(ours) is not None}
    said["vocab_size"] = keys.size("embedding_size", keys.size("vocab_size"))
    return read_json_shape(keys.saying(said), checkpoint, "llada", one_for_each=True)


def _record(decoder: Decoder, rotation: Rotation) -> Model:
    def block(layer: Layer, x: str, angles: str) -> str:
        """Attention, then feed-forward, each added to its input."""
        q, k, v = layer.heads(layer.norm(x, "attn_norm"))
        q, k = layer.rotate(q, k, angles, rotation.style)
        x = layer.build.add(x, layer.attend(q, k, v))
        return layer.build.add(x, layer.feed_forward(layer.norm(x, "ffn_norm")))

    return record_model(decoder, rotation, block)
