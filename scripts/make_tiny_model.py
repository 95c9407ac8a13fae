"""Write the tiny chat model that tests of the engine and the command line run: random weights, real form.

    .venv/bin/python scripts/make_tiny_model.py tests/engine/data/tiny.gguf

Two layers, a vocabulary of all bytes, a few merges and the marks of a chat turn, a context of 96. It
says nothing of sense, and quickly.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.files import write_gguf
from fivefold.formats import FORMATS

LAYERS, HIDDEN, HEADS, KV_HEADS, FFN, CONTEXT = 2, 32, 4, 2, 64, 96
TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def byte_characters() -> list[str]:
    """The characters that stand for the 256 bytes in byte-level vocabularies, in the order of the bytes."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte if byte in shown else next(hidden)) for byte in range(256)]


def metadata() -> dict[str, object]:
    """The model's keys."""
    merges = ["h e", "l l", "he ll", "hell o", "t h", "th e", "a n"]
    tokens = ["<|start|>", "<|end|>", *byte_characters(), *(pair.replace(" ", "") for pair in merges)]
    shape = {
        "block_count": LAYERS, "context_length": CONTEXT, "embedding_length": HIDDEN,
        "feed_forward_length": FFN, "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 10000.0,
    }  # fmt: skip
    return {
        "general.architecture": "llama",
        **{f"llama.{key}": value for key, value in shape.items()},
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([3, 3, *[1] * (len(tokens) - 2)], np.int32),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


def main() -> None:
    """Write the file named on the command line."""
    random = np.random.default_rng(11)
    head = HIDDEN // HEADS
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (265, HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        block = {
            "attn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (KV_HEADS * head, HIDDEN),
            "attn_v": (KV_HEADS * head, HIDDEN), "attn_output": (HIDDEN, HIDDEN), "ffn_norm": (HIDDEN,),
            "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN),
        }  # fmt: skip
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
    tensors = []
    for name, shape in shapes.items():
        values = random.standard_normal(shape) / np.sqrt(shape[-1]) * 1.5
        values = (1 + values * 0.1 if "norm" in name else values).astype(np.float32)
        form = "q8_0" if len(shape) > 1 else "f32"
        tensors.append(Tensor(name, form, shape, FORMATS[form].pack(values.ravel())))
    write_gguf(Path(sys.argv[1]), metadata(), tensors)


if __name__ == "__main__":
    main()
