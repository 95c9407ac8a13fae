"""Attention over pages, as one of Transformers' attention implementations.

A model's attention layers call it by name with the queries, keys and values of the rows of a step. It
stores keys and values in their slots, and each sequence's rows attend over that sequence's slots. Which
step it is comes by a context variable, since not every model hands unknown arguments down to its layers.

What it cannot honour it refuses: the arguments that are known are in `KNOWN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface

from fivefold.core.errors import UnsupportedError

from .pages import Tensor, TorchPages
from .pieces import Piece, Pieces

NAME = "fivefold_paged"
"""The implementation's name among Transformers' own. It has no masks there: rows know what they see."""

KNOWN = frozenset({
    "cache_position", "dropout", "is_causal", "output_attentions", "output_router_logits", "position_ids",
    "s_aux", "scaling", "sliding_window", "softcap", "use_cache",
})  # fmt: skip
"""Arguments of attention that are honoured, or that mean nothing for one step without gradients. The window
is among them since the cache group of the layer has it."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass: for each layer its pieces, and where its entries lie."""

    pieces: Mapping[int, Pieces]
    pages: TorchPages


CURRENT: ContextVar[Pass] = ContextVar("fivefold_pass")
"""The pass that this thread runs."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How scores become weights: factor, cap (`cap * tanh(score / cap)`), and scores (H,) of sinks, which
    take their share of the softmax and give no value."""

    factor: float
    cap: float | None = None
    sinks: Tensor = None


def paged_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, **rest: Any
) -> tuple[Tensor, None]:
    """Rows (1, H, N, D), keys and values (1, KV heads, N, D) of a step -> (1, N, H, value width)."""
    check_arguments(module, attention_mask, rest)
    running, layer = CURRENT.get(), int(module.layer_idx)
    pieces, keys, values = running.pieces[layer], running.pages.keys[layer], running.pages.values[layer]
    keys.index_copy_(0, pieces.write, key[0].transpose(0, 1).to(keys.dtype))
    values.index_copy_(0, pieces.write, value[0].transpose(0, 1).to(values.dtype))
    scoring = scoring_of(query, rest)
    found = query.new_empty(1, query.shape[2], query.shape[1], values.shape[2])
    for piece in pieces.parts:
        key = running.pages.gathered(keys, piece, 0).to(query.dtype)
        value = running.pages.gathered(values, piece, 1).to(query.dtype)
        found[0, piece.rows] = _attended(query[:, :, piece.rows], key, value, piece, scoring)
    return found, None


def scoring_of(query: Tensor, rest: Mapping[str, Any]) -> Scoring:
    """What a layer's arguments say of scores."""
    factor = rest.get("scaling")
    return Scoring(
        query.shape[-1] ** -0.5 if factor is None else float(factor), rest.get("softcap"), rest.get("s_aux")
    )


def check_arguments(module: Any, mask: Any, rest: Mapping[str, Any]) -> None:
    """UnsupportedError for anything that pages cannot honour."""
    strange = [
        name for name, value in rest.items() if name not in KNOWN and value is not None and value is not False
    ]
    if strange:
        raise UnsupportedError(
            f"its attention takes {', '.join(strange)}, which attention over pages does not"
        )
    if mask is not None:
        raise UnsupportedError("it brings a mask of its own, which attention over pages does not take")
    causal = rest.get("is_causal")
    if not (getattr(module, "is_causal", True) if causal is None else causal):
        raise UnsupportedError("its attention is not causal")
    if rest.get("dropout"):
        raise UnsupportedError("its attention drops weights at random")


def _attended(query: Tensor, key: Tensor, value: Tensor, piece: Piece, scoring: Scoring) -> Tensor:
    """Rows (1, H, T, D) of a piece over its keys and values (1, KV heads, S, width) -> (T, H, value width).

    A single row's heads that share a KV head are laid behind one another as rows of it: no key is copied
    for them.
    """
    heads, count, kv_heads = query.shape[1], query.shape[2], key.shape[1]
    if scoring.cap is not None or scoring.sinks is not None:
        found = _spelled_out(query.reshape(1, kv_heads, -1, *query.shape[2:]), key, value, piece, scoring)
    else:
        single = count == 1
        found = torch.nn.functional.scaled_dot_product_attention(
            query.reshape(1, kv_heads, heads // kv_heads, -1) if single else query, key, value,
            attn_mask=piece.bias, is_causal=piece.causal, scale=scoring.factor,
            enable_gqa=not single and heads != kv_heads,
        )  # fmt: skip
    return found.reshape(heads, count, -1).transpose(0, 1)


def _spelled_out(query: Tensor, key: Tensor, value: Tensor, piece: Piece, scoring: Scoring) -> Tensor:
    """Rows (1, KV heads, G, T, D) whose scores are capped, or that have sinks -> the same, value width."""
    scores = torch.matmul(query, key[:, :, None].transpose(-1, -2)) * scoring.factor
    if scoring.cap is not None:
        scores = torch.tanh(scores / scoring.cap) * scoring.cap
    if piece.causal:
        count = scores.shape[-2]
        scores = scores.masked_fill(torch.ones(count, count, dtype=torch.bool).triu(1), float("-inf"))
    elif piece.bias is not None:
        scores = scores + piece.bias[:, :, None]
    if scoring.sinks is not None:
        sinks = scoring.sinks.to(scores.dtype).view(1, query.shape[1], query.shape[2], 1, 1)
        scores = torch.cat([scores, sinks.expand(*scores.shape[:-1], 1)], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return torch.matmul(weights[..., : key.shape[-2]], value[:, :, None])


AttentionInterface.register(NAME, paged_attention)
