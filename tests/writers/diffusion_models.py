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
Entries = dict[int, tuple[Float32, Float32]]
"""Keys and values of each layer, (T, KV heads, D)."""

MASK, END, VOCABULARY = 256, 257, 258
LAYERS, HIDDEN, HEADS, FFN, SIZE, EPS, THETA = 2, 48, 4, 80, 12, 1e-6, 10000.0
WIDTH, EXPERTS, CHOSEN, GROUPS, FACTOR = 24, 8, 3, (4, 2), 2.5
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
    "llada2": {
        **{key: value for key, value in QWEN.items() if key != "hidden_act"},
        "architectures": ["LLaDA2MoeModelLM"], "model_type": "llada2_moe", "head_dim": SIZE, "num_experts": 8,
        "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2, "num_shared_experts": 2,
        "first_k_dense_replace": 1, "moe_intermediate_size": WIDTH, "partial_rotary_factor": 0.5,
        "routed_scaling_factor": 2.5, "norm_topk_prob": True, "score_function": "sigmoid",
    },
    "sdar-moe": {
        **QWEN, "architectures": ["SDARMoeForCausalLM"], "model_type": "sdar_moe", "head_dim": SIZE,
        "block_size": 4, "attention_bias": False, "num_experts": 8, "num_experts_per_tok": 3,
        "moe_intermediate_size": WIDTH, "norm_topk_prob": True, "decoder_sparse_step": 1,
        "mlp_only_layers": [0], "router_aux_loss_coef": 0.001, "output_router_logits": False,
    },
    "llada-moe": {
        **{key: value for key, value in QWEN.items() if key not in ("intermediate_size", "mask_token_id")},
        "architectures": ["LLaDAMoEModelLM"], "model_type": "llada", "num_key_value_heads": HEADS,
        "mask_token_id": MASK, "dense_intermediate_size": FFN, "expert_intermediate_size": WIDTH,
        "shared_expert_intermediate_size": None, "moe_layer_freq": [0, 1], "num_experts": 8,
        "num_experts_per_tok": 3, "qk_layernorm": True, "norm_topk_prob": None, "clip_qkv": None,
        "partial_rotary_factor": 1, "routed_scaling_factor": 1, "attention_bias": False,
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
BIASED = {"fast-dllm", "dream", "wedlm-biases"}
NORMED, SPARSE = {"sdar", "wedlm", "llada2", "sdar-moe", "llada-moe"}, {"llada2", "sdar-moe", "llada-moe"}
LLADA_NAMES = {
    "model.embed_tokens": "model.transformer.wte", "model.norm": "model.transformer.ln_f",
    "lm_head": "model.transformer.ff_out", "input_layernorm": "attn_norm", "self_attn.q_proj": "q_proj",
    "self_attn.k_proj": "k_proj", "self_attn.v_proj": "v_proj", "self_attn.o_proj": "attn_out",
    "post_attention_layernorm": "ff_norm", "mlp.gate_proj": "ff_proj", "mlp.up_proj": "up_proj",
    "mlp.down_proj": "ff_out",
}  # fmt: skip
LLADA2_NAMES = {
    "model.embed_tokens": "model.word_embeddings", "self_attn.q_norm": "attention.query_layernorm",
    "self_attn.k_norm": "attention.key_layernorm", "self_attn.o_proj": "attention.dense",
}  # fmt: skip


@dataclass(frozen=True)
class PlainModel:
    """The weights, by Qwen's names, and the forward pass."""

    weights: dict[str, Float32]
    kv_heads: int
    rotary: int = SIZE
    normalised: bool = False

    def logits(
        self, tokens: list[int], positions: list[int], sees: Bool, beside: Entries | None = None,
        note: Entries | None = None,
    ) -> Float32:  # fmt: skip
        """(T, V) logits of T rows at some positions; `sees` (T, T): row i sees row j. All rows see what is
        `beside` them too; their own keys and values are put into `note`."""
        x = self.weights["model.embed_tokens.weight"][tokens]
        for layer in range(LAYERS):
            x = x + self._attention(
                layer, self._norm(x, f"{layer}.input_layernorm"), positions, sees, (beside, note)
            )
            h = self._norm(x, f"{layer}.post_attention_layernorm")
            sparse = f"model.layers.{layer}.mlp.gate.weight" in self.weights
            x = x + (self._experts(layer, h) if sparse else self._feed_forward(f"{layer}.mlp", h))
        return (_normed(x) * self.weights["model.norm.weight"]) @ self.weights["lm_head.weight"].T

    def _attention(
        self, layer: int, h: Float32, positions: list[int], sees: Bool,
        entries: tuple[Entries | None, Entries | None],
    ) -> Float32:  # fmt: skip
        q, k, v = (self._project(h, f"{layer}.self_attn.{part}_proj") for part in "qkv")
        q, k, v = (part.reshape(len(h), -1, SIZE) for part in (q, k, v))
        if f"model.layers.{layer}.self_attn.q_norm.weight" in self.weights:
            q = _normed(q) * self.weights[f"model.layers.{layer}.self_attn.q_norm.weight"]
            k = _normed(k) * self.weights[f"model.layers.{layer}.self_attn.k_norm.weight"]
        q, k = (
            np.concatenate([_turned(part[..., : self.rotary], positions), part[..., self.rotary :]], axis=-1)
            for part in (q, k)
        )
        beside, note = entries
        if note is not None:
            note[layer] = k, v
        if beside is not None:
            k, v = (np.concatenate([old, new]) for old, new in zip(beside[layer], (k, v), strict=True))
            sees = np.concatenate([np.ones((len(h), len(k) - len(h)), bool), sees], axis=1)
        out = np.zeros_like(q)
        for head in range(HEADS):
            shared = head // (HEADS // self.kv_heads)
            scores = q[:, head] @ k[:, shared].T / np.float32(np.sqrt(SIZE))
            scores = np.where(sees, scores, np.float32(-np.inf))
            raised = np.exp(scores - scores.max(axis=1, keepdims=True))
            out[:, head] = raised / raised.sum(axis=1, keepdims=True) @ v[:, shared]
        return self._project(out.reshape(len(h), -1), f"{layer}.self_attn.o_proj")

    def _feed_forward(self, part: str, h: Float32) -> Float32:
        gate, up = (self._project(h, f"{part}.{one}_proj") for one in ("gate", "up"))
        return self._project(gate / (1 + np.exp(-gate)) * up, f"{part}.down_proj")

    def _experts(self, layer: int, h: Float32) -> Float32:
        """LLaDA2: sigmoids, the best groups by their two best with a bias, weights without it, and a shared
        part. Others: the best of a softmax, divided by their sum or not."""
        if f"model.layers.{layer}.mlp.gate.expert_bias" not in self.weights:
            return self._plain_experts(layer, h)
        y = self._feed_forward(f"{layer}.mlp.shared_experts", h)
        scores = 1 / (1 + np.exp(-self._project(h, f"{layer}.mlp.gate")))
        biased = scores + self.weights[f"model.layers.{layer}.mlp.gate.expert_bias"]
        for row in range(len(h)):
            groups = biased[row].reshape(GROUPS[0], -1)
            best = np.argsort(-np.sort(groups, axis=1)[:, -2:].sum(axis=1), kind="stable")[: GROUPS[1]]
            allowed = np.isin(np.arange(EXPERTS) // (EXPERTS // GROUPS[0]), best)
            chosen = np.argsort(-np.where(allowed, biased[row], -np.inf), kind="stable")[:CHOSEN]
            shares = scores[row, chosen] / scores[row, chosen].sum() * np.float32(FACTOR)
            for expert, share in zip(chosen, shares, strict=True):
                y[row] += share * self._feed_forward(f"{layer}.mlp.experts.{expert}", h[row : row + 1])[0]
        return y

    def _plain_experts(self, layer: int, h: Float32) -> Float32:
        y, logits = np.zeros_like(h), self._project(h, f"{layer}.mlp.gate")
        for row in range(len(h)):
            raised = np.exp(logits[row] - logits[row].max())
            scores = raised / raised.sum()
            chosen = np.argsort(-scores, kind="stable")[:CHOSEN]
            shares = scores[chosen] / (scores[chosen].sum() if self.normalised else 1)
            for expert, share in zip(chosen, shares, strict=True):
                y[row] += share * self._feed_forward(f"{layer}.mlp.experts.{expert}", h[row : row + 1])[0]
        return y

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
    size = x.shape[-1]
    frequency = (1 / THETA ** (np.arange(0, size, 2) / size)).astype(np.float32)
    angles = np.array(positions, np.float32)[:, None, None] * frequency
    low, high = x[..., : size // 2], x[..., size // 2 :]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def make_diffusion_model(name: str, folder: Path, seed: int = 1, **changes: Any) -> PlainModel:
    """Save a model of a family with a tokenizer of bytes, a mask and an end token; `changes` are of its
    config. The same weights as numpy has them."""
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIGS[name] | changes
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": END}))
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    kv_heads = config.get("num_key_value_heads", HEADS)
    weights = _weights(name, kv_heads, seed)
    stored = dict(weights)
    if name == "llada2":
        for layer in range(LAYERS):
            parts = [stored.pop(f"model.layers.{layer}.self_attn.{part}_proj.weight") for part in "qkv"]
            stored[f"model.layers.{layer}.attention.query_key_value.weight"] = np.concatenate(parts)
    called = {_called(key, name): values for key, values in stored.items()}
    save_file(called, folder / "model.safetensors")
    return PlainModel(weights, kv_heads, SIZE // 2 if name == "llada2" else SIZE, name == "sdar-moe")


def _called(key: str, name: str) -> str:
    """A weight's name in the files of a family."""
    names = {"llada": LLADA_NAMES, "llada2": LLADA2_NAMES}.get(name, {})
    stem, _, kind = key.rpartition(".")
    if not names or not stem.startswith("model.layers.") or stem in names:
        return f"{names.get(stem, stem)}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    block = "model.transformer.blocks" if name == "llada" else "model.layers"
    return f"{block}.{layer}.{names.get(part, part)}.{kind}"


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
        if name in SPARSE and layer:
            block = {part: shape for part, shape in block.items() if "mlp" not in part} | _sparse(name)
        if name in NORMED:
            block |= {"self_attn.q_norm.weight": (SIZE,), "self_attn.k_norm.weight": (SIZE,)}
        shapes |= {f"model.layers.{layer}.{part}": shape for part, shape in block.items()}
    found = {}
    for key, shape in shapes.items():
        values = random.standard_normal(shape)
        if "norm" in key:
            values = 1 + 0.2 * values
        elif key.endswith("expert_bias"):
            values = 0.3 * values
        elif len(shape) > 1 and "embed" not in key:
            values = values * (6 if key.startswith("lm_head") else 1.5) / np.sqrt(shape[-1])
        if "embed" in key:
            values[MASK] *= 0.1  # so that what a mask becomes depends on where it is
        elif ".q_proj.w" in key or ".k_proj.w" in key:
            values *= 1.6
        found[key] = values.astype(np.float32)
    return found


def _sparse(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a router, experts, and of LLaDA2 those that are shared."""
    shapes: dict[str, tuple[int, ...]] = {"mlp.gate.weight": (EXPERTS, HIDDEN)}
    parts = [(f"experts.{number}", WIDTH) for number in range(EXPERTS)]
    if name == "llada2":
        shapes["mlp.gate.expert_bias"] = (EXPERTS,)
        parts.append(("shared_experts", 2 * WIDTH))
    for part, width in parts:
        for one, shape in (("gate", (width, HIDDEN)), ("up", (width, HIDDEN)), ("down", (HIDDEN, width))):
            shapes[f"mlp.{part}.{one}_proj.weight"] = shape
    return shapes


def byte_tokenizer() -> Tokenizer:
    """A token for each byte, and the two special ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|mask|>", special=True), AddedToken("<|end|>", special=True)])
    return made
