"""Write a GGUF file of a published model's shape with random weights, to measure speed at real sizes.

    .venv/bin/fivefold pull smollm2-135m
    .venv/bin/python scripts/make_shape_model.py SMOLLM2.gguf llama-3.2-1b TARGET.gguf

What decides the time of a step are the sizes and the formats of the matrices, not the numbers in them. So the
codes of each block are drawn as they are stored, evenly, with one scale that keeps activations about where
norms leave them: the file says nothing of sense, and is written in seconds at any size. The vocabulary is
that of the named file, filled up to the size of the model's with tokens of no text. Formats are those that
llama.cpp's `llama-quantize MODEL Q4_0` gives such a model: 4 bits, and the head, which is the table of
embeddings where the model ties them, in q6_k, or in q8_0 where rows are no whole blocks of 256.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.files import open_gguf, write_gguf
from fivefold.formats import FORMATS

SPREAD = {"q4_0": 4.6, "q8_0": 73.9, "q6_k": 18.5 * 37.0}
"""The deviation of even codes: of 4 bits, of 8, and of 6 times an int8 scale that is drawn evenly."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A published model in numbers: sizes, the GGUF keys beside them, the format of embeddings and head."""

    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocabulary: int
    table: str
    tied: bool
    keys: Mapping[str, Any]
    head_norms: bool = False
    post_norms: bool = False
    factors: bool = False


_LLAMA = {"attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 500000.0}
SHAPES = {
    "llama-3.2-1b": Shape(
        "llama", 16, 2048, 32, 8, 64, 8192, 128256, "q6_k", True, _LLAMA, factors=True
    ),
    "llama-3.1-8b": Shape(
        "llama", 32, 4096, 32, 8, 128, 14336, 128256, "q6_k", False, _LLAMA, factors=True
    ),
    "gemma-3-1b": Shape(
        "gemma3", 26, 1152, 4, 1, 256, 6912, 262144, "q8_0", True,
        {"attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e6, "attention.sliding_window": 512},
        head_norms=True, post_norms=True,
    ),
}  # fmt: skip


def tensors_of(shape: Shape, matrix: str) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, format and shape of each tensor."""
    hidden, ffn, table = shape.hidden, shape.ffn, (shape.vocabulary, shape.hidden)
    yield "token_embd.weight", shape.table if shape.tied else matrix, table
    if not shape.tied:
        yield "output.weight", shape.table, table
    yield "output_norm.weight", "f32", (hidden,)
    if shape.factors:
        yield "rope_freqs.weight", "f32", (shape.head_size // 2,)
    queries, entries = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    matrices = {
        "attn_q": (queries, hidden), "attn_k": (entries, hidden), "attn_v": (entries, hidden),
        "attn_output": (hidden, queries), "ffn_gate": (ffn, hidden), "ffn_up": (ffn, hidden),
        "ffn_down": (hidden, ffn),
    }  # fmt: skip
    norms = {"attn_norm": hidden, "ffn_norm": hidden}
    if shape.head_norms:
        norms |= {"attn_q_norm": shape.head_size, "attn_k_norm": shape.head_size}
    if shape.post_norms:
        norms |= {"post_attention_norm": hidden, "post_ffw_norm": hidden}
    for layer in range(shape.layers):
        for part, sizes in matrices.items():
            yield f"blk.{layer}.{part}.weight", matrix, sizes
        for part, width in norms.items():
            yield f"blk.{layer}.{part}.weight", "f32", (width,)


def drawn(form: str, sizes: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """The stored bytes of a tensor: vectors of ones, matrices of even codes and one scale."""
    if len(sizes) == 1:
        return FORMATS["f32"].pack(np.ones(sizes, np.float32))
    layout = FORMATS[form]
    count = int(np.prod(sizes)) // layout.block
    blocks = np.frombuffer(random.bytes(count * layout.block_bytes), np.uint8).reshape(count, -1).copy()
    scale = np.array([sizes[-1] ** -0.5 / SPREAD[form]], np.float16).view(np.uint8)
    where = slice(-2, None) if form == "q6_k" else slice(0, 2)
    blocks[:, where] = scale
    return blocks.reshape(-1)


def metadata_of(shape: Shape, source: Path, context: int) -> dict[str, Any]:
    """The keys of the file, with the vocabulary of `source` filled up."""
    kept = {key: value for key, value in open_gguf(source).metadata.items() if key.startswith("tokenizer.")}
    words = list(kept["tokenizer.ggml.tokens"])
    missing = shape.vocabulary - len(words)
    kept["tokenizer.ggml.tokens"] = words + [f"<unused_{n}>" for n in range(missing)]
    kinds = np.asarray(kept["tokenizer.ggml.token_type"], np.int32)
    kept["tokenizer.ggml.token_type"] = np.concatenate([kinds, np.full(missing, 5, np.int32)])
    sizes = {
        "block_count": shape.layers, "context_length": context, "embedding_length": shape.hidden,
        "feed_forward_length": shape.ffn, "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads, "attention.key_length": shape.head_size,
        "attention.value_length": shape.head_size, "rope.dimension_count": shape.head_size,
        "vocab_size": shape.vocabulary, **shape.keys,
    }  # fmt: skip
    if shape.architecture == "gemma3":
        del sizes["rope.dimension_count"]
    return {
        "general.architecture": shape.architecture, "general.name": "random weights", "general.file_type": 2,
        **{f"{shape.architecture}.{key}": value for key, value in sizes.items()}, **kept,
    }  # fmt: skip


def main() -> None:
    """Write the file and say how large it is."""
    options = argparse.ArgumentParser(description="Write a model of a published shape with random weights.")
    options.add_argument("source", type=Path, help="a GGUF file whose vocabulary is taken")
    options.add_argument("shape", choices=sorted(SHAPES))
    options.add_argument("target", type=Path)
    options.add_argument("--format", default="q4_0", choices=("q4_0", "q8_0"), help="of the matrices")
    options.add_argument("--context", type=int, default=8192)
    given = options.parse_args()
    shape, random = SHAPES[given.shape], np.random.default_rng(8)
    tensors = [
        Tensor(name, form, sizes, drawn(form, sizes, random))
        for name, form, sizes in tensors_of(shape, given.format)
    ]
    write_gguf(given.target, metadata_of(shape, given.source, given.context), tensors)
    numbers = sum(int(np.prod(tensor.shape)) for tensor in tensors)
    print(f"{given.target}: {numbers / 1e9:.2f} billion numbers, {given.target.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
