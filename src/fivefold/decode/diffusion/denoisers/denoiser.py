"""What a denoiser is: a rule that makes the next block of a block and of the model's guesses for it.

A denoiser is a frozen set of numbers. It keeps nothing between steps: what it must remember is in the block.
It chooses places, not tokens; those come with the guesses. How rows run is not known here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fivefold.core.batch import Bool
from fivefold.core.errors import InputError
from fivefold.decode.diffusion.block import Block
from fivefold.decode.diffusion.guesses import Guesses
from fivefold.decode.filters import Float64, Indices


@dataclass(frozen=True, slots=True)
class Denoiser:
    """One way to fill a block.

    noise    its canvas begins with tokens drawn uniformly, not with masks.
    rereads  it wants guesses for positions that are filled, too.
    """

    name: ClassVar[str] = ""
    noise: ClassVar[bool] = False
    rereads: ClassVar[bool] = False

    def asks(self, block: Block) -> Bool:
        """(B,) the positions that it wants guesses for."""
        return ~block.given if self.rereads else block.masked

    def temperature(self, block: Block) -> float | None:
        """The temperature that tokens of this step are drawn at, where it is not the request's."""
        del block
        return None

    def advance(self, block: Block, guesses: Guesses) -> Block:
        """The block after this step. `guesses` are for some or all of the positions that it asks for, and at
        least for one that is masked while there is one."""
        raise NotImplementedError

    def with_numbers(self, numbers: Mapping[str, float | str | bool]) -> Denoiser:
        """The same rule with other numbers; InputError for a name that it does not have."""
        known = [field.name for field in dataclasses.fields(self)]
        for name in numbers:
            if name not in known:
                raise InputError(
                    f"denoiser {self.name!r} has no {name!r}", where="denoiser",
                    remedy=f"it has {', '.join(known) or 'no numbers'}",
                )  # fmt: skip
        return dataclasses.replace(self, **numbers)


def surest(score: Float64, count: int) -> Indices:
    """Indices of the `count` highest of (R,) scores, ascending; of equals the earlier places."""
    return np.sort(np.argsort(-score, kind="stable")[:count])


def above_or_surest(score: Float64, threshold: float, least: int) -> Indices:
    """Indices of the scores above a threshold; the highest `least` of all if there are fewer."""
    above = np.flatnonzero(score > threshold)
    return above if len(above) >= least else surest(score, least)


def within_bound(entropy: Float64, bound: float) -> Indices:
    """Indices of the most places of the lowest entropies with sum H - max H <= bound, ascending.

    The left side bounds the mutual information of the tokens there, so they may be chosen apart ("Accelerated
    Sampling from Masked Diffusion Models via Entropy Bounded Unmasking", arXiv 2505.24857). There is
    always one.
    """
    order = np.argsort(entropy, kind="stable")
    lowest = entropy[order]
    return np.sort(order[np.cumsum(lowest) - lowest <= bound])
