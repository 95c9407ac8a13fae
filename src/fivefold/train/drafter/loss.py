"""What a drafter is trained by, and what it is worth: the loss of its guesses, and how many are right.

The loss is the divergence from what the model itself says of each slot's token, among those that the head
knows: that tells more than the one token which came. Slot i counts exp(-(i - 1) / gamma) as in DFlash (arXiv
2602.06036): a later guess is of use only if those before it are right. Tokens that the head does not know are
never guessed rightly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fivefold.core.batch import Int32

UNKNOWN, BEHIND = -1, -2
"""In place of a token's row in the head: it has none; the conversation has ended."""


def targets(tokens: Int32, rows: Int32, anchors: Int32, slots: int) -> Tensor:
    """(A, k) rows of the head that are right behind each anchor; `rows` (V,) is each token's row."""
    places = anchors[:, None] + 1 + np.arange(slots)
    inside = places < len(tokens)
    right = rows[np.asarray(tokens)[np.minimum(places, len(tokens) - 1)]]
    return torch.from_numpy(np.where(inside, right, BEHIND).astype(np.int64))


def divergence(logits: Tensor, model: Tensor) -> Tensor:
    """(A, k): nats by which logits (A, k, F) say other things than the model's; 0 where both say the same."""
    said, wanted = (functional.log_softmax(one, -1) for one in (logits, model))
    return (wanted.exp() * (wanted - said)).sum(-1)


def decayed(each: Tensor, right: Tensor, gamma: float) -> Tensor:
    """The mean of (A, k) over the slots that have a token, by their weights."""
    weights = torch.exp(-torch.arange(right.shape[1]) / gamma).expand(right.shape) * (right != BEHIND)
    return (each * weights).sum() / weights.sum().clamp_min(1e-9)


@dataclass(frozen=True, slots=True)
class Hits:
    """Of blocks: how many slots had a token to guess, how many guessed it, and how many blocks were right up
    to there. Each is (k,)."""

    asked: np.ndarray
    right: np.ndarray
    whole: np.ndarray

    @staticmethod
    def of(logits: Tensor, right: Tensor) -> Hits:
        """Those of (A, k, F); slots behind the end are not asked."""
        asked = right != BEHIND
        hit = (logits.argmax(-1) == right) & asked
        whole = hit.to(torch.int64).cumprod(1)
        return Hits(*(part.sum(0).numpy() for part in (asked, hit, whole)))


def worth(hits: Sequence[Hits]) -> dict[str, Any]:
    """`agreement` by slot; `accepted`, how often all guesses up to a slot are right; and `tokens`, those of a
    round with so many guesses: one more than are accepted."""
    asked, right, whole = (
        np.sum([getattr(one, name) for one in hits], 0) for name in ("asked", "right", "whole")
    )
    accepted = whole / np.maximum(asked, 1)
    return {
        "agreement": [round(float(one), 4) for one in right / np.maximum(asked, 1)],
        "accepted": [round(float(one), 4) for one in accepted],
        "tokens": [round(float(one), 4) for one in 1.0 + np.cumsum(accepted)],
        "blocks": int(asked[0]),
    }
