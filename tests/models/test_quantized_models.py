"""Whole models in each quantized layout: logits are those of the same model in float32.

The numbers are those of the layout's definition, computed by the writer of the folder, not by its reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantized_writer as writer

from fivefold.core.batch import Float32
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.files import open_checkpoint, write_gguf
from fivefold.models import load_model

HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, VOCABULARY = 64, 192, 4, 2, 48
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "intermediate_size": FEED_FORWARD,
    "vocab_size": VOCABULARY, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip
TOKENS = [int(token) for token in np.random.default_rng(8).integers(0, VOCABULARY, 40)]

Logits = Callable[..., Float32]


def model(random: np.random.Generator) -> tuple[dict[str, writer.Array], dict[str, writer.Array]]:
    """The matrices of all layers by module, and the other tensors by name."""
    kv = HIDDEN * KV_HEADS // HEADS
    shapes = {
        "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (kv, HIDDEN),
        "self_attn.v_proj": (kv, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (FEED_FORWARD, HIDDEN),
        "mlp.up_proj": (FEED_FORWARD, HIDDEN), "mlp.down_proj": (HIDDEN, FEED_FORWARD),
    }  # fmt: skip
    matrices = {
        f"model.layers.{layer}.{part}": random.standard_normal(shape) * 1.5 / np.sqrt(shape[1])
        for layer in range(2)
        for part, shape in shapes.items()
    }
    norms = ["model.norm"] + [
        f"model.layers.{layer}.{part}_layernorm" for layer in (0, 1) for part in ("input", "post_attention")
    ]
    others = {f"{norm}.weight": 1 + 0.1 * random.standard_normal(HIDDEN) for norm in norms}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        others[name] = random.standard_normal((VOCABULARY, HIDDEN))
    return matrices, others


def write_both(folder: Path, layout: writer.Layout) -> tuple[Checkpoint, Checkpoint]:
    """The model as the maker stores it, and the same in float32."""
    matrices, others = model(np.random.default_rng(5))
    plain: dict[str, writer.Stored] = {name: ("F32", values) for name, values in others.items()}
    quantized = dict(plain)
    for module, values in matrices.items():
        own, numbers = layout.write(module, values)
        quantized |= {f"{module}.{leaf}": stored for leaf, stored in own.items()}
        plain[f"{module}.weight"] = ("F32", numbers)
    writer.write_folder(folder / "quantized", {**CONFIG, "quantization_config": layout.config}, quantized)
    writer.write_folder(folder / "plain", CONFIG, plain)
    return open_checkpoint(folder / "quantized"), open_checkpoint(folder / "plain")


def distance(ours: Float32, wanted: Float32) -> float:
    return float(np.abs(ours - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("name", writer.LAYOUTS)
@pytest.mark.parametrize("by", ["reference", "float"])
def test_logits_are_those_of_the_same_numbers(name: str, by: str, tmp_path: Path, logits: Logits) -> None:
    quantized, plain = write_both(tmp_path, writer.LAYOUTS[name])
    formats = {tensor.format for tensor in quantized.tensors.values()}
    assert formats - {"f32"}
    assert formats <= {"f32", "nvfp4", "mxfp4", "f8_e4m3"}
    assert distance(logits(quantized, TOKENS, by), logits(plain, TOKENS, by)) < (
        1e-6 if by == "reference" else 1e-3
    )


def test_a_gguf_file_with_the_factors_beside_it_is_the_same_model(tmp_path: Path, logits: Logits) -> None:
    """A file of Qwen2's form, since in one of Llama's rotary pairs lie otherwise."""
    quantized, _ = write_both(tmp_path, writer.LAYOUTS["modelopt-nvfp4"])
    names = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    tensors = []
    for name, tensor in quantized.tensors.items():
        stem = name.removesuffix(".weight")
        own = outside.get(stem) or f"blk.{stem.split('.')[2]}.{names[stem.split('.', 3)[3]]}"
        tensors.append(Tensor(f"{own}.weight", tensor.format, tensor.shape, tensor.data))
        if tensor.scales is not None:
            for kind in ("scale", "input_scale"):
                tensors.append(
                    Tensor(f"{own}.{kind}", "f32", (1,), tensor.scales.values.view(np.uint8).ravel())
                )
    keys = {
        "block_count": 2, "context_length": 128, "embedding_length": HIDDEN,
        "feed_forward_length": FEED_FORWARD, "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.layer_norm_rms_epsilon": np.float64(1e-5), "rope.freq_base": 10000.0,
    }  # fmt: skip
    metadata = {"general.architecture": "qwen2", **{f"qwen2.{key}": value for key, value in keys.items()}}
    write_gguf(tmp_path / "m.gguf", metadata, tensors)
    for by in ("reference", "float"):
        assert np.array_equal(
            logits(open_checkpoint(tmp_path / "m.gguf"), TOKENS, by), logits(quantized, TOKENS, by)
        )


def test_shapes_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    """A size that does not fit is found first, though there is also a scale that cannot be."""
    layout = writer.LAYOUTS["modelopt-nvfp4"]
    write_both(tmp_path, layout)
    folder = tmp_path / "quantized"
    stored = (folder / "model.safetensors").read_bytes()
    config = {**CONFIG, "quantization_config": layout.config}
    end = 8 + int.from_bytes(stored[:8], "little")
    start, _ = json.loads(stored[8:end])["model.layers.1.mlp.down_proj.weight_scale"]["data_offsets"]
    bad = bytearray(stored)
    bad[end + start] = 0x7F
    (folder / "model.safetensors").write_bytes(bad)
    assert load_model(open_checkpoint(folder)).shape.ffn == FEED_FORWARD
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 128}))
    with pytest.raises(FileError, match=r"gate_proj.weight is \(192, 64\), not \(128, 64\)"):
        load_model(open_checkpoint(folder))


@pytest.mark.parametrize("by", ["reference", "float", "int8"])
def test_a_scale_that_cannot_be_is_named_when_the_model_is_loaded(
    by: str, tmp_path: Path, logits: Logits
) -> None:
    layout = writer.LAYOUTS["fp8-block"]
    write_both(tmp_path, layout)
    folder = tmp_path / "quantized"
    stored = (folder / "model.safetensors").read_bytes()
    end = 8 + int.from_bytes(stored[:8], "little")
    start, _ = json.loads(stored[8:end])["model.layers.0.mlp.up_proj.weight_scale_inv"]["data_offsets"]
    bad = bytearray(stored)
    bad[end + start : end + start + 4] = np.float32(np.nan).tobytes()
    (folder / "model.safetensors").write_bytes(bad)
    with pytest.raises(FileError, match=r"up_proj.weight_scale_inv' holds nan, which no scale can be"):
        logits(open_checkpoint(folder), TOKENS, by)


def test_a_tensor_with_no_place_is_refused_by_the_family(tmp_path: Path) -> None:
    layout = writer.LAYOUTS["modelopt-fp8"]
    tensors: dict[str, writer.Stored] = {"model.layers.0.mlp.router.scale": ("F32", np.ones(4))}
    matrices, others = model(np.random.default_rng(5))
    for module, values in matrices.items():
        tensors |= {f"{module}.{leaf}": stored for leaf, stored in layout.write(module, values)[0].items()}
    tensors |= {name: ("F32", values) for name, values in others.items()}
    writer.write_folder(tmp_path, {**CONFIG, "quantization_config": layout.config}, tensors)
    with pytest.raises(UnsupportedError, match=r"tensor model.layers.0.mlp.router.scale has no place"):
        load_model(open_checkpoint(tmp_path))
