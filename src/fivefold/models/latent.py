"""Latent attention (DeepSeek V2, arXiv 2405.04434) as families record it, in its absorbed form.

Keys and values of all heads are made of one short row, the latent; a rotated part of the key is the same for
all heads. The cache keeps these two and nothing else. Instead of making keys and values again from what it
keeps, each head's query is multiplied with the matrix that would make its keys, and what attention gives
back, a mean of latents, with the one that makes its values. So all heads attend to one KV head, whose value
is the beginning of its key.

The other form, with keys and values made for a whole prompt, needs fewer products there. But its sums are
others, and a row's result may not depend on how many rows come with it: there is one form for all rows.
Where the matrices of heads lie is the family's to say.
"""

from __future__ import annotations

from dataclasses import dataclass

from fivefold.program import Weight

from .recording import Layer


@dataclass(frozen=True, slots=True)
class Latent:
    """The numbers of latent attention.

    query_rank  of the row that queries are made of; None: they are made of the hidden state.
    rank        of the latent.
    still       numbers of a head's query and key that do not turn; `rotary` those that do.
    value       numbers of a head's value.
    scale       of scores.
    style       how rotary pairs lie.
    eps         of the norms of both short rows.
    """

    query_rank: int | None
    rank: int
    still: int
    rotary: int
    value: int
    scale: float
    style: int
    eps: float


@dataclass(frozen=True, slots=True)
class LatentWeights:
    """For each head the matrix that takes its query to the latents, (heads, rank, still), and the one that
    takes a latent to its value, (heads, value, rank)."""

    keys: Weight
    values: Weight


def record_latent_attention(layer: Layer, x: str, latent: Latent, weights: LatentWeights, angles: str) -> str:
    """Attention over the latents of a layer, and its output matrix, for rows that are normed."""
    build, shape = layer.build, layer.decoder.shape
    still, rotary = latent.still, latent.rotary
    q = _queries(layer, x, latent)
    turned = build.rope(build.head_columns(q, shape.heads, still, rotary), angles, shape.heads, latent.style)
    absorbed = build.head_linear(build.head_columns(q, shape.heads, 0, still), weights.keys)
    both = layer.project(x, "attn_kv_a_mqa", latent.rank + rotary)
    row = layer.norm(build.head_columns(both, 1, 0, latent.rank), "attn_kv_a_norm", eps=latent.eps)
    shared = build.rope(build.head_columns(both, 1, latent.rank, rotary), angles, 1, latent.style)
    attended = build.attention(
        build.head_join(absorbed, turned, shape.heads), (build.head_join(row, shared, 1),),
        group=layer.decoder.group(layer.number), heads=shape.heads, scale=latent.scale,
    )  # fmt: skip
    return layer.project(build.head_linear(attended, weights.values), "attn_output", shape.hidden)


def _queries(layer: Layer, x: str, latent: Latent) -> str:
    """The queries of all heads, each its still numbers before those that turn."""
    width = layer.decoder.shape.heads * (latent.still + latent.rotary)
    if latent.query_rank is None:
        return layer.project(x, "attn_q", width)
    row = layer.norm(layer.project(x, "attn_q_a", latent.query_rank), "attn_q_a_norm", eps=latent.eps)
    return layer.project(row, "attn_q_b", width)
