"""Both twins in torch float32: rows of several records at once, and which of a record's rows each sees.

The same sums as the Program that `fivefold.models.qwen3` records of a twin's folder, which tests hold it
against. The twins differ in sight alone: every row sees those before it and itself, or, with blocks, all
clean rows of earlier blocks and the rows of its own block that are of its kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fivefold.train.fused import rms_norm, turned

from .shape import EMBEDDING, LAST_NORM, TwinShape


@dataclass(frozen=True, slots=True)
class Rows:
    """B records of R rows each.

    tokens     (B, R) int64; `positions` (B, R) or (R,).
    sees       (B, 1, R, R) or (R, R) truth values, row by column; None where each sees itself and all before.
    wanted     rows, the first of each record, that something is asked of; others only are seen.
    """

    tokens: Tensor
    positions: Tensor
    sees: Tensor | None
    wanted: int


class Network:
    """The forward pass of one shape."""

    def __init__(self, shape: TwinShape) -> None:
        self.shape = shape
        half = torch.arange(0, shape.head_size, 2, dtype=torch.float64) / shape.head_size
        self._frequency = shape.theta**-half

    def states(self, parts: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """(B, wanted, hidden): normed, as the head reads them."""
        x = functional.embedding(rows.tokens, parts[EMBEDDING])
        angles = self._angles(rows.positions)
        for layer in range(self.shape.layers):
            last = layer == self.shape.layers - 1
            count = rows.wanted if last else x.shape[1]
            weights = {
                name: parts[f"model.layers.{layer}.{name}.weight"]
                for name in ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm",
                             "self_attn.k_norm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                             "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
            }  # fmt: skip
            x = self._block(weights, x, angles, (rows.sees, count))
        return self._norm(x, parts[LAST_NORM])

    def logits(self, parts: Mapping[str, Tensor], states: Tensor) -> Tensor:
        """(..., V) of rows of `states`."""
        return functional.linear(states, parts[EMBEDDING])

    def _block(
        self, weights: Mapping[str, Tensor], x: Tensor, angles: Tensor, asked: tuple[Tensor | None, int]
    ) -> Tensor:
        """One layer; `asked` is who sees what, and how many of the first rows go on."""
        shape, (sees, count) = self.shape, asked
        normed = self._norm(x, weights["input_layernorm"])

        def heads(of: Tensor, part: str, number: int) -> Tensor:
            made = functional.linear(of, weights[f"self_attn.{part}_proj"])
            return made.view(*of.shape[:2], number, shape.head_size)

        q = self._turned(self._norm(heads(normed[:, :count], "q", shape.heads), weights["self_attn.q_norm"]),
                         angles[..., :count, :, :])  # fmt: skip
        k = self._turned(self._norm(heads(normed, "k", shape.kv_heads), weights["self_attn.k_norm"]), angles)
        v, share = heads(normed, "v", shape.kv_heads), shape.heads // shape.kv_heads
        attended = functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2).repeat_interleave(share, 1),
            v.transpose(1, 2).repeat_interleave(share, 1),
            attn_mask=None if sees is None else sees[..., :count, :], is_causal=sees is None,
        )  # fmt: skip
        x = x[:, :count] + functional.linear(attended.transpose(1, 2).flatten(2), weights["self_attn.o_proj"])
        normed = self._norm(x, weights["post_attention_layernorm"])
        gate, up = (functional.linear(normed, weights[f"mlp.{part}_proj"]) for part in ("gate", "up"))
        return x + functional.linear(functional.silu(gate) * up, weights["mlp.down_proj"])

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(x, weight, self.shape.eps)

    def _angles(self, positions: Tensor) -> Tensor:
        """(..., R, 2, D / 2): cosines and sines."""
        angle = positions[..., None].double() * self._frequency
        return torch.stack([angle.cos(), angle.sin()], -2).float()

    def _turned(self, x: Tensor, angles: Tensor) -> Tensor:
        """(B, R, heads, D), turned by their rows' positions, pairs in halves."""
        return turned(x, angles[..., None, 0, :], angles[..., None, 1, :])
