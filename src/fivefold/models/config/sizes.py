"""The sizes of a model, as both kinds of checkpoint give them, and held against its first tensors.

No size is believed that the file has no bytes for.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError
from fivefold.core.layout import ModelShape

from .keys import Keys
from .names import FACTORS, GGUF_NAMES, JSON_NAMES, Names
from .tensors import require_tensor

GGUF_SIZE_KEYS = frozenset(
    {"block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
     "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"}
)  # fmt: skip
"""The keys that `read_gguf_shape` reads, under the architecture's prefix."""

JSON_SIZE_KEYS = frozenset(
    {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
     "intermediate_size", "vocab_size", "max_position_embeddings"}
)  # fmt: skip
"""The keys that `read_json_shape` reads."""

PLAIN_KEYS = frozenset({"is_encoder_decoder", "add_cross_attention", "pruned_heads"})
"""The keys that `require_plain` reads."""

_AGAIN = "fetch the file again or convert the model again"


def read_gguf_shape(
    keys: Keys, checkpoint: Checkpoint, ffn: str = "feed_forward_length", head_size: int | None = None
) -> ModelShape:
    """Sizes from GGUF metadata; the vocabulary is as long as the table of embeddings. `ffn` is the key of the
    feed-forward part's inner width. A family that gives `head_size` has read the lengths of heads itself."""
    hidden, heads = keys.size("embedding_length"), keys.size("attention.head_count")
    if head_size is None:
        head_size = keys.size("attention.key_length", max(hidden // heads, 1))
        keys.only("attention.value_length", head_size, head_size)
    table = checkpoint.tensors.get(GGUF_NAMES.embedding)
    if table is None or len(table.shape) != len(("rows", "columns")):
        raise FileError(f"tensor {GGUF_NAMES.embedding} is missing or not a matrix", where=keys.where,
                        remedy=_AGAIN)  # fmt: skip
    keys.only("vocab_size", table.shape[0], table.shape[0])
    context = keys.size("context_length")
    return ModelShape(
        keys.family, _layers(keys, "block_count", checkpoint, GGUF_NAMES), hidden, heads,
        keys.size("attention.head_count_kv", heads), head_size, keys.size(ffn), table.shape[0], context,
    )  # fmt: skip


def read_json_shape(
    keys: Keys, checkpoint: Checkpoint, family: str, head_size: int | None = None, one_for_each: bool = False
) -> ModelShape:
    """Sizes from a config.json.

    `head_size` is what silence about head_dim means, None for the share of a head in the hidden size.
    `one_for_each`: silence about num_key_value_heads means as many as heads, which null means to all.
    """
    hidden, heads = keys.size("hidden_size"), keys.size("num_attention_heads")
    one_for_each = one_for_each or "num_key_value_heads" in keys
    return ModelShape(
        family, _layers(keys, "num_hidden_layers", checkpoint, JSON_NAMES), hidden, heads,
        keys.size("num_key_value_heads", heads if one_for_each else None),
        keys.size("head_dim", head_size or max(hidden // heads, 1)), keys.size("intermediate_size"),
        keys.size("vocab_size"), keys.size("max_position_embeddings"),
    )  # fmt: skip


def read_each(keys: Keys, key: str, layers: int) -> tuple[int, ...]:
    """Sizes of each layer under a key of GGUF, which may hold one for all."""
    said = keys.get(key)
    if not isinstance(said, list | np.ndarray):
        return (keys.size(key),) * layers
    if len(said) != layers:
        raise keys.malformed(key, f"names {len(said)} layers of {layers}")
    return tuple(keys.saying({key: int(one)}).size(key) for one in said)


def require_plain(keys: Keys, model_type: str) -> None:
    """UnsupportedError for a config.json of another model type, or that asks for what no decoder here has."""
    keys.only("model_type", model_type, model_type)
    keys.only("pruned_heads", {}, {})
    for key in ("is_encoder_decoder", "add_cross_attention"):
        keys.only(key, False, False)


def _layers(keys: Keys, key: str, checkpoint: Checkpoint, names: Names) -> int:
    """The number of layers, of which each has tensors: nothing is made for layers that are not there."""
    layers = keys.size(key)
    if layers > len(checkpoint.tensors):
        raise FileError(
            f"tensor {names.weight(len(checkpoint.tensors), 'attn_norm')} is missing",
            where=str(checkpoint.path), remedy=f"the config says {layers} layers: fetch the file again",
        )  # fmt: skip
    return layers


def read_tied(keys: Keys, checkpoint: Checkpoint, silent: bool = False) -> bool:
    """Whether the table of embeddings is the head of a folder's model; `silent` is what silence means.

    A head of its own is used wherever there is one, as Transformers 5 does.
    """
    return keys.flag("tie_word_embeddings", silent) and JSON_NAMES.head not in checkpoint.tensors


def gguf_biases(checkpoint: Checkpoint, parts: Collection[str]) -> frozenset[str]:
    """Those parts of a block that have a bias in a GGUF file."""
    return frozenset(p for p in parts if GGUF_NAMES.weight(0, p, "bias") in checkpoint.tensors)


def has_factors(checkpoint: Checkpoint) -> bool:
    """Whether a GGUF file divides the rotary frequencies by factors of its own."""
    return FACTORS in checkpoint.tensors


def require_sizes(checkpoint: Checkpoint, shape: ModelShape, names: Names, rotary: int) -> None:
    """FileError unless sizes fit together and the first tensors have them."""
    where = str(checkpoint.path)
    if shape.heads % shape.kv_heads:
        raise FileError(
            f"{shape.heads} heads do not share {shape.kv_heads} KV heads evenly", where=where, remedy=_AGAIN
        )
    if rotary % 2 or rotary > shape.head_size:
        raise FileError(
            f"{rotary} dimensions of heads of {shape.head_size} cannot rotate in pairs", where=where,
            remedy=_AGAIN,
        )  # fmt: skip
    require_tensor(checkpoint, names.embedding, (shape.vocabulary, shape.hidden))
    require_tensor(checkpoint, names.weight(0, "attn_q"), (shape.heads * shape.head_size, shape.hidden))
