"""What a diffusion model needs to be decoded, beside its Program, and what can be shown of work in flight.

A diffusion model writes blocks: positions of a block are filled in some order, several at a time, from
logits that see the whole block. How rows see each other, where the logits of a position are, and by which
rule positions are filled is the family's, and is said here as data; `decode` does it. Which positions
are still open is a flag beside each token and never a token id, so a text may contain the mask token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from .decoder import Decoder

Sight = Literal["block", "full", "causal", "canvas"]
"""How rows see each other: a block sees itself and what is before it; every row sees all; each row sees
what is filled, and of what is open only what comes before it (the order of WeDLM); or final rows are causal,
and the canvas behind them sees them and all of itself (DiffusionGemma)."""


@dataclass(frozen=True, slots=True)
class DiffusionRules:
    """How a family is decoded. Names and numbers of denoisers are those of `fivefold.decode.diffusion`.

    sight       how rows see each other.
    block       positions of a block or a canvas, or of the window of a causal family; 0 with full sight: the
                answer.
    mask_token  the token that stands at open positions as the model's input; None where they hold noise.
    shifted     the logits of the row before a position speak for it, as in autoregressive models.
    conditioned rows of a canvas are given what the model guessed for them last (the input `SHARES`).
    sub_block   open positions are filled in parts of so many, one part after the other; 0: all at once.
    denoiser    which rule fills positions, and the family's numbers for it where they are not its own.
    answer      tokens of an answer with full sight when a request sets no limit: all its rows run each time.
    """

    sight: Sight
    block: int
    mask_token: int | None
    denoiser: str
    numbers: Mapping[str, float | str | bool] = field(default_factory=dict)
    shifted: bool = False
    conditioned: bool = False
    sub_block: int = 0
    answer: int = 128


@dataclass(frozen=True, slots=True)
class Provisional:
    """The block in flight as it stands: nothing of it is final, and nothing of it is counted. It ends before
    a token that would end the request, and where the answer must end.

    start   the position of its first token.
    tokens  one for each position; on masked ones it means nothing.
    masked  which positions are still open.
    """

    start: int
    tokens: tuple[int, ...]
    masked: tuple[bool, ...]


@runtime_checkable
class Diffusing(Decoder, Protocol):
    """A decoder that writes by diffusion: several known tokens may be left to run while it writes."""

    @property
    def reading(self) -> bool:
        """Whether it still reads its prompt, or again what a preemption has lost."""
        ...

    @property
    def apart(self) -> bool:
        """Whether the entries of its rows are others than those of the same text read token by token."""
        ...

    @property
    def provisional(self) -> Provisional | None:
        """The block in flight, if there is one."""
        ...
