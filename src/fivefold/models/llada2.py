"""The LLaDA2 family: blocks with experts, decoded block by block.

LLaDA2.0 and 2.1 (arXiv 2512.15745 and 2602.08676), which have one architecture. Queries, keys and values
lie in one matrix, in that order; heads are normed, and half of each turns. The first layers have a plain
feed-forward part, the others experts as DeepSeek V3 chooses them (sigmoids, groups as good as their two
best, a bias for the choice alone) and a shared one beside them. A matrix of attention's output may have a
bias: the tensors say so, since the configs do not.

Names and keys: `modeling_llada2_moe.py` and `configuration_llada2_moe.py` as ZHZisZZ/dllm has them.
LLaDA2.1's config does not tell it from 2.0, so its denoiser, `editing`, has to be asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.diffusion import DiffusionRules
from fivefold.core.errors import FileError
from fivefold.program import Model, Routing, Source, Weight, taken

from .config import (
    HARMLESS_KEYS,
    JSON_SIZE_KEYS,
    ROPE_KEYS,
    Keys,
    Names,
    open_keys,
    read_json_shape,
    read_rope,
    require_tensor,
)
from .mixture import Mixture, folder_experts, read_chosen, record_mixture, silu_gate
from .recording import Decoder, Layer, Rotation, record_model

NAMES = Names(
    "model.word_embeddings.weight", "model.norm.weight", "lm_head.weight", "model.layers",
    {"attn_norm": "input_layernorm", "attn_qkv": "attention.query_key_value",
     "attn_q_norm": "attention.query_layernorm", "attn_k_norm": "attention.key_layernorm",
     "attn_output": "attention.dense", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
     "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "ffn_gate_inp": "mlp.gate",
     "ffn_gate_shexp": "mlp.shared_experts.gate_proj", "ffn_up_shexp": "mlp.shared_experts.up_proj",
     "ffn_down_shexp": "mlp.shared_experts.down_proj"},
)  # fmt: skip

_ONLY: dict[str, tuple[object, ...]] = {
    "model_type": ("llada2_moe", "llada2_moe"), "hidden_act": ("silu", "silu"),
    "use_qkv_bias": (False, False), "use_qk_norm": (True, True), "norm_head": (False, False),
    "norm_topk_prob": (True, True), "score_function": ("sigmoid", "sigmoid"),
    "moe_router_enable_expert_bias": (True, True), "use_sliding_window": (False, False),
}  # fmt: skip
"""Keys of what could be otherwise: what silence means, and what is known here."""

_KEYS = (
    HARMLESS_KEYS | JSON_SIZE_KEYS | ROPE_KEYS | frozenset(_ONLY)
    | {"auto_map", "mask_token_id", "rms_norm_eps", "tie_word_embeddings", "use_bias",
       "partial_rotary_factor", "num_experts", "num_shared_experts", "num_experts_per_tok", "n_group",
       "topk_group", "routed_scaling_factor", "moe_intermediate_size", "first_k_dense_replace",
       # windows that are not used, training, and how its code runs it
       "sliding_window", "max_window_layers", "embedding_dropout", "output_dropout", "output_router_logits"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a config says: the experts, layers before the first with experts, and how many are shared."""

    decoder: Decoder
    rotation: Rotation
    mixture: Mixture
    plain: int
    shared: int


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program; FileError or UnsupportedError names the file and the key."""
    keys = open_keys(checkpoint, architecture, _KEYS, "use a model of plain LLaDA2 form")
    for key, (silent, *known) in _ONLY.items():
        keys.only(key, silent, *known)
    numbers = _read(keys, checkpoint)
    rules = DiffusionRules(
        "block", 32, keys.size("mask_token_id", 156895), "confidence_threshold",
        {"threshold": 0.95, "as_drawn": True},
    )  # fmt: skip
    return replace(_record(numbers), diffusion=rules)


def _read(keys: Keys, checkpoint: Checkpoint) -> Numbers:
    shape = read_json_shape(keys, checkpoint, "llada2")
    rotary = int(shape.head_size * keys.number("partial_rotary_factor", 0.5, above=0))
    if shape.heads % shape.kv_heads or rotary % 2 or not 2 <= rotary <= shape.head_size:
        raise FileError(
            f"{shape.heads} heads do not share {shape.kv_heads} KV heads evenly, or {rotary} dimensions of "
            f"heads of {shape.head_size} cannot rotate in pairs", where=keys.where,
            remedy="fetch the model again",
        )  # fmt: skip
    require_tensor(checkpoint, NAMES.embedding, (shape.vocabulary, shape.hidden))
    biased = NAMES.weight(0, "attn_output", "bias") in checkpoint.tensors
    decoder = Decoder(
        shape, NAMES, keys.number("rms_norm_eps", 1e-5, above=0),
        tied=keys.flag("tie_word_embeddings", False) and NAMES.head not in checkpoint.tensors,
        biases=frozenset({"attn_output"} if biased else ()),
    )  # fmt: skip
    base, scaling = read_rope(keys, shape.context, beside={"partial_rotary_factor"})
    return Numbers(
        decoder, Rotation(base, scaling, rotary), _mixture(keys),
        _count(keys, "first_k_dense_replace"), _count(keys, "num_shared_experts"),
    )  # fmt: skip


def _mixture(keys: Keys) -> Mixture:
    """How experts are chosen. Weights of a single one are not divided by their sum."""
    experts = keys.size("num_experts", 16)
    chosen = read_chosen(keys, "num_experts_per_tok", experts, 2)
    groups, kept = keys.size("n_group", 8), keys.size("topk_group", 4)
    if experts % groups or (groups > 1 and experts // groups < 2) or kept * (experts // groups) < chosen:
        raise keys.malformed(
            "n_group", f"is {groups}, {kept} of which do not have {chosen} of {experts} experts"
        )
    factor = keys.number("routed_scaling_factor", 2.5, above=0)
    routing = Routing("sigmoid", chosen > 1, factor, groups, min(kept, groups), 2 if groups > 1 else 1)
    return Mixture(experts, chosen, keys.size("moe_intermediate_size"), routing)


def _count(keys: Keys, key: str) -> int:
    """A number that may be 0."""
    return keys.size(key) if keys.get(key, 0) != 0 else 0


def _record(numbers: Numbers) -> Model:
    decoder, mixture, rotation = numbers.decoder, numbers.mixture, numbers.rotation

    def block(layer: Layer, x: str, angles: str) -> str:
        """Attention over normed heads, then a feed-forward part or experts, each added to its input."""
        q, k, v = _heads(layer, layer.norm(x, "attn_norm"))
        q, k = layer.norm_heads(q, k)
        q, k = layer.rotate(q, k, angles, rotation.style)
        x = layer.build.add(x, layer.attend(q, k, v))
        h = layer.norm(x, "ffn_norm")
        if layer.number < numbers.plain:
            return layer.build.add(x, layer.feed_forward(h))
        bias = Weight(f"{NAMES.block}.{layer.number}.mlp.gate.expert_bias", (mixture.experts,))
        weights = replace(folder_experts(decoder, layer.number, mixture), choice_bias=bias)
        routed = record_mixture(layer, h, mixture, weights, silu_gate)
        if numbers.shared:
            routed = layer.build.add(
                routed, layer.feed_forward(h, kind="_shexp", ffn=numbers.shared * mixture.ffn)
            )
        return layer.build.add(x, routed)

    return record_model(decoder, rotation, block)


def _heads(layer: Layer, x: str) -> tuple[str, str, str]:
    """Queries, keys and values, whose rows lie behind one another in one matrix."""
    shape, build = layer.decoder.shape, layer.build
    counts = (shape.heads * shape.head_size, *(shape.kv_heads * shape.head_size,) * 2)
    whole = (sum(counts), shape.hidden)
    name = NAMES.weight(layer.number, "attn_qkv")

    def part(start: int, count: int) -> str:
        return build.linear(x, build.read(taken(Source(name, whole, start, count=count))))

    return part(0, counts[0]), part(counts[0], counts[1]), part(counts[0] + counts[1], counts[2])
