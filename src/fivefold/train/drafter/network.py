"""A drafter in torch float32, over the rows of several blocks of one conversation at once.

The same sums as its Program (`fivefold.program.drafting`), which tests hold it against: what the conversation
leaves as entries is computed once, and the rows of all blocks attend to it together, each up to its own
anchor, by a mask. A drafter's numbers are one vector, of which each weight is a view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fivefold.core.batch import Float32, Int32
from fivefold.core.checkpoint import Checkpoint
from fivefold.core.drafter import DrafterShape
from fivefold.executor import dequantize
from fivefold.program import Model, head_of, turning_of

SLOTS = "slots"


class Plan:
    """Where each weight lies in the vector of all numbers that are trained."""

    def __init__(self, shape: DrafterShape) -> None:
        self.shapes = dict(shape.weights())
        if shape.form == "block":
            self.shapes[SLOTS] = (shape.slots, shape.hidden)
        self.count = sum(map(prod, self.shapes.values()))

    def parts(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of the vector by the weights' names."""
        sizes = [prod(shape) for shape in self.shapes.values()]
        split = vector.split(sizes)
        return {
            name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), split, strict=True)
        }

    def joined(self, weights: Mapping[str, Float32]) -> Float32:
        """The vector of these weights."""
        return np.concatenate([weights[name].reshape(-1).astype(np.float32) for name in self.shapes])


