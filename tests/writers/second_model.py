"""A second tiny model: another shape, context and template, and another token that ends an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.files import open_checkpoint, write_gguf
from fivefold.formats import FORMATS

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
LAYERS, HIDDEN, HEADS, FFN, CONTEXT = 3, 64, 4, 96, 128
TEMPLATE = (
    "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def write_second_model(path: Path, seed: int = 5) -> None:
    """Write it with random weights, on the tokens of the first."""
    metadata = dict(open_checkpoint(TINY).metadata)
    metadata |= {
        "llama.block_count": LAYERS, "llama.context_length": CONTEXT, "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": FFN, "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS, "tokenizer.chat_template": TEMPLATE,
        "tokenizer.ggml.eos_token_id": 2,
    }  # fmt: skip
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (265, HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        block = {
            "attn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (HIDDEN, HIDDEN),
            "attn_v": (HIDDEN, HIDDEN), "attn_output": (HIDDEN, HIDDEN), "ffn_norm": (HIDDEN,),
            "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN),
        }  # fmt: skip
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
    tensors = []
    for name, shape in shapes.items():
        values = random.standard_normal(shape) / np.sqrt(shape[-1]) * 1.5
        values = (1 + values * 0.1 if "norm" in name else values).astype(np.float32)
        form = "q8_0" if len(shape) > 1 else "f32"
        tensors.append(Tensor(name, form, shape, FORMATS[form].pack(values.ravel())))
    write_gguf(path, metadata, tensors)
