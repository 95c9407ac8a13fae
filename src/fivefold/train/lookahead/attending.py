"""Attention of lookahead rows over stored entries: what a document's prompts share is multiplied once.

A document of T tokens has Q prompts, each with S tokens of its own at most, behind which n rows follow. The
columns of a row are the T shared ones, the S of its prompt (shorter suffixes are padded and hidden), and the
n rows of its prompt, of which it sees those up to itself. Entries are stored in float16 and become float32
one layer at a time.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fivefold.core.layout import CacheGroup

from .examples import Document, Float16


class Entries:
    """The entries of one document's prompts, and where the rows behind them stand.

    `positions` (Q * n,) are those of the rows, prompt by prompt; `lengths` (Q,) the tokens of the prompts.
    `columns` counts those of a prompt with its padding, T + S.
    """

    def __init__(self, document: Document, rows: int) -> None:
        questions = document.questions
        self.rows = rows
        self.count = len(questions)
        self.shared = len(document.tokens)
        self.own = max(len(question.tokens) for question in questions)
        self.columns = self.shared + self.own
        self.lengths = torch.tensor([self.shared + len(question.tokens) for question in questions])
        self.positions = (self.lengths[:, None] + torch.arange(rows)).flatten()
        self.kv_heads = document.keys.shape[1]
        self._document = document
        self._hidden: dict[str, Tensor] = {}

    def keys(self, layer: int) -> tuple[Tensor, Tensor]:
        """Float32 keys of a layer: (KV heads, T, D), and (Q, KV heads, S, D) padded with zeros."""
        document = self._document
        return self._floats(document.keys[layer], [question.keys[layer] for question in document.questions])

    def values(self, layer: int) -> tuple[Tensor, Tensor]:
        """The same of values."""
        document = self._document
        return self._floats(document.values[layer], [one.values[layer] for one in document.questions])

    def hidden(self, group: CacheGroup) -> Tensor:
        """(Q, n, T + S + n): 0 where a row sees a column of that cache group, minus infinity elsewhere."""
        if group.name not in self._hidden:
            seen = self._seen()
            columns = torch.arange(self.columns).expand(self.count, -1)
            own = self.positions.view(self.count, self.rows)
            columns, rows = torch.cat([columns, own], 1)[:, None], own[:, :, None]
            if group.window is not None:
                seen &= columns > rows - group.window
            if group.chunk is not None:
                seen &= columns // group.chunk == rows // group.chunk
            self._hidden[group.name] = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
        return self._hidden[group.name]

    def _seen(self) -> Tensor:
        """Columns that are tokens of the prompt, and rows of it that do not come later."""
        prompt = torch.arange(self.columns) < self.lengths[:, None]
        causal = torch.ones(self.rows, self.rows, dtype=torch.bool).tril()
        return torch.cat(
            [prompt[:, None].expand(-1, self.rows, -1), causal.expand(self.count, -1, -1)], 2
        ).contiguous()

    def _floats(self, shared: Float16, own: list[Float16]) -> tuple[Tensor, Tensor]:
        padded = torch.zeros(self.count, self.kv_heads, self.own, shared.shape[-1])
        for number, values in enumerate(own):
            padded[number, :, : values.shape[1]] = torch.from_numpy(np.asarray(values))
        return torch.from_numpy(np.asarray(shared)).float(), padded


def attend(
    queries: Tensor,
    stored: tuple[Tensor, Tensor | None],
    entries: Entries,
    layer: int,
    group: CacheGroup,
    cap: float,
    sinks: Tensor | None,
    output_needed: bool,
) -> tuple[Tensor | None, Tensor]:
    """Attention of scaled `queries` (Q * n, H * D), whose own keys and values are `stored`.

    Gives (Q * n, H * V), or None where only scores are needed, and the mean over the rows of each prompt of
    the attention that they pay to its columns, (Q, H, T + S).
    """
    count, rows, kv_heads, shared = entries.count, entries.rows, entries.kv_heads, entries.shared
    own_keys, own_values = stored
    keys, apart_keys = entries.keys(layer)
    size = keys.shape[-1]
    share = queries.shape[1] // (kv_heads * size)

    def by_prompt(values: Tensor) -> Tensor:
        """(Q, KV heads, n, width) of the rows' own entries."""
        return values.view(count, rows, kv_heads, -1).transpose(1, 2)

    grouped = queries.view(count, rows, kv_heads, share, size).permute(2, 0, 3, 1, 4)  # (KV, Q, share, n, D)
    shape = (kv_heads, count, share, rows, -1)
    far = (grouped.reshape(kv_heads, -1, size) @ keys.transpose(1, 2)).view(shape)
    apart_keys = torch.cat([apart_keys, by_prompt(own_keys)], 2)
    near = grouped.transpose(0, 1).reshape(count, kv_heads, -1, size) @ apart_keys.transpose(2, 3)
    near = near.view(count, kv_heads, share, rows, -1).transpose(0, 1)
    if cap:
        far, near = cap * torch.tanh(far / cap), cap * torch.tanh(near / cap)
    hidden = entries.hidden(group)[:, None]
    if group.window is not None or group.chunk is not None:
        far = far + hidden[..., :shared]
    parts = [far, near + hidden[..., shared:]]
    if sinks is not None:
        parts.append(sinks.view(kv_heads, 1, share, 1, 1).expand(-1, count, -1, rows, -1))
    weights = torch.softmax(torch.cat(parts, -1), -1)
    importance = weights.mean(3)[..., : entries.columns].transpose(0, 1).flatten(1, 2)
    if not output_needed:
        return None, importance
    values, apart_values = entries.values(layer)
    apart_values = torch.cat([apart_values, by_prompt(own_values)], 2)
    # A split's derivative is one join, where those of slices are whole arrays of zeros each.
    weights, beside, *_ = weights.split([part.shape[-1] for part in parts], -1)
    out = (weights.reshape(kv_heads, -1, shared) @ values).view(shape)
    beside = beside.transpose(0, 1).reshape(count, kv_heads, share * rows, -1)
    out = out.transpose(0, 1) + (beside @ apart_values).view(count, kv_heads, share, rows, -1)
    return out.permute(0, 3, 1, 2, 4).reshape(count * rows, -1), importance
