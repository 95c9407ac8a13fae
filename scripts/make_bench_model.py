"""Write the model that the table of formats is measured on: Llama's form, random weights, each number format.

    .venv/bin/fivefold pull smollm2-135m
    .venv/bin/python scripts/make_bench_model.py SMOLLM2.gguf FOLDER --quantize LLAMA_CPP/bin/llama-quantize

The default model's rows of 576 are no whole blocks of 256, so most formats need another one. This one has
rows of 1024 and 3072, 194 million numbers, and takes its vocabulary from the named file. It says nothing of
sense. `model-f16.gguf` is written here, the others by llama.cpp's own tool from it, every matrix in the one
format (`--pure`), so that both programs read the same file.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.files import open_gguf, write_gguf
from fivefold.formats import FORMATS

LAYERS, HIDDEN, HEADS, KV_HEADS, FFN, CONTEXT = 12, 1024, 16, 4, 3072, 4096
TYPES = (
    "f32", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k",
    "iq4_nl", "iq4_xs",
)  # fmt: skip
TOOL_NAMES = {"q3_k": "Q3_K_S", "q4_k": "Q4_K_S", "q5_k": "Q5_K_S"}
"""What llama.cpp's tool calls the mixtures that are, with `--pure`, one format."""


def shapes(vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all tensors; the head is the embedding."""
    yield "token_embd.weight", (vocabulary, HIDDEN)
    yield "output_norm.weight", (HIDDEN,)
    kv_width = HIDDEN // HEADS * KV_HEADS
    block = {
        "attn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (kv_width, HIDDEN),
        "attn_v": (kv_width, HIDDEN), "attn_output": (HIDDEN, HIDDEN), "ffn_norm": (HIDDEN,),
        "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN),
    }  # fmt: skip
    for layer in range(LAYERS):
        for name, shape in block.items():
            yield f"blk.{layer}.{name}.weight", shape


def make(source: Path, target: Path) -> None:
    """The f16 model."""
    kept = {key: value for key, value in open_gguf(source).metadata.items() if key.startswith("tokenizer.")}
    shape = {
        "block_count": LAYERS, "context_length": CONTEXT, "embedding_length": HIDDEN,
        "feed_forward_length": FFN, "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 10000.0,
        "rope.dimension_count": HIDDEN // HEADS, "vocab_size": len(kept["tokenizer.ggml.tokens"]),
    }  # fmt: skip
    metadata = {
        "general.architecture": "llama", "general.name": "bench", "general.file_type": 1,
        **{f"llama.{key}": value for key, value in shape.items()}, **kept,
    }  # fmt: skip
    random = np.random.default_rng(31)
    tensors = []
    for name, sizes in shapes(len(kept["tokenizer.ggml.tokens"])):
        values = random.standard_normal(sizes, dtype=np.float32)
        norm = len(sizes) == 1
        values = 1 + values * np.float32(0.1) if norm else values * np.float32(sizes[-1] ** -0.5)
        form = "f32" if norm else "f16"
        tensors.append(Tensor(name, form, sizes, FORMATS[form].pack(values.ravel())))
    write_gguf(target, metadata, tensors)


def main() -> None:
    """Write the f16 model, then the others."""
    options = argparse.ArgumentParser(description="Write the models that formats are measured on.")
    options.add_argument("source", type=Path, help="a GGUF file whose vocabulary is taken")
    options.add_argument("folder", type=Path)
    options.add_argument("--quantize", type=Path, help="llama.cpp's llama-quantize")
    options.add_argument("--types", default=",".join(TYPES))
    given = options.parse_args()
    whole = given.folder / "model-f16.gguf"
    if not whole.exists():
        make(given.source, whole)
    for name in given.types.split(",") if given.quantize else []:
        target = given.folder / f"model-{name}.gguf"
        if not target.exists():
            tool_name = TOOL_NAMES.get(name, name).upper()
            command = [given.quantize, "--pure", whole, target, tool_name, "2"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        kinds = {t.format for t in open_gguf(target).tensors.values() if len(t.shape) > 1}
        print(f"{target}: {target.stat().st_size / 1e6:.0f} MB, matrices in {', '.join(sorted(kinds))}")


if __name__ == "__main__":
    main()
