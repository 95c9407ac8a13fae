"""The ops of a Program in torch float32, as they run over lookahead rows, so that a loss can be derived.

Each follows the numpy reference of its op in `fivefold.ops`, on the rows of one document's prompts. An op
that is not in the table below cannot be trained through, and a Program that needs it is refused by name.
Attention is in `attending`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fivefold.core.layout import CacheLayout
from fivefold.ops.elementwise import ACTIVATIONS
from fivefold.program import Node

from .attending import Entries, attend

Pairs = Mapping[str, tuple[Tensor, Tensor]]
"""Weights' names, and the low-rank pair (down (r, K), up (M, r)) that each has on lookahead rows."""


@dataclass(slots=True)
class Pass:
    """One run over the rows of all prompts of a document: Q prompts of n rows, R rows together.

    rows        (R, hidden) what stands in for embeddings of tokens.
    pairs       low-rank pairs by the name of the weight; `scale` multiplies what they add.
    stored      by layer, the rows' own keys and values, (R, KV heads * D) each.
    importance  by layer, (Q, query heads, columns of the prompt): the mean over the rows of a prompt.
    """

    rows: Tensor
    pairs: Pairs
    scale: float
    entries: Entries
    layout: CacheLayout
    stored: dict[int, tuple[Tensor, Tensor | None]] = field(default_factory=dict)
    importance: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TorchCall:
    """One node about to run. An input that nothing needs is None: values where only scores are wanted."""

    node: Node
    inputs: Sequence[Any]
    weights: Sequence[Any]
    run: Pass
    output_needed: bool

    def number(self, name: str) -> float:
        """An attribute that is a number."""
        value = self.node.attributes[name]
        assert isinstance(value, int | float), f"{name} is {value!r}"
        return float(value)

    def integer(self, name: str) -> int:
        """An attribute that is a whole number."""
        return int(self.number(name))


def _embed(call: TorchCall) -> Tensor:
    return call.run.rows


def _linear(call: TorchCall) -> Tensor:
    x, name = call.inputs[0], call.node.weights[0]
    y = functional.linear(x, *call.weights)
    pair = call.run.pairs.get(name or "")
    if pair is None:
        return y
    down, up = pair
    return torch.addmm(y, call.run.scale * functional.linear(x, down), up.t())


def _rms_norm(call: TorchCall) -> Tensor:
    (x,) = call.inputs
    parts = x.view(len(x), call.integer("groups"), -1)
    normed = parts * torch.rsqrt(parts.square().mean(-1, keepdim=True) + call.number("eps"))
    return (normed * (call.weights[0] + call.number("offset"))).view(x.shape)


def _rope_angles(call: TorchCall) -> Tensor:
    frequency, factors = call.weights
    frequency = frequency if factors is None else frequency / factors
    angle = call.run.entries.positions[:, None].double() * frequency.double()
    return (torch.cat([angle.cos(), angle.sin()], 1) * call.number("magnitude")).float()


def _rope(call: TorchCall) -> Tensor:
    x, angles = call.inputs
    rotary = call.integer("rotary")
    half = rotary // 2
    parts = x.view(len(x), call.integer("heads"), -1)
    turned, still = parts[..., :rotary], parts[..., rotary:]
    cos, sin = angles[:, None, :half], angles[:, None, half:]
    if call.integer("style"):
        low, high = turned[..., 0::2], turned[..., 1::2]
        both = torch.stack([low * cos - high * sin, low * sin + high * cos], -1).flatten(-2)
    else:
        low, high = turned[..., :half], turned[..., half:]
        both = torch.cat([low * cos - high * sin, low * sin + high * cos], -1)
    return torch.cat([both, still], -1).view(x.shape) if still.shape[-1] else both.reshape(x.shape)


def _scale_by_position(call: TorchCall) -> Tensor:
    turns = ((call.run.entries.positions.double() + call.number("shift")) / call.number("length")).floor()
    factors = 1.0 + call.number("beta") * (1.0 + turns).log()
    return call.inputs[0] * factors.float()[:, None]


def _gated(call: TorchCall) -> Tensor:
    gate, up = call.inputs
    return _ACTIVATED[ACTIVATIONS[call.integer("activation")]](gate) * up


def _clamped_gated(call: TorchCall) -> Tensor:
    limit = call.number("limit")
    gate, up = call.inputs[0].clamp(max=limit), call.inputs[1].clamp(-limit, limit)
    return gate * torch.sigmoid(call.number("alpha") * gate) * (up + 1.0)


def _soft_cap(call: TorchCall) -> Tensor:
    cap = call.number("cap")
    return cap * torch.tanh(call.inputs[0] / cap)


def _head_columns(call: TorchCall) -> Tensor:
    (x,) = call.inputs
    first, count = call.integer("first"), call.integer("count")
    return x.view(len(x), call.integer("heads"), -1)[:, :, first : first + count].reshape(len(x), -1)


def _head_join(call: TorchCall) -> Tensor:
    parts = [x.view(len(x), call.integer("heads"), -1) for x in call.inputs]
    return torch.cat(parts, 2).view(len(parts[0]), -1)


def _store(call: TorchCall) -> Tensor:
    key, value = call.inputs
    call.run.stored[call.node.layer] = (key, value)
    return None


def _attention(call: TorchCall) -> Tensor:
    run, layer = call.run, call.node.layer
    group = run.layout.group(str(call.node.attributes["group"]))
    out, run.importance[layer] = attend(
        call.inputs[0] * call.number("scale"), run.stored.pop(layer), run.entries, layer, group,
        call.number("soft_cap"), call.weights[0], call.output_needed,
    )  # fmt: skip
    return out


_ACTIVATED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "gelu": functional.gelu,
    "sigmoid": torch.sigmoid,
}

DIFFERENTIABLE: Mapping[str, Callable[[TorchCall], Tensor]] = MappingProxyType(
    {
        "embed": _embed,
        "linear": _linear,
        "rms_norm": _rms_norm,
        "rope_angles": _rope_angles,
        "rope": _rope,
        "scale_by_position": _scale_by_position,
        "gated": _gated,
        "clamped_gated": _clamped_gated,
        "add": lambda call: call.inputs[0] + call.inputs[1],
        "scale": lambda call: call.inputs[0] * call.number("factor"),
        "scale_by": lambda call: call.inputs[0] * call.weights[0],
        "soft_cap": _soft_cap,
        "copy": lambda call: call.inputs[0],
        "gate_rows": lambda call: call.inputs[0] * torch.sigmoid(call.inputs[1]),
        "head_columns": _head_columns,
        "head_join": _head_join,
        "attention_store": _store,
        "attention": _attention,
    }
)
"""The ops that can be trained through, by name."""
