"""Diffusion models whose Program is another family's: which one it is, and by what rules they are decoded.

They were made of autoregressive models and keep their weights' names. Their config.json is that of the
model they come from, under another name and with some keys more: it is read here as if it were that
model's, and the keys say how to decode it. What a config does not say is the family's default, as its
authors' code has it: SDAR (JetAstra/SDAR, generate.py), Fast-dLLM v2 (NVlabs/Fast-dLLM, v2/run_chatbot.py),
Dream (Dream-org, generation_utils.py), WeDLM (Tencent/WeDLM). A family with a Program of its own says its
rules itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
    """

    model_type: str
    base: Callable[[Keys], str]
    rules: Callable[[Keys], DiffusionRules]
    keys: frozenset[str] = frozenset()


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
    view = Checkpoint(checkpoint.path, checkpoint.kind, plain, checkpoint.tensors)
    return DiffusedPart(view, base, kind.rules(keys))


def _mask(keys: Keys, usual: int) -> int:
    return keys.size("mask_token_id", usual)


def _sdar(keys: Keys) -> DiffusionRules:
    return DiffusionRules(
        "block", keys.size("block_size", 4), _mask(keys, 151669), "confidence_threshold",
        {"threshold": 0.85, "as_drawn": True},
    )  # fmt: skip


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
        "SDARForCausalLM": Diffused(
            "sdar", lambda _: "Qwen3ForCausalLM", _sdar,
            frozenset({"block_size", "debug", "ep_size", "fuse_cross_entropy", "micro_forward",
                       "skip_checkpoint", "use_deepep"}),
        ),
        "WeDLMForCausalLM": Diffused("wedlm", _wedlm_base, _wedlm, frozenset({"qk_norm"})),
    }
)  # fmt: skip
"""By the one name in config.json's `architectures`."""
