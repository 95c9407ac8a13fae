"""The DeepSeek family: V2 and V2-Lite, V3, and R1, which is V3 in all but its weights.

Attention is latent (`latent.py`). The first layers have a feed-forward part, the others experts, and beside
them shared ones that every row takes, as wide together as one feed-forward part. V2 weighs experts by a
softmax, V3 by sigmoids, with a number for each expert that counts for the choice alone; larger models choose
within the best groups of experts only, which are as good as their best expert in V2, as their two best in V3.
YaRN's stretch raises the scale of scores too.

Folders hold the matrices of keys and values in one, `kv_b_proj`, head by head, and so do old GGUF files;
newer ones hold them apart, the keys' turned. Rotary pairs are neighbours in both. What V3's files have behind
the last layer, to draft tokens with, is known and not read. V3.2, whose rows choose what they attend to, is
refused.

Sources: arXiv 2405.04434 and 2412.19437; modeling of both in Transformers; llama.cpp's deepseek2.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.core.layout import ModelShape
from fivefold.program import HeadRows, Model, RopeScaling, Routing, Weight, of_heads

from .config import (
    GGUF_NAMES,
    GGUF_ROPE_KEYS,
    GGUF_SIZE_KEYS,
    HARMLESS_KEYS,
    JSON_NAMES,
    JSON_SIZE_KEYS,
    PLAIN_KEYS,
    ROPE_KEYS,
    Keys,
    config_of,
    has_factors,
    open_keys,
    read_gguf_rope,
    read_gguf_shape,
    read_json_shape,
    read_rope,
    read_tied,
    require_plain,
    require_tensor,
    rope_object,
)
from .latent import Latent, LatentWeights, record_latent_attention
from .mixture import (
    ExpertWeights,
    Mixture,
    folder_experts,
    gguf_experts,
    read_chosen,
    record_mixture,
    silu_gate,
)
from .recording import HALVES, NEIGHBOURS, Decoder, Layer, Rotation, record_model

INDEXED = frozenset({"deepseek32", "DeepseekV32ForCausalLM"})
"""Architectures whose rows choose the positions they attend to."""

_PLAIN = "use a model of plain DeepSeek V2, V3 or R1 form"
_GGUF_KEYS = (
    GGUF_SIZE_KEYS | GGUF_ROPE_KEYS
    | {"attention.layer_norm_rms_epsilon", "attention.q_lora_rank", "attention.kv_lora_rank",
       "attention.key_length_mla", "attention.value_length_mla", "leading_dense_block_count", "expert_count",
       "expert_used_count", "expert_shared_count", "expert_feed_forward_length", "expert_weights_scale",
       "expert_weights_norm", "expert_gating_func", "expert_group_count", "expert_group_used_count",
       "nextn_predict_layers", "rope.scaling.yarn_log_multiplier"}
)  # fmt: skip
_JSON_KEYS = (
    JSON_SIZE_KEYS | ROPE_KEYS | PLAIN_KEYS | HARMLESS_KEYS
    | {"rms_norm_eps", "hidden_act", "tie_word_embeddings", "attention_bias", "mlp_bias", "q_lora_rank",
       "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "qk_head_dim", "v_head_dim", "rope_interleave",
       "first_k_dense_replace", "moe_layer_freq", "moe_intermediate_size", "n_routed_experts", "num_experts",
       "num_local_experts", "n_shared_experts", "num_experts_per_tok", "n_group", "topk_group", "topk_method",
       "scoring_func", "norm_topk_prob", "routed_scaling_factor", "num_nextn_predict_layers",
       "num_mtp_layers", "aux_loss_alpha", "seq_aux", "ep_size", "output_router_logits",
       "router_aux_loss_coef", "auto_map"}
)  # fmt: skip
_NAMES = JSON_NAMES.but(
    attn_q_a="self_attn.q_a_proj", attn_q_a_norm="self_attn.q_a_layernorm", attn_q_b="self_attn.q_b_proj",
    attn_kv_a_mqa="self_attn.kv_a_proj_with_mqa", attn_kv_a_norm="self_attn.kv_a_layernorm",
    attn_kv_b="self_attn.kv_b_proj", ffn_gate_inp="mlp.gate", exp_probs_b="mlp.gate",
    ffn_gate_shexp="mlp.shared_experts.gate_proj", ffn_up_shexp="mlp.shared_experts.up_proj",
    ffn_down_shexp="mlp.shared_experts.down_proj",
)  # fmt: skip
_SHORT_EPS = 1e-6
"""Of the norms of short rows in folders, whatever rms_norm_eps says of the others."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What one model is made of.

    dense       the layers before those with experts.
    shared      how many experts every row takes beside the chosen ones.
    choice      there is a number for each expert that counts for the choice alone.
    drafting    layers behind the last, which are not read.
    """

    decoder: Decoder
    rotation: Rotation
    latent: Latent
    mixture: Mixture
    dense: int
    shared: int
    choice: bool
    drafting: int


def load(checkpoint: Checkpoint, architecture: str) -> Model:
    """Read the config and record the Program; FileError or UnsupportedError names the file and the key."""
    if architecture in INDEXED:
        raise UnsupportedError(
            "DeepSeek V3.2 chooses by an indexer which positions a row attends to, and there is none here",
            where=config_of(checkpoint), remedy="use DeepSeek V3 or R1",
        )  # fmt: skip
    read = _read_gguf if checkpoint.kind == "gguf" else _read_json
    numbers = read(checkpoint, architecture)
    shape, names = numbers.decoder.shape, numbers.decoder.names
    require_tensor(checkpoint, names.embedding, (shape.vocabulary, shape.hidden))
    model = _record(numbers, checkpoint.tensors)
    behind = range(shape.layers, shape.layers + numbers.drafting)
    drafting = tuple(f"{names.block}.{number}." for number in behind)
    return replace(model, left=tuple(name for name in checkpoint.tensors if name.startswith(drafting)))


def _read_gguf(checkpoint: Checkpoint, architecture: str) -> Numbers:
    keys = open_keys(checkpoint, architecture, _GGUF_KEYS, _PLAIN)
    rank, rotary = keys.size("attention.kv_lora_rank"), keys.size("rope.dimension_count")
    apart = any(keys.get(f"attention.{one}_length_mla") is not None for one in ("key", "value"))
    head = keys.size("attention.key_length_mla" if apart else "attention.key_length")
    value = keys.size("attention.value_length_mla" if apart else "attention.value_length")
    if apart:
        keys.only("attention.key_length", rank + rotary, rank + rotary)
        keys.only("attention.value_length", rank, rank)
    shape = replace(read_gguf_shape(keys, checkpoint, head_size=head), kv_heads=1)
    keys.only("attention.head_count_kv", 1, 1, shape.heads)
    drafting = _count(keys, "nextn_predict_layers", 0, shape.layers - 1)
    shape = replace(shape, layers=shape.layers - drafting)
    eps = keys.number("attention.layer_norm_rms_epsilon", above=0)
    base, scaling = read_gguf_rope(keys, shape.context)
    if scaling.kind not in ("none", "yarn"):
        keys.only("rope.scaling.type", "none", "none", "yarn")
    raised = keys.number("rope.scaling.yarn_log_multiplier", 0.0) * math.log(scaling.factor) + 1.0
    style = NEIGHBOURS
    latent = Latent(
        keys.size("attention.q_lora_rank") if keys.get("attention.q_lora_rank") is not None else None, rank,
        _still(keys, head, rotary), rotary, value, raised**2 * head**-0.5, style, eps,
    )  # fmt: skip
    sigmoid = keys.only("expert_gating_func", 1, 1, 2) == 2
    routing = Routing(
        "sigmoid" if sigmoid else "softmax", keys.flag("expert_weights_norm", False),
        keys.number("expert_weights_scale", 0.0) or 1.0,
    )  # fmt: skip
    mixture = _mixture(
        keys, routing, keys.size("expert_count"), keys.size("expert_feed_forward_length"),
        ("expert_used_count", "expert_group_count", "expert_group_used_count"),
    )  # fmt: skip
    choice = GGUF_NAMES.weight(shape.layers - 1, "exp_probs_b", "bias") in checkpoint.tensors
    tied = GGUF_NAMES.head not in checkpoint.tensors
    return Numbers(
        Decoder(shape, GGUF_NAMES, eps, tied, latent=(rank, rotary)),
        Rotation(base, _unraised(scaling), rotary, style, has_factors(checkpoint)), latent, mixture,
        _count(keys, "leading_dense_block_count", 0), keys.size("expert_shared_count", 1), choice, drafting,
    )  # fmt: skip


def _unraised(scaling: RopeScaling) -> RopeScaling:
    """YaRN as GGUF means it here: all of its stretch is in the scale of scores, none in cosines and sines."""
    return replace(scaling, attention_factor=1.0) if scaling.kind == "yarn" else scaling


def _read_json(checkpoint: Checkpoint, architecture: str) -> Numbers:
    keys = open_keys(checkpoint, architecture, _JSON_KEYS, _PLAIN)
    third = architecture == "DeepseekV3ForCausalLM"
    require_plain(keys, "deepseek_v3" if third else "deepseek_v2")
    for key, value in (("hidden_act", "silu"), ("mlp_bias", False), ("moe_layer_freq", 1)):
        keys.only(key, value, value)
    latent = _json_latent(keys, third)
    shape = _json_shape(keys, checkpoint, latent)
    biased = {"attn_kv_a_mqa", "attn_output", *(() if latent.query_rank is None else ("attn_q_a",))}
    decoder = Decoder(
        shape, _NAMES, keys.number("rms_norm_eps", 1e-6, above=0), tied=read_tied(keys, checkpoint),
        biases=frozenset(biased if keys.flag("attention_bias", False) else ()),
        latent=(latent.rank, latent.rotary),
    )  # fmt: skip
    words = ("n_routed_experts", "num_experts", "num_local_experts")
    said = {keys.size(key) for key in words if keys.get(key) is not None}
    if len(said) > 1:
        raise keys.malformed("n_routed_experts", "is not num_experts")
    experts = said.pop() if said else 256 if third else 64
    if experts > len(checkpoint.tensors):
        raise keys.malformed("n_routed_experts", f"is {experts}, more than there are tensors")
    ffn = keys.size("moe_intermediate_size", 2048 if third else 1407)
    mixture = _mixture(
        keys, _json_routing(keys, third), experts, ffn,
        ("num_experts_per_tok", "n_group", "topk_group"), (8, 8, 4) if third else (None, 1, 1),
    )  # fmt: skip
    if not third and keys.only("topk_method", "greedy", "greedy", "group_limited_greedy") == "greedy":
        mixture = replace(mixture, routing=replace(mixture.routing, groups=1, groups_chosen=1))
    rotation = Rotation(*read_rope(keys, shape.context), latent.rotary, latent.style)
    drafting = _count(keys, "num_nextn_predict_layers", _count(keys, "num_mtp_layers", 1 if third else 0))
    return Numbers(
        decoder, rotation, latent, mixture, _count(keys, "first_k_dense_replace", 3 if third else 0),
        keys.size("n_shared_experts", 1 if third else 2), third, min(drafting, len(checkpoint.tensors)),
    )  # fmt: skip


def _json_latent(keys: Keys, third: bool) -> Latent:
    """Sizes of heads and short rows. Absence of q_lora_rank means a rank, null that there is no such row."""
    still, rotary = keys.size("qk_nope_head_dim", 128), keys.size("qk_rope_head_dim", 64)
    keys.only("qk_head_dim", still + rotary, still + rotary)
    none = "q_lora_rank" in keys and keys.get("q_lora_rank") is None
    rope = rope_object(keys)
    all_dim = rope.number("mscale_all_dim", 0.0)
    raised = 1 + 0.1 * all_dim * math.log(rope.number("factor", above=0)) if all_dim else 1.0
    return Latent(
        None if none else keys.size("q_lora_rank", 1536), keys.size("kv_lora_rank", 512),
        _still(keys, still + rotary, rotary), rotary, keys.size("v_head_dim", 128),
        raised**2 * (still + rotary) ** -0.5,
        NEIGHBOURS if not third or keys.flag("rope_interleave", True) else HALVES, _SHORT_EPS,
    )  # fmt: skip


def _json_shape(keys: Keys, checkpoint: Checkpoint, latent: Latent) -> ModelShape:
    shape = read_json_shape(keys, checkpoint, "deepseek2", latent.rotary, one_for_each=True)
    keys.only("head_dim", latent.rotary, latent.rotary)
    keys.only("num_key_value_heads", shape.heads, shape.heads)
    return replace(shape, kv_heads=1, head_size=latent.still + latent.rotary)


def _json_routing(keys: Keys, third: bool) -> Routing:
    if third:
        keys.only("scoring_func", "sigmoid", "sigmoid")
        keys.only("topk_method", "noaux_tc", "noaux_tc")
        return Routing(
            "sigmoid", keys.flag("norm_topk_prob", True), keys.number("routed_scaling_factor", 2.5)
        )
    keys.only("scoring_func", "softmax", "softmax")
    keys.only("rope_interleave", True, True)
    keys.only(
        "norm_topk_prob", False, False
    )  # what true would mean, Transformers and DeepSeek disagree about
    return Routing("softmax", normalise=False, factor=keys.number("routed_scaling_factor", 1.0))


def _mixture(
    keys: Keys, routing: Routing, experts: int, ffn: int, names: tuple[str, str, str],
    silent: tuple[int | None, int, int] = (None, 1, 1),
) -> Mixture:  # fmt: skip
    """Experts and how they are chosen: `names` of the keys for how many a row takes, how many groups there
    are, and how many of those count; `silent` is what the absence of each means."""
    chosen = read_chosen(keys, names[0], experts, silent[0])
    groups, kept = keys.size(names[1], silent[1]), keys.size(names[2], silent[2])
    best = 2 if routing.scoring == "sigmoid" else 1
    if groups == 1:
        return Mixture(experts, chosen, ffn, routing)
    if experts % groups or experts // groups < best:
        raise keys.malformed(names[1], f"is {groups}, which {experts} experts do not make")
    if kept > groups or kept * (experts // groups) < chosen:
        raise keys.malformed(names[2], f"is {kept} of {groups} groups, of which {chosen} experts are chosen")
    return Mixture(experts, chosen, ffn, replace(routing, groups=groups, groups_chosen=kept, group_best=best))


def _still(keys: Keys, head: int, rotary: int) -> int:
    """How many numbers of a head do not turn; FileError unless some do not, and the others make pairs."""
    if rotary % 2 or rotary >= head:
        raise FileError(
            f"{rotary} dimensions of heads of {head} cannot rotate in pairs", where=keys.where,
            remedy="fetch the file again or convert the model again",
        )  # fmt: skip
    return head - rotary


def _count(keys: Keys, key: str, default: int, most: int = 2**31 - 1) -> int:
    """A whole number from 0 on."""
    value = keys.number(key, default, above=-1)
    if value != int(value) or value > most:
        raise keys.malformed(key, f"is {value}, not a whole number up to {most}")
    return int(value)


def _head_weights(numbers: Numbers, number: int, tensors: Collection[str]) -> LatentWeights:
    """The matrices of heads, as the opened checkpoint holds them: in one, or apart."""
    decoder, latent = numbers.decoder, numbers.latent
    heads, names = decoder.shape.heads, decoder.names
    whole = names.weight(number, "attn_kv_b")
    if names is GGUF_NAMES and whole not in tensors:
        return LatentWeights(
            Weight(names.weight(number, "attn_k_b"), (heads, latent.rank, latent.still)),
            Weight(names.weight(number, "attn_v_b"), (heads, latent.value, latent.rank)),
        )
    shape = (heads * (latent.still + latent.value), latent.rank)
    return LatentWeights(
        of_heads(HeadRows(whole, shape, heads, 0, latent.still, turned=True)),
        of_heads(HeadRows(whole, shape, heads, latent.still, latent.value)),
    )


def _experts(numbers: Numbers, number: int) -> ExpertWeights:
    decoder, mixture = numbers.decoder, numbers.mixture
    names, gguf = decoder.names, decoder.names is GGUF_NAMES
    found = (
        gguf_experts(
            lambda part, kind: names.weight(number, part, kind), mixture, decoder.shape.hidden, biases=False
        )
        if gguf
        else folder_experts(decoder, number, mixture)
    )
    if not numbers.choice:
        return found
    bias = names.weight(number, "exp_probs_b", "bias" if gguf else "e_score_correction_bias")
    return replace(found, choice_bias=Weight(bias, (mixture.experts,)))


def _record(numbers: Numbers, tensors: Collection[str]) -> Model:
    def block(layer: Layer, x: str, angles: str) -> str:
        """Latent attention, then a feed-forward part or experts, each added to its input."""
        heads = _head_weights(numbers, layer.number, tensors)
        attended = record_latent_attention(
            layer, layer.norm(x, "attn_norm"), numbers.latent, heads, angles
        )  # fmt: skip
        x = layer.build.add(x, attended)
        h = layer.norm(x, "ffn_norm")
        if layer.number < numbers.dense:
            return layer.build.add(x, layer.feed_forward(h))
        chosen = record_mixture(layer, h, numbers.mixture, _experts(numbers, layer.number), silu_gate)
        every = layer.feed_forward(h, kind="_shexp", ffn=numbers.shared * numbers.mixture.ffn)
        return layer.build.add(x, layer.build.add(chosen, every))

    return record_model(numbers.decoder, numbers.rotation, block)
