"""The shape that both twins have, Qwen3's, and where each weight lies in the vector that is trained.

Weights have the names of Hugging Face folders, so a vector is a folder's tensors and the other way round.
Embeddings are the head's rows too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from torch import Tensor

from fivefold.core.batch import Float32
from fivefold.core.errors import InputError

EMBEDDING, LAST_NORM = "model.embed_tokens.weight", "model.norm.weight"
DEVIATION = 0.02
"""Of the numbers that matrices begin with; those that write into the residual stream begin smaller."""


@dataclass(frozen=True, slots=True)
class TwinShape:
    """Sizes as config.json has them; InputError if they do not fit each other."""

    vocabulary: int
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    ffn: int = 640
    theta: float = 10000.0
    eps: float = 1e-6

    def __post_init__(self) -> None:
        sizes = (
            self.vocabulary,
            self.hidden,
            self.layers,
            self.heads,
            self.kv_heads,
            self.head_size,
            self.ffn,
        )
        if min(sizes) < 1 or self.heads % self.kv_heads or self.head_size % 2:
            raise InputError(
                f"sizes {sizes} (vocabulary, hidden, layers, heads, KV heads, head size, ffn) do not fit",
                where="the twins' shape", remedy="heads share KV heads evenly, and their size is even",
            )  # fmt: skip

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes, matrices as (M, K)."""
        hidden, q, kv = self.hidden, self.heads * self.head_size, self.kv_heads * self.head_size
        found: dict[str, tuple[int, ...]] = {EMBEDDING: (self.vocabulary, hidden)}
        for layer in range(self.layers):
            found |= {
                f"model.layers.{layer}.{name}.weight": shape
                for name, shape in (
                    ("input_layernorm", (hidden,)), ("self_attn.q_proj", (q, hidden)),
                    ("self_attn.k_proj", (kv, hidden)), ("self_attn.v_proj", (kv, hidden)),
                    ("self_attn.q_norm", (self.head_size,)), ("self_attn.k_norm", (self.head_size,)),
                    ("self_attn.o_proj", (hidden, q)), ("post_attention_layernorm", (hidden,)),
                    ("mlp.gate_proj", (self.ffn, hidden)), ("mlp.up_proj", (self.ffn, hidden)),
                    ("mlp.down_proj", (hidden, self.ffn)),
                )
            }  # fmt: skip
        return found | {LAST_NORM: (hidden,)}

    @property
    def parameters(self) -> int:
        """Numbers in all."""
        return sum(map(prod, self.weights().values()))

    def parts(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of the vector by the weights' names."""
        shapes = self.weights()
        split = vector.split([prod(shape) for shape in shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), split, strict=True)}

    def joined(self, weights: Mapping[str, Float32]) -> Float32:
        """The vector of these weights."""
        return np.concatenate([weights[name].reshape(-1).astype(np.float32) for name in self.weights()])

    def begin(self, seed: int) -> Float32:
        """The vector of drawn weights; norms are 1."""
        random = np.random.default_rng(seed)
        found: dict[str, Float32] = {}
        for name, shape in self.weights().items():
            if len(shape) == 1:
                found[name] = np.ones(shape, np.float32)
                continue
            inward = name.endswith(("o_proj.weight", "down_proj.weight"))
            deviation = DEVIATION / np.sqrt(2 * self.layers) if inward else DEVIATION
            found[name] = (deviation * random.standard_normal(shape)).astype(np.float32)
        return self.joined(found)

    def config(self, context: int) -> dict[str, object]:
        """The keys of config.json that both twins have."""
        return {
            "vocab_size": self.vocabulary, "hidden_size": self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_size, "intermediate_size": self.ffn, "rms_norm_eps": self.eps,
            "rope_theta": self.theta, "hidden_act": "silu", "attention_bias": False,
            "tie_word_embeddings": True, "max_position_embeddings": context, "torch_dtype": "float16",
        }  # fmt: skip
