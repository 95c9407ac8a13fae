"""Diffusion models whose Program is another family's: which one it is, and by what rules they are decoded.

They were made of autoregressive models and keep their weights' names. Their config.json is that of the
model they come from, under another name and with some keys more: it is read here as if it were that
model's, and the keys say how to decode it. What a config does not say is the family's default, as its
authors' code has it: SDAR (JetAstra/SDAR, generate.py), Fast-dLLM v2 (NVlabs/Fast-dLLM, v2/run_chatbot.py),
Dream (Dream-org, generation_utils.py), WeDLM (Tencent/WeDLM). LLaDA-MoE (arXiv 2509.24389) was
made of no other model, but its blocks are Qwen3-MoE's under other words for sizes. A family with a Program
of its own says its rules itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.diffusion import DiffusionRules
from fivefold.core.errors import UnsupportedError
from fivefold.program import Model

from .config import Keys, config_of

_ALL = frozenset({"auto_map", "mask_token_id"})
"""Keys that all of them have beside those of the model they come from: where their code is, and the mask."""


@dataclass(frozen=True, slots=True)
class Diffused:
    """A kind of such models.

    model_type  in its config.json, and `base` gives the architecture that its Program is recorded by.
    keys        further ones that it has of its own.
    rules       how it is decoded.
    said        what its own keys say in the other family's words.
    """

    model_type: str
    base: Callable[[Keys], str]
    rules: Callable[[Keys], DiffusionRules]
    keys: frozenset[str] = frozenset()
    said: Callable[[Keys], Mapping[str, object]] = field(default=lambda _: {})


@dataclass(frozen=True, slots=True)
class DiffusedPart:
    """The checkpoint as the other family reads it, under that name, and the rules."""

    checkpoint: Checkpoint
    architecture: str
    rules: DiffusionRules

    def as_in_file(self, model: Model) -> Model:
        """The other family's model with these rules."""
        return replace(model, diffusion=self.rules)


def open_diffused(checkpoint: Checkpoint, architecture: str) -> DiffusedPart:
    """A checkpoint of one of `DIFFUSED`; FileError or UnsupportedError for what its config says otherwise."""
    kind = DIFFUSED[architecture]
    keys = Keys(checkpoint.metadata, config_of(checkpoint), architecture)
    keys.only("model_type", kind.model_type, kind.model_type)
    base = kind.base(keys)
    own = _ALL | kind.keys | {"model_type", "architectures"}
    plain = {key: value for key, value in checkpoint.metadata.items() if key.split(".")[0] not in own}
    view = Checkpoint(checkpoint.path, checkpoint.kind, plain | dict(kind.said(keys)), checkpoint.tensors)
    return DiffusedPart(view, base, kind.rules(keys))


def _mask(keys: Keys, usual: int) -> int:
    return keys.size("mask_token_id", usual)


_SDAR_KEYS = frozenset(
    {"block_size", "debug", "ep_size", "fuse_cross_entropy", "micro_forward", "skip_checkpoint", "use_deepep"}
)


def _sdar(keys: Keys) -> DiffusionRules:
    return DiffusionRules(
        "block", keys.size("block_size", 4), _mask(keys, 151669), "confidence_threshold",
        {"threshold": 0.85, "as_drawn": True},
    )  # fmt: skip


def _llada_moe(keys: Keys) -> DiffusionRules:
    return DiffusionRules("full", 32, _mask(keys, 156895), "low_confidence")


_LLADA_MOE_ONLY: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "qk_layernorm": (None, True), "clip_qkv": (None, None), "partial_rotary_factor": (1, 1, 1.0),
        "routed_scaling_factor": (1, 1, 1.0), "norm_topk_prob": (False, False),
        "moe_router_enable_expert_bias": (False, False),
        "moe_router_score_function": ("softmax", "softmax"),
        "shared_expert_intermediate_size": (0, 0, -1), "router_num_group": (1, 1, -2),
        "router_topk_group": (1, 1, -2),
    }
)  # fmt: skip
"""Keys of what could be otherwise: what silence means, and what is known here. Its code never divides the
shares of the experts by their sum."""


def _said_by_llada_moe(keys: Keys) -> Mapping[str, object]:
    """Sizes and layers in Qwen3-MoE's words."""
    for key, (silent, *known) in _LLADA_MOE_ONLY.items():
        keys.only(key, silent, *known)
    width, layers = keys.size("expert_intermediate_size"), keys.size("num_hidden_layers")
    sparse = keys.get("moe_layer_freq", [1] * layers)
    if not isinstance(sparse, list) or len(sparse) != layers or not set(sparse) <= {0, 1}:
        raise keys.malformed("moe_layer_freq", f"is not a 0 or a 1 for each of {layers} layers")
    heads = keys.size("num_attention_heads")
    return {
        "moe_intermediate_size": width, "intermediate_size": keys.size("dense_intermediate_size", width),
        "mlp_only_layers": [layer for layer, one in enumerate(sparse) if not one],
        "norm_topk_prob": False, "rms_norm_eps": keys.number("rms_norm_eps", 1e-5, above=0),
        "num_key_value_heads": keys.size("num_key_value_heads", heads),
    }  # fmt: skip


def _fast_dllm(keys: Keys) -> DiffusionRules:
    block = keys.size("bd_size", 32)
    return DiffusionRules(
        "block", block, _mask(keys, 151665), "confidence_threshold", shifted=True, sub_block=min(8, block)
    )


def _dream(keys: Keys) -> DiffusionRules:
    return DiffusionRules("full", 0, _mask(keys, 151666), "dream", shifted=True)


def _wedlm(keys: Keys) -> DiffusionRules:
    return DiffusionRules("causal", 16, _mask(keys, 151665), "entropy_distance")


def _wedlm_base(keys: Keys) -> str:
    """Qwen2.5 has biases and no norm of heads, Qwen3 the other way round; others are not known."""
    normed, biased = keys.flag("qk_norm", False), keys.flag("attention_bias", True)
    if normed == biased:
        raise UnsupportedError(
            f"qk_norm {normed} with attention_bias {biased} is neither Qwen2.5 nor Qwen3", where=keys.where,
            remedy="use a model of one of them",
        )  # fmt: skip
    return "Qwen3ForCausalLM" if normed else "Qwen2ForCausalLM"


DIFFUSED: Mapping[str, Diffused] = MappingProxyType(
    {
        "DreamModel": Diffused("Dream", lambda _: "Qwen2ForCausalLM", _dream),
        "Fast_dLLM_QwenForCausalLM": Diffused(
            "Fast_dLLM_Qwen", lambda _: "Qwen2ForCausalLM", _fast_dllm, frozenset({"bd_size"})
        ),
        "LLaDAMoEModelLM": Diffused(
            "llada", lambda _: "Qwen3MoeForCausalLM", _llada_moe,
            frozenset(_LLADA_MOE_ONLY)
            | {"dense_intermediate_size", "expert_intermediate_size", "moe_layer_freq"},
            _said_by_llada_moe,
        ),
        "SDARForCausalLM": Diffused("sdar", lambda _: "Qwen3ForCausalLM", _sdar, _SDAR_KEYS),
        "SDARMoeForCausalLM": Diffused("sdar_moe", lambda _: "Qwen3MoeForCausalLM", _sdar, _SDAR_KEYS),
        "WeDLMForCausalLM": Diffused("wedlm", _wedlm_base, _wedlm, frozenset({"qk_norm"})),
    }
)  # fmt: skip
"""By the one name in config.json's `architectures`."""
