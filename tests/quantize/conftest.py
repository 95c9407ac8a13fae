"""What the tests of quantizing share: small random models, as a GGUF file and as a Hugging Face folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.core.checkpoint import Checkpoint, Float32, Tensor
from fivefold.files import Filling, Outline, open_checkpoint, safetensors_layout, write_gguf
from fivefold.formats import FORMATS

HIDDEN, FFN, KV, VOCABULARY = 64, 128, 32, 80


def gguf_shapes(layers: int, tied: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, HIDDEN)}
    for layer in range(layers):
        block = {
            "attn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (KV, HIDDEN),
            "attn_v": (KV, HIDDEN), "attn_output": (HIDDEN, HIDDEN), "ffn_norm": (HIDDEN,),
            "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN),
        }  # fmt: skip
        shapes |= {f"blk.{layer}.{part}.weight": shape for part, shape in block.items()}
    shapes["output_norm.weight"] = (HIDDEN,)
    return shapes if tied else shapes | {"output.weight": (VOCABULARY, HIDDEN)}


NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}  # fmt: skip


def folder_name(name: str) -> str:
    if name in OUTSIDE:
        return OUTSIDE[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{NAMES[part]}.{kind}"


def random_values(name: str, shape: tuple[int, ...], random: np.random.Generator) -> Float32:
    values = random.standard_normal(shape)
    values = 1 + 0.1 * values if "norm" in name else values * 1.5 / np.sqrt(shape[-1])
    return values.astype(np.float32)


def stored(name: str, values: Float32, form: str) -> Tensor:
    return Tensor(name, form, values.shape, FORMATS[form].pack(values.ravel()))


@pytest.fixture
def gguf_source(tmp_path: Path) -> Callable[..., Checkpoint]:
    """Writes a model and opens it; `changes` are arrays that take the place of random ones."""

    def write(
        form: str = "f32", layers: int = 2, tied: bool = True, architecture: str = "llama", **changes: Float32
    ) -> Checkpoint:
        random = np.random.default_rng(5)
        keys: dict[str, Any] = {
            "block_count": layers, "context_length": 256, "embedding_length": HIDDEN,
            "feed_forward_length": FFN, "attention.head_count": 4, "attention.head_count_kv": 2,
            "attention.layer_norm_rms_epsilon": 1e-5,
        }  # fmt: skip
        metadata = {
            "general.architecture": architecture, "general.name": "small", "general.file_type": 0,
            **{f"{architecture}.{key}": value for key, value in keys.items()},
        }  # fmt: skip
        tensors = []
        for name, shape in gguf_shapes(layers, tied).items():
            values = changes.get(name.replace(".", "_"), random_values(name, shape, random))
            tensors.append(stored(name, values, form if values.ndim > 1 else "f32"))
        path = tmp_path / "source.gguf"
        write_gguf(path, metadata, tensors)
        return open_checkpoint(path)

    return write


@pytest.fixture
def folder_source(tmp_path: Path) -> Callable[..., Checkpoint]:
    """The same as a folder of Transformers'; matrices in bf16 or what is asked for."""

    def write(form: str = "bf16", layers: int = 2, tied: bool = True) -> Checkpoint:
        random = np.random.default_rng(5)
        config = {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
            "intermediate_size": FFN, "num_hidden_layers": layers, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 256,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": tied, "hidden_act": "silu", "head_dim": 16,
        }  # fmt: skip
        tensors = []
        for name, shape in gguf_shapes(layers, tied).items():
            tensors.append(stored(folder_name(name), random_values(name, shape, random), form))
        folder = tmp_path / "source"
        layout = safetensors_layout(Outline(one.name, one.format, one.shape) for one in tensors)
        with Filling(folder, layout, "", resume=False, folder=True) as filling:
            filling.put("all", {tensor.name: tensor.data for tensor in tensors})
            filling.complete()
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer_config.json").write_text("{}")
        return open_checkpoint(folder)

    return write
