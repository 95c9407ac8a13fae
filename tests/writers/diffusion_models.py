"""Tiny diffusion models with random weights, saved as their authors' folders are, and what they compute.

The forward pass is plain numpy in float32 over a whole sequence, with a matrix that says which row sees
which: no cache, no steps, nothing of fivefold. Weights of the head are large, so that some guesses are sure
and some are not. Names of weights are Qwen's; LLaDA's differ (NVlabs/Fast-dLLM,
llada/model/modeling_llada.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

MASK, END, VOCABULARY = 256, 257, 258
LAYERS, HIDDEN, HEADS, FFN, SIZE, EPS, THETA = 2, 48, 4, 80, 12, 1e-6, 10000.0
QWEN: dict[str, Any] = {
    "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": 2, "intermediate_size": FFN, "vocab_size": VOCABULARY,
    "max_position_embeddings": 256, "rms_norm_eps": EPS,
    "rope_theta": THETA, "hidden_act": "silu", "tie_word_embeddings": False, "mask_token_id": MASK,
    "auto_map": {"AutoModelForCausalLM": "modeling.Model"}, "eos_token_id": END,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "sdar": {
        **QWEN, "architectures": ["SDARForCausalLM"], "model_type": "sdar", "head_dim": SIZE, "block_size": 4,
        "attention_bias": False, "fuse_cross_entropy": True, "debug": False,
    },
    "fast-dllm": {
        **QWEN, "architectures": ["Fast_dLLM_QwenForCausalLM"], "model_type": "Fast_dLLM_Qwen", "bd_size": 16,
    },
    "dream": {**QWEN, "architectures": ["DreamModel"], "model_type": "Dream", "use_mrope": False},
    "wedlm": {
        **QWEN, "architectures": ["WeDLMForCausalLM"], "model_type": "wedlm", "head_dim": SIZE,
        "qk_norm": True, "attention_bias": False,
    },
    "wedlm-biases": {
        **QWEN, "architectures": ["WeDLMForCausalLM"], "model_type": "wedlm", "head_dim": SIZE,
        "qk_norm": False, "attention_bias": True,
    },
    "llada": {
        "architectures": ["LLaDAModelLM"], "model_type": "llada", "d_model": HIDDEN, "n_layers": LAYERS,
        "n_heads": HEADS, "n_kv_heads": HEADS, "mlp_hidden_size": FFN, "vocab_size": VOCABULARY,
        "embedding_size": VOCABULARY, "max_sequence_length": 256, "rms_norm_eps": EPS, "rope_theta": THETA,
        "activation_type": "silu", "block_type": "llama", "layer_norm_type": "rms", "rope": True,
        "weight_tying": False, "include_bias": False, "include_qkv_bias": False, "mask_token_id": MASK,
        "auto_map": {"AutoModelForCausalLM": "modeling.Model"}, "eos_token_id": END, "init_std": 0.02,
    },
}  # fmt: skip
BIASED, NORMED = {"fast-dllm", "dream", "wedlm-biases"}, {"sdar", "wedlm"}
LLADA_NAMES = {
    "model.embed_tokens": "model.transformer.wte", "model.norm": "model.transformer.ln_f",
    "lm_head": "model.transformer.ff_out", "input_layernorm": "attn_norm", "self_attn.q_proj": "q_proj",
    "self_attn.k_proj": "k_proj", "self_attn.v_proj": "v_proj", "self_attn.o_proj": "attn_out",
    "post_attention_layernorm": "ff_norm", "mlp.gate_proj": "ff_proj", "mlp.up_proj": "up_proj",
    "mlp.down_proj": "ff_out",
}  # fmt: skip


@dataclass(frozen=True)
class PlainModel:
    """The weights, by Qwen's names, and the forward pass."""

    weights: dict[str, Float32]
    kv_heads: int

    def logits(self, tokens: list[int], positions: list[int], sees: Bool) -> Float32:
        """(T, V) logits of T rows at some positions; `sees` (T, T): row i sees row j."""
        x = self.weights["model.embed_tokens.weight"][tokens]
        for layer in range(LAYERS):
            x = x + self._attention(layer, self._norm(x, f"{layer}.input_layernorm"), positions, sees)
            h = self._norm(x, f"{layer}.post_attention_layernorm")
            gate, up = (self._project(h, f"{layer}.mlp.{part}_proj") for part in ("gate", "up"))
            x = x + self._project(gate / (1 + np.exp(-gate)) * up, f"{layer}.mlp.down_proj")
        return (_normed(x) * self.weights["model.norm.weight"]) @ self.weights["lm_head.weight"].T

    def _attention(self, layer: int, h: Float32, positions: list[int], sees: Bool) -> Float32:
        q, k, v = (self._project(h, f"{layer}.self_attn.{part}_proj") for part in "qkv")
        q, k, v = (part.reshape(len(h), -1, SIZE) for part in (q, k, v))
        if f"model.layers.{layer}.self_attn.q_norm.weight" in self.weights:
            q = _normed(q) * self.weights[f"model.layers.{layer}.self_attn.q_norm.weight"]
            k = _normed(k) * self.weights[f"model.layers.{layer}.self_attn.k_norm.weight"]
        q, k = _turned(q, positions), _turned(k, positions)
        out = np.zeros_like(q)
        for head in range(HEADS):
            shared = head // (HEADS // self.kv_heads)
            scores = q[:, head] @ k[:, shared].T / np.float32(np.sqrt(SIZE))
            scores = np.where(sees, scores, np.float32(-np.inf))
            raised = np.exp(scores - scores.max(axis=1, keepdims=True))
            out[:, head] = raised / raised.sum(axis=1, keepdims=True) @ v[:, shared]
        return self._project(out.reshape(len(h), -1), f"{layer}.self_attn.o_proj")

    def _norm(self, x: Float32, name: str) -> Float32:
        return _normed(x) * self.weights[f"model.layers.{name}.weight"]

    def _project(self, x: Float32, name: str) -> Float32:
        y = x @ self.weights[f"model.layers.{name}.weight"].T
        bias = self.weights.get(f"model.layers.{name}.bias")
        return y if bias is None else y + bias


