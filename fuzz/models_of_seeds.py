"""Small models and files, from which seeds and hostile inputs are made."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.files import write_gguf

SHAPE = {
    "block_count": 1, "context_length": 64, "embedding_length": 8, "feed_forward_length": 8,
    "attention.head_count": 2, "attention.head_count_kv": 1, "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.freq_base": 10000.0,
}  # fmt: skip
WORDS = [
    "<unk>",
    "<s>",
    "</s>",
    "<|end|>",
    *"abcdelorHn,.1\u2581\u0120\u010a",
    "he",
    "ll",
    "el",
    "\u2581a",
    "ab",
    "\u00f6",
]
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 8, "vocab_size": 6,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": True, "eos_token_id": 2, "bos_token_id": 1,
}  # fmt: skip


def weights(rows: int, names: dict[str, str] | None = None) -> dict[str, tuple[int, ...]]:
    """The tensors of a model of one layer."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd": (rows, 8), "output_norm": (8,), "attn_norm": (8,), "attn_q": (8, 8), "attn_k": (4, 8),
        "attn_v": (4, 8), "attn_output": (8, 8), "ffn_norm": (8,), "ffn_gate": (8, 8), "ffn_up": (8, 8),
        "ffn_down": (8, 8),
    }  # fmt: skip
    block = {"token_embd", "output_norm"}
    named = {part: f"{part}.weight" if part in block else f"blk.0.{part}.weight" for part in shapes} | (
        names or {}
    )
    return {named[part]: shape for part, shape in shapes.items()}


def gguf(config: Mapping[str, Any] | None = None, **keys: Any) -> bytes:
    """A whole model with a tokenizer of these keys, and other keys of its config."""
    tokens = keys.setdefault("tokens", WORDS)
    metadata = {
        "general.architecture": "llama",
        **{f"llama.{key}": value for key, value in {**SHAPE, **(config or {})}.items()},
        **{f"tokenizer.ggml.{key}": value for key, value in keys.items()},
    }  # fmt: skip
    tensors = [
        Tensor(name, "f32", shape, np.zeros(4 * int(np.prod(shape)), np.uint8))
        for name, shape in weights(len(tokens)).items()
    ]
    return _written(metadata, tensors)


def _written(metadata: Mapping[str, Any], tensors: list[Tensor]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.gguf"
        write_gguf(path, metadata, tensors)
        return path.read_bytes()


def nvfp4() -> bytes:
    """A matrix and those of two experts in NVFP4, with their factors."""
    shapes = {"blk.0.attn_q": (2, 64), "blk.0.ffn_up_exps": (2, 3, 64)}
    tensors = []
    for name, shape in shapes.items():
        blocks = np.full(36 * int(np.prod(shape)) // 64, 0x38, np.uint8)
        tensors.append(Tensor(f"{name}.weight", "nvfp4", shape, blocks))
        factors = np.full(shape[0] if len(shape) == 3 else 1, 0.5, np.float32)
        for kind in ("scale", "input_scale"):
            tensors.append(Tensor(f"{name}.{kind}", "f32", factors.shape, factors.view(np.uint8)))
    return _written({"general.architecture": "llama"}, tensors)


def safetensors(entries: dict[str, Any], size: int) -> bytes:
    """A safetensors file of zeros."""
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


def header(
    shapes: dict[str, tuple[int, ...]], kind: str = "F32", width: int = 4
) -> tuple[dict[str, Any], int]:
    """The header for tensors one after the other, and where they end."""
    entries: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        end = at + width * int(np.prod(shape))
        entries[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    return entries, at
