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
    table      (V, hidden) of embeddings; head (V, hidden); `norm` (hidden,) weights of the norm before it.
    """

    frequency: Float32
    magnitude: float
    style: int
    eps: float
    table: Float32
    head: Float32
    norm: Float32

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
        norm = [node for node in main.nodes if node.op == "rms_norm"][-1]
        return Frame(
            frequency if factors is None else frequency / numbers(factors), magnitude, turning.style,
            turning.eps, numbers(turning.table.name), numbers(head_of(model).name),
            numbers(str(norm.weights[0])),
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
        self._last_norm = torch.from_numpy(np.array(frame.norm))

    def blocks(self, tokens: Int32, anchors: Int32, slots: int) -> Blocks:
        """The rows of blocks of so many guesses behind these positions of a conversation."""
        places = np.repeat(anchors[:, None], slots, 1).astype(np.int64)
        if self.shape.form == "serial":
            places = np.minimum(places + np.arange(slots), len(tokens) - 1)
        given = torch.from_numpy(np.asarray(tokens)[places].astype(np.int64))
        return Blocks(torch.from_numpy(anchors.astype(np.int64)), given)

    def rows(self, parts: Mapping[str, Tensor], hidden: Tensor, blocks: Blocks) -> Tensor:
        """(A, k, hidden): what the head is to read, before its norm. The blocks' anchors lie within or behind
        the C rows of `hidden` (C, taps, hidden)."""
        anchors, (count, slots) = blocks.anchors, blocks.tokens.shape
        context = self._context(parts, hidden)
        entries = [self._entries(parts, layer, context, torch.arange(len(context)))
                   for layer in range(self.shape.layers)]  # fmt: skip
        before = torch.arange(len(context)) < anchors[:, None]
        feature = context[anchors - 1]
        if self.shape.form == "block":
            causal = torch.ones(slots, slots, dtype=torch.bool).tril()
            hides = _hides(before.repeat_interleave(slots, 0), torch.block_diag(*[causal] * count))
            x = self._begun(parts, feature[:, None], blocks.tokens) + parts[SLOTS]
            positions = (anchors[:, None] + torch.arange(slots)).flatten()
            x = self._through(parts, x.reshape(count * slots, -1), positions, entries, hides)
            return x.view(count, slots, -1)
        found = []
        for slot in range(slots):
            hides = _hides(before, torch.eye(count, dtype=torch.bool).repeat(1, slot + 1))
            x = self._begun(parts, feature, blocks.tokens[:, slot])
            x = self._through(parts, x, anchors + slot, entries, hides)
            feature = self._norm(x, parts["feature"])
            found.append(x)
        return torch.stack(found, 1)

    def logits(self, parts: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        """(..., F) of rows (..., hidden)."""
        return functional.linear(self._norm(rows, parts["norm"]), self._head)

    def model_logits(self, states: Tensor) -> Tensor:
        """(R, F): what the model says of the head's tokens, by what its last layer gave (R, hidden)."""
        return functional.linear(self._norm(states, self._last_norm), self._head)

    def apart(self, rows: Tensor, states: Tensor, sizes: Tensor) -> Tensor:
        """(...,) mean squared distances of rows and what the model's last layer gave, both normed, and each
        number multiplied by its size."""
        distance: Tensor = self._norm(rows, sizes) - self._norm(states, sizes)
        return distance.square().mean(-1)

    def _context(self, parts: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
        """(C, hidden): what the taps come to."""
        taps = [self._norm(hidden[:, i], parts[f"tap.{i}"]) for i in range(len(self.shape.taps))]
        return self._norm(functional.linear(torch.cat(taps, 1), parts["fc"]), parts["context"])

    def _begun(self, parts: Mapping[str, Tensor], feature: Tensor, tokens: Tensor) -> Tensor:
        """Rows before the first layer, of what is known of the token before and of the token."""
        embedded = self._norm(self._table[tokens], parts["embed"])
        return functional.linear(feature, parts["last"]) + functional.linear(embedded, parts["token"])

    def _entries(
        self, parts: Mapping[str, Tensor], layer: int, of: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Keys and values (R, KV heads, D) of context or of normed rows."""
        k = functional.linear(of, parts[f"{layer}.k"])
        v = functional.linear(of, parts[f"{layer}.v"])
        heads = self.shape.kv_heads
        return self._turned(k, self._angles(positions), heads), v.view(len(v), heads, -1)

    def _through(
        self, parts: Mapping[str, Tensor], x: Tensor, positions: Tensor,
        entries: list[tuple[Tensor, Tensor]], hides: Tensor,
    ) -> Tensor:  # fmt: skip
        """The layers; to the `entries` of each those of the rows are added. `hides`: what rows do not see."""
        shape, angles = self.shape, self._angles(positions)
        share = shape.heads // shape.kv_heads
        for layer in range(shape.layers):
            normed = self._norm(x, parts[f"{layer}.attn_norm"])
            own = self._entries(parts, layer, normed, positions)
            k, v = entries[layer] = tuple(
                torch.cat([old, new]) for old, new in zip(entries[layer], own, strict=True)
            )
            q = self._turned(functional.linear(normed, parts[f"{layer}.q"]), angles, shape.heads)
            attended = functional.scaled_dot_product_attention(
                q.transpose(0, 1)[None], k.transpose(0, 1).repeat_interleave(share, 0)[None],
                v.transpose(0, 1).repeat_interleave(share, 0)[None], attn_mask=hides,
            )  # fmt: skip
            x = x + functional.linear(attended[0].transpose(0, 1).reshape(len(x), -1), parts[f"{layer}.o"])
            normed = self._norm(x, parts[f"{layer}.ffn_norm"])
            gate, up = (functional.linear(normed, parts[f"{layer}.{part}"]) for part in ("gate", "up"))
            x = x + functional.linear(functional.silu(gate) * up, parts[f"{layer}.down"])
        return x

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


def _hides(context: Tensor, rows: Tensor) -> Tensor:
    """0 where a row sees a column of the context or of the rows, minus infinity elsewhere."""
    seen = torch.cat([context, rows], 1)
    return torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
