"""How far lookahead rows are from what the answer looked at: the loss that is trained, and recall for people.

Importance of a prompt's tokens is taken for each layer and KV head (the mean over its query heads) or for
each query head. The first tokens and the last ones are kept whatever they are worth, so they are left out of
both sides, and what is left is divided by its sum. The loss is KL(target || lookahead), the mean over layers,
heads and questions (LookaheadKV, arXiv 2603.10899; leaving the kept tokens out is ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .examples import Document

SINKS = 4
"""First tokens of a prompt that are always kept."""

RECENT = 32
"""Last tokens of a prompt that are always kept."""

_LEAST = 1e-30


class Targets:
    """What the answers of one document's questions looked at, padded to the columns of its longest prompt.

    `counted` (Q, 1, C) says which columns count. Heads are KV heads, or query heads with `each_query`.
    """

    def __init__(self, document: Document, kv_heads: int, each_query: bool = False) -> None:
        self._questions = document.questions
        self._each_query = each_query
        self._kv_heads = kv_heads
        self.columns = document.longest
        lengths = torch.tensor([one.target.shape[2] for one in document.questions])[:, None]
        place = torch.arange(self.columns)
        self.counted = ((place >= SINKS) & (place < lengths - RECENT))[:, None]

    def layer(self, number: int) -> Tensor:
        """(Q, heads, C) of a layer, each head's sum 1, or 0 where it looked at nothing that counts."""
        heads = self._questions[0].target.shape[1]
        padded = torch.zeros(len(self._questions), heads, self.columns)
        for index, question in enumerate(self._questions):
            padded[index, :, : question.target.shape[2]] = torch.from_numpy(
                np.asarray(question.target[number])
            )
        return self.shares(padded)

    def shares(self, importance: Tensor) -> Tensor:
        """Of (Q, query heads, C) what counts, by the heads that are compared, divided by its sum."""
        counted = self.heads(importance) * self.counted
        return counted / counted.sum(-1, keepdim=True).clamp_min(_LEAST)

    def heads(self, importance: Tensor) -> Tensor:
        """(Q, heads, C): the mean over the query heads of each KV head, unless each stands for itself."""
        if self._each_query:
            return importance
        return importance.unflatten(1, (self._kv_heads, -1)).mean(2)


def divergence(importance: Sequence[Tensor], targets: Targets) -> Tensor:
    """KL(target || lookahead) in nats, the mean over layers, heads and questions; a number to derive."""
    layers = [_layer_divergence(one, targets, number) for number, one in enumerate(importance)]
    return torch.stack(layers).mean()


def _layer_divergence(importance: Tensor, targets: Targets, number: int) -> Tensor:
    target = targets.layer(number)
    found = targets.shares(importance).clamp_min(_LEAST).log()
    return (torch.special.xlogy(target, target) - target * found).sum(-1).mean()


@dataclass(frozen=True, slots=True)
class Recall:
    """The part of what answers looked at, beyond what is always kept, that lies in the kept entries.

    `found` by the lookahead rows, `best` by the target itself: more no policy can have at this budget.
    """

    budget: int
    found: float
    best: float


def recall(importance: Sequence[Tensor], targets: Targets, budget: int, pooling: int) -> Recall:
    """Recall with `budget` entries for each layer and KV head, those that are always kept among them.

    Scores are the maximum over `pooling` neighbours. Needs targets by KV heads.
    """
    chosen = budget - SINKS - min(RECENT, budget // 2)
    found, best = [], []
    with torch.no_grad():
        for number, one in enumerate(importance):
            target = targets.layer(number)
            scores = functional.max_pool1d(targets.heads(one), pooling, 1, pooling // 2)
            scores = scores.masked_fill(~targets.counted, -1.0)
            kept = scores.topk(min(chosen, targets.columns), -1).indices
            found.append(target.gather(-1, kept).sum(-1).mean())
            best.append(target.topk(min(chosen, targets.columns), -1).values.sum(-1).mean())
    return Recall(budget, float(torch.stack(found).mean()), float(torch.stack(best).mean()))