def _normed(x: Float32) -> Float32:
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(EPS))


def _turned(x: Float32, positions: list[int]) -> Float32:
    """Heads (T, H, D) turned by their positions, pairs in halves."""
    frequency = (1 / THETA ** (np.arange(0, SIZE, 2) / SIZE)).astype(np.float32)
    angles = np.array(positions, np.float32)[:, None, None] * frequency
    low, high = x[..., : SIZE // 2], x[..., SIZE // 2 :]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def make_diffusion_model(name: str, folder: Path, seed: int = 1, **changes: Any) -> PlainModel:
    """Save a model of a family with a tokenizer of bytes, a mask and an end token; `changes` are of its
    config. The same weights as numpy has them."""
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIGS[name] | changes
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": END}))
    _tokenizer().save(str(folder / "tokenizer.json"))
    kv_heads = config.get("num_key_value_heads", HEADS)
    weights = _weights(name, kv_heads, seed)
    names = LLADA_NAMES if name == "llada" else {}
    save_file({_called(key, names): values for key, values in weights.items()}, folder / "model.safetensors")
    return PlainModel(weights, kv_heads)


def _called(key: str, names: dict[str, str]) -> str:
    stem, _, kind = key.rpartition(".")
    if not names or stem in names:
        return f"{names.get(stem, stem)}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"model.transformer.blocks.{layer}.{names[part]}.{kind}"


def _weights(name: str, kv_heads: int, seed: int) -> dict[str, Float32]:
    random = np.random.default_rng(seed)
    q, kv = HEADS * SIZE, kv_heads * SIZE
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (VOCABULARY, HIDDEN),
    }  # fmt: skip
    for layer in range(LAYERS):
        block: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (HIDDEN,), "post_attention_layernorm.weight": (HIDDEN,),
            "self_attn.q_proj.weight": (q, HIDDEN), "self_attn.k_proj.weight": (kv, HIDDEN),
            "self_attn.v_proj.weight": (kv, HIDDEN), "self_attn.o_proj.weight": (HIDDEN, q),
            "mlp.gate_proj.weight": (FFN, HIDDEN), "mlp.up_proj.weight": (FFN, HIDDEN),
            "mlp.down_proj.weight": (HIDDEN, FFN),
        }  # fmt: skip
        if name in BIASED:
            block |= {f"self_attn.{part}_proj.bias": (q if part == "q" else kv,) for part in "qkv"}
        if name in NORMED:
            block |= {"self_attn.q_norm.weight": (SIZE,), "self_attn.k_norm.weight": (SIZE,)}
        shapes |= {f"model.layers.{layer}.{part}": shape for part, shape in block.items()}
    found = {}
    for key, shape in shapes.items():
        values = random.standard_normal(shape)
        if "norm" in key:
            values = 1 + 0.2 * values
        elif len(shape) > 1 and "embed" not in key:
            values = values * (6 if key.startswith("lm_head") else 1.5) / np.sqrt(shape[-1])
        if "embed" in key:
            values[MASK] *= 0.1  # so that what a mask becomes depends on where it is
        elif ".q_proj.w" in key or ".k_proj.w" in key:
            values *= 1.6
        found[key] = values.astype(np.float32)
    return found


def _tokenizer() -> Tokenizer:
    """A token for each byte, and the two special ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|mask|>", special=True), AddedToken("<|end|>", special=True)])
    return made
