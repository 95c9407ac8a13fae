"""Dream's schedule: time runs from 1 to `eps` in even steps, and a share of what is masked is filled in each.

Dream 7B (arXiv 2508.15487). In the step from t to s the share is 1 - s/t, in the last all. Which places, by
`order`: "origin" draws them, "maskgit_plus" takes the likeliest tokens, "topk_margin" those furthest
above the second, "entropy" the lowest entropy; all of the distributions that tokens are drawn from.
Steps that fill nothing would run the same rows again, so they are passed over: where tokens are drawn
they get other random numbers, and nothing else differs. `alg_temp` of Dream's code, which draws
places by their score, is not there; it is 0 by default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from fivefold.core.errors import InputError
from fivefold.decode.diffusion.block import Block
from fivefold.decode.diffusion.guesses import Guesses
from fivefold.decode.filters import Float64, Indices

from .denoiser import Denoiser, surest

_SCORES: Mapping[str, Callable[[Guesses], Float64]] = MappingProxyType(
    {
        "maskgit_plus": lambda guesses: guesses.confidence(drawn=True),
        "topk_margin": lambda guesses: guesses.drawn.margin,
        "entropy": lambda guesses: -guesses.drawn.entropy,
    }
)
_DRAWN = "origin"


@dataclass(frozen=True, slots=True)
class Dream(Denoiser):
    """`steps` of the whole block, time's end `eps`, and the `order` in which places are filled."""

    name: ClassVar[str] = "dream"
    steps: int = 512
    eps: float = 1e-3
    order: str = "entropy"

    def __post_init__(self) -> None:
        if self.order not in (_DRAWN, *_SCORES):
            raise InputError(f"order is {self.order!r:.40}", where="denoiser dream",
                             remedy=f"choose {', '.join((_DRAWN, *_SCORES))}")  # fmt: skip

    def advance(self, block: Block, guesses: Guesses) -> Block:
        """Fill the share of the next step that fills any place."""
        if self.order == _DRAWN:
            turn, chosen = block.turn, np.flatnonzero(guesses.randoms() < self._share(block.turn))
        else:
            turn, count = self._next(block.turn, len(guesses.places))
            chosen = self._chosen(guesses, count)
        filled = block.filled(guesses.places[chosen], guesses.tokens[chosen])
        return replace(filled, turn=turn + 1)

    def _chosen(self, guesses: Guesses, count: int) -> Indices:
        return surest(_SCORES[self.order](guesses), count)

    def _share(self, turn: int) -> float:
        """Of what is masked, what is filled in a step; 1 in the last."""
        if turn >= self.steps - 1:
            return 1.0
        times = np.linspace(1.0, self.eps, self.steps + 1)
        return float(1 - times[turn + 1] / times[turn])

    def _next(self, turn: int, masked: int) -> tuple[int, int]:
        """The next step that fills a place, and how many."""
        while int(masked * self._share(turn)) < 1:
            turn += 1
        return turn, int(masked * self._share(turn))


DENOISER = Dream()
