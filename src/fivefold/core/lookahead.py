"""A lookahead module: learned rows behind a prompt, whose attention tells which entries an answer will need.

The rows are given embeddings in place of tokens, at the positions behind the prompt, causal among themselves,
and some matrices have a low-rank pair that adds to their output on these rows alone (LookaheadKV, arXiv
2603.10899). The prompt's own rows never see them, so the model's own outputs stay as they are. Here is what a
module is and whether it fits a model; how it is stored, trained and used is for other rooms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from .batch import Float32
from .errors import InputError, UnsupportedError

AFTER_PROMPT = "after the prompt"
"""The rule of positions: a prompt of T tokens has rows at T, T + 1 and so on."""

POOLING = 1
"""Neighbours whose largest score an entry takes: itself alone. Learned scores are near enough to what an
answer looks at that pooling, which helps policies that guess, spoils them (docs/decisions/0011)."""

Sought = Callable[[], "LookaheadModule | None"]
"""Gives a model's module when it is asked for, or None."""


def no_module() -> None:
    """There is none."""


_TRAIN = "train one for this model: fivefold train lookahead"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a module was made for and how.

    model        name of the model, for people; `fingerprint` tells it from others.
    lengths      tokens of the shortest and the longest prompt that it was trained with.
    steps        steps of training that it has behind it; `command` is the one that was given.
    """

    model: str = ""
    fingerprint: str = ""
    family: str = ""
    layers: int = 0
    lengths: tuple[int, int] = (0, 0)
    seed: int = 0
    steps: int = 0
    command: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class LookaheadModule:
    """n rows and the low-rank pairs that are active on them.

    embeddings  (n, hidden) float32, in place of the rows of the table of embeddings.
    pairs       by the weight's name in the Program, down (r, K) and up (M, r) float32; a lookahead row x of
                that linear gets (alpha / r) * up (down x) more.
    pooling     neighbours whose largest score an entry takes; odd.

    InputError if they do not fit each other.
    """

    embeddings: Float32
    pairs: Mapping[str, tuple[Float32, Float32]]
    alpha: float
    rank: int
    pooling: int = POOLING
    positions: str = AFTER_PROMPT
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        def require(holds: bool, what: str) -> None:
            if not holds:
                raise InputError(what, where="a lookahead module", remedy=_TRAIN)

        require(self.embeddings.ndim == 2 and self.embeddings.size > 0, "embeddings are not (n, hidden)")
        require(self.rank > 0 and self.alpha > 0, f"rank {self.rank} and alpha {self.alpha} are not above 0")
        require(self.pooling > 0 and self.pooling % 2 == 1, f"pooling {self.pooling} is not odd")
        require(self.positions == AFTER_PROMPT, f"the rule of positions {self.positions!r} is not known")
        for name, (down, up) in self.pairs.items():
            fits = down.ndim == up.ndim == 2 and len(down) == up.shape[-1] == self.rank
            require(fits, f"the pair of {name}, {down.shape} and {up.shape}, is not of rank {self.rank}")
        arrays = [self.embeddings, *(part for pair in self.pairs.values() for part in pair)]
        require(all(part.dtype == np.float32 for part in arrays), "its numbers are not float32")
        require(all(bool(np.isfinite(part).all()) for part in arrays), "some of its numbers are not finite")

    @property
    def rows(self) -> int:
        """n."""
        return len(self.embeddings)

    @property
    def scale(self) -> float:
        """What the outputs of pairs are multiplied with."""
        return self.alpha / self.rank

    def require_fit(self, hidden: int, weights: Mapping[str, tuple[int, ...]], where: str = "") -> None:
        """UnsupportedError unless rows and pairs have the shapes of a model's; `weights` are its shapes."""
        if self.embeddings.shape[1] != hidden:
            raise UnsupportedError(
                f"the lookahead module has rows of {self.embeddings.shape[1]}, the model of {hidden}",
                where=where, remedy=_TRAIN,
            )  # fmt: skip
        for name, (down, up) in self.pairs.items():
            if weights.get(name) != (len(up), down.shape[1]):
                found = "no such matrix" if name not in weights else f"one of {weights[name]}"
                raise UnsupportedError(
                    f"the lookahead module has a pair for {name} {(len(up), down.shape[1])}, the model has "
                    f"{found}", where=where, remedy=_TRAIN,
                )  # fmt: skip