@dataclass(frozen=True, slots=True)
class Frame:
    """What a drafter takes of its frozen model.

    frequency  (D / 2,) radians a position; `magnitude` multiplies cosines and sines; `style`: how pairs lie.
    table      (V, hidden) of embeddings; head (V, hidden).
    """

    frequency: Float32
    magnitude: float
    style: int
    eps: float
    table: Float32
    head: Float32

    @staticmethod
    def of(model: Model, checkpoint: Checkpoint) -> Frame:
        """Of a model whose Program ends with a head; UnsupportedError if it can have no drafter."""
        turning, main = turning_of(model), model.main

        def numbers(name: str) -> Float32:
            constant = main.constants.get(name)
            if constant is not None:
                return constant
            return main.weights[name].of(lambda tensor: dequantize(checkpoint.tensors[tensor]))

        angles, factors = turning.angles.weights
        frequency = numbers(str(angles))
        magnitude = turning.angles.attributes["magnitude"]
        assert isinstance(magnitude, float)
        return Frame(
            frequency if factors is None else frequency / numbers(factors), magnitude, turning.style,
            turning.eps, numbers(turning.table.name), numbers(head_of(model).name),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Blocks:
    """The rows of A blocks of k guesses each, in one conversation.

    anchors  (A,) positions of the last known tokens.
    tokens   (A, k) of the rows: the anchor's in all, or those that are known then, by the form.
    """

    anchors: Tensor
    tokens: Tensor


class Network:
    """The forward pass of a drafter of that shape; `head` (F, hidden) are the rows of its tokens."""

    def __init__(self, shape: DrafterShape, frame: Frame, head: Float32) -> None:
        self.shape = shape
        self.plan = Plan(shape)
        self._eps, self._style, self._magnitude = frame.eps, frame.style, frame.magnitude
        self._frequency = torch.from_numpy(np.array(frame.frequency)).double()
        self._table = torch.from_numpy(np.ascontiguousarray(frame.table))
        self._head = torch.from_numpy(head)

    def blocks(self, tokens: Int32, anchors: Int32) -> Blocks:
        """The rows of blocks behind these positions of a conversation."""
        places = np.repeat(anchors[:, None], self.shape.slots, 1).astype(np.int64)
        if self.shape.form == "serial":
            places = np.minimum(places + np.arange(self.shape.slots), len(tokens) - 1)
        given = torch.from_numpy(np.asarray(tokens)[places].astype(np.int64))
        return Blocks(torch.from_numpy(anchors.astype(np.int64)), given)

    def logits(self, parts: Mapping[str, Tensor], hidden: Tensor, blocks: Blocks) -> Tensor:
        """(A, k, F) of blocks whose anchors lie within or behind the C rows of `hidden` (C, taps, hidden)."""
        shape, anchors = self.shape, blocks.anchors
        count, slots = blocks.tokens.shape
        context = self._context(parts, hidden)
        positions = (anchors[:, None] + torch.arange(slots)).flatten()
        own, far = self._angles(positions), self._angles(torch.arange(len(hidden)))
        hides = _hidden(anchors, len(hidden), slots)
        x = self._norm(self._table[blocks.tokens], parts["embed"])
        if shape.form == "block":
            x = x + parts[SLOTS]
        x = x.reshape(count * slots, -1)
        for layer in range(shape.layers):
            x = self._block(parts, layer, x, (context, own, far, hides))
        normed = self._norm(x, parts["norm"])
        return functional.linear(normed, self._head).view(count, slots, -1)

    def _context(self, parts: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
        """(C, hidden): what the taps come to."""
        taps = [self._norm(hidden[:, i], parts[f"tap.{i}"]) for i in range(len(self.shape.taps))]
        return self._norm(functional.linear(torch.cat(taps, 1), parts["fc"]), parts["context"])

    def _block(
        self, parts: Mapping[str, Tensor], layer: int, x: Tensor, seen: tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> Tensor:
        """One layer; `seen` is the context, angles of rows and of the context, and what rows do not see."""
        shape, (context, own, far, hides) = self.shape, seen

        def project(of: Tensor, part: str) -> Tensor:
            return functional.linear(of, parts[f"{layer}.{part}"])

        normed = self._norm(x, parts[f"{layer}.attn_norm"])
        q = self._turned(project(normed, "q"), own, shape.heads)
        k = torch.cat([self._turned(project(context, "k"), far, shape.kv_heads),
                       self._turned(project(normed, "k"), own, shape.kv_heads)])  # fmt: skip
        v = torch.cat([project(context, "v"), project(normed, "v")]).view(len(k), shape.kv_heads, -1)
        share = shape.heads // shape.kv_heads
        attended = functional.scaled_dot_product_attention(
            q.transpose(0, 1)[None], k.transpose(0, 1).repeat_interleave(share, 0)[None],
            v.transpose(0, 1).repeat_interleave(share, 0)[None], attn_mask=hides,
        )  # fmt: skip
        x = x + project(attended[0].transpose(0, 1).reshape(len(x), -1), "o")
        normed = self._norm(x, parts[f"{layer}.ffn_norm"])
        return x + project(functional.silu(project(normed, "gate")) * project(normed, "up"), "down")

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self._eps) * weight

    def _angles(self, positions: Tensor) -> Tensor:
        """(R, 2, D / 2): cosines and sines."""
        angle = positions[:, None].double() * self._frequency
        return (torch.stack([angle.cos(), angle.sin()], 1) * self._magnitude).float()

    def _turned(self, x: Tensor, angles: Tensor, heads: int) -> Tensor:
        """(R, heads, D), the heads turned by their rows' positions."""
        parts, half = x.view(len(x), heads, -1), angles.shape[-1]
        cos, sin = angles[:, None, 0], angles[:, None, 1]
        turned, still = parts[..., : 2 * half], parts[..., 2 * half :]
        if self._style:
            low, high = turned[..., 0::2], turned[..., 1::2]
            both = torch.stack([low * cos - high * sin, low * sin + high * cos], -1).flatten(-2)
        else:
            low, high = turned[..., :half], turned[..., half:]
            both = torch.cat([low * cos - high * sin, low * sin + high * cos], -1)
        return torch.cat([both, still], -1)


def _hidden(anchors: Tensor, context: int, slots: int) -> Tensor:
    """(A * k, C + A * k): 0 where a row sees a column, minus infinity elsewhere.

    A row sees the entries before its anchor, and the rows of its block up to itself.
    """
    count = len(anchors)
    before = (torch.arange(context) < anchors[:, None]).repeat_interleave(slots, 0)
    causal = torch.ones(slots, slots, dtype=torch.bool).tril()
    seen = torch.cat([before, torch.block_diag(*[causal] * count)], 1)
    return torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
