"""What the tests of families share: tiny random models as GGUF files, Hugging Face models converted to
GGUF, and runners over them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.backends import NativeRunner, ReferenceRunner
from fivefold.core.batch import Float32
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.engine import score
from fivefold.executor import Settings, choose_isa
from fivefold.files import open_checkpoint, write_gguf
from fivefold.formats import FORMATS
from fivefold.models import load_model

Save = Callable[..., Checkpoint]


def stored(name: str, values: Float32, form: str = "f32") -> Tensor:
    """A tensor in a format; vectors stay f32, as in real files."""
    form = form if values.ndim > 1 else "f32"
    return Tensor(name, form, values.shape, FORMATS[form].pack(values.astype(np.float32).ravel()))


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes metadata and arrays by GGUF name to a file, and opens it."""

    def write(metadata: Mapping[str, Any], arrays: Mapping[str, Float32], form: str = "f32") -> Checkpoint:
        path = tmp_path / f"model-{len(list(tmp_path.iterdir()))}.gguf"
        write_gguf(path, metadata, [stored(name, values, form) for name, values in arrays.items()])
        return open_checkpoint(path)

    return write


@dataclass(frozen=True)
class Tiny:
    """A shape to make a random model of."""

    architecture: str = "llama"
    layers: int = 2
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 16
    ffn: int = 96
    vocabulary: int = 80
    tied: bool = True

    def metadata(self, **changes: Any) -> dict[str, Any]:
        """GGUF keys; names in `changes` have two underscores for a dot, and None takes a key out."""
        keys: dict[str, Any] = {
            "block_count": self.layers, "context_length": 256, "embedding_length": self.hidden,
            "feed_forward_length": self.ffn, "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads, "attention.layer_norm_rms_epsilon": 1e-5,
            "attention.key_length": self.head_size, "attention.value_length": self.head_size,
            "rope.dimension_count": self.head_size, "rope.freq_base": 10000.0,
        }  # fmt: skip
        keys |= {key.replace("__", "."): value for key, value in changes.items()}
        known = {f"{self.architecture}.{key}": value for key, value in keys.items() if value is not None}
        return {"general.architecture": self.architecture, **known}

    def arrays(self, seed: int = 3) -> dict[str, Float32]:
        """Random weights by GGUF name, sized so that activations keep their scale."""
        random = np.random.default_rng(seed)
        q, kv = self.heads * self.head_size, self.kv_heads * self.head_size
        shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (self.vocabulary, self.hidden)}
        for layer in range(self.layers):
            block = {
                "attn_norm.weight": (self.hidden,), "attn_q.weight": (q, self.hidden),
                "attn_k.weight": (kv, self.hidden), "attn_v.weight": (kv, self.hidden),
                "attn_output.weight": (self.hidden, q), "ffn_norm.weight": (self.hidden,),
                "ffn_gate.weight": (self.ffn, self.hidden), "ffn_up.weight": (self.ffn, self.hidden),
                "ffn_down.weight": (self.hidden, self.ffn),
            }  # fmt: skip
            if self.architecture == "qwen2":
                block |= {"attn_q.bias": (q,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
            shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
        shapes["output_norm.weight"] = (self.hidden,)
        if not self.tied:
            shapes["output.weight"] = (self.vocabulary, self.hidden)
        result: dict[str, Float32] = {}
        for name, shape in shapes.items():
            values = random.standard_normal(shape)
            if "norm" in name:
                values = 1 + 0.1 * values
            elif len(shape) > 1 and name != "token_embd.weight":
                values = values * 1.5 / np.sqrt(shape[-1])
            result[name] = values.astype(np.float32)
        return result


@pytest.fixture
def tiny() -> type[Tiny]:
    return Tiny


NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.{kind}"
    _, _, layer, inner = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[inner]}.{kind}"


def neighbours(rows: Float32, heads: int) -> Float32:
    """Rows of each head so that those which rotate together follow each other."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def llama3_factors(rope: Mapping[str, Any], size: int) -> Float32:
    """What converters write as rope_freqs.weight: by how much each frequency is divided."""
    original, low, high = (
        rope[key] for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    factors = []
    for pair in range(size // 2):
        length = 2 * math.pi * rope["rope_theta"] ** (2 * pair / size)
        smooth = (original / length - low) / (high - low)
        mixed = 1 / ((1 - smooth) / rope["factor"] + smooth)
        factors.append(
            rope["factor"] if length > original / low else 1 if length < original / high else mixed
        )
    assert len(set(factors)) > 2, "the model should have kept, mixed and divided frequencies"
    return np.array(factors, np.float32)


@dataclass(frozen=True)
class Converted:
    """A Hugging Face model as converters write it to GGUF: keys, and arrays by GGUF name."""

    metadata: dict[str, Any]
    arrays: dict[str, Float32]


def convert(config: Mapping[str, Any], weights: Mapping[str, Float32], architecture: str = "") -> Converted:
    """With new names, and for `llama` the rows of q and k in another order. `architecture` forces one."""
    architecture = architecture or ("qwen2" if config["model_type"] == "qwen2" else "llama")
    rope, heads = config["rope_parameters"], config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    keys: dict[str, Any] = {
        "block_count": config["num_hidden_layers"], "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"], "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads, "attention.head_count_kv": config["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": np.float64(config["rms_norm_eps"]),
        "attention.key_length": size, "attention.value_length": size,
        "rope.dimension_count": size, "rope.freq_base": rope["rope_theta"],
    }  # fmt: skip
    if rope["rope_type"] in ("linear", "yarn"):
        keys |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": rope["factor"]}
    if rope["rope_type"] == "yarn":
        keys["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
    arrays: dict[str, Float32] = {}
    for name, values in weights.items():
        if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            shared = heads if "q_proj" in name else config["num_key_value_heads"]
            arrays[gguf_name(name)] = neighbours(values, shared)
        else:
            arrays[gguf_name(name)] = values
    if rope["rope_type"] == "llama3":
        arrays["rope_freqs.weight"] = llama3_factors(rope, size)
    named = {f"{architecture}.{key}": value for key, value in keys.items()}
    return Converted({"general.architecture": architecture, **named}, arrays)


@pytest.fixture
def converted() -> Callable[..., Converted]:
    return convert


@pytest.fixture
def logits() -> Callable[..., Float32]:
    """(T - 1, V) logits of a checkpoint by the native executor, or with "reference" by the numpy one."""

    def compute(checkpoint: Checkpoint, tokens: list[int], by: str = "float", isa: str = "auto") -> Float32:
        model = load_model(checkpoint)
        if by == "reference":
            return score(ReferenceRunner(model, checkpoint, 256), tokens)
        return score(NativeRunner(model, checkpoint, Settings(choose_isa(isa), 2, by, 64), 256), tokens)

    return compute
