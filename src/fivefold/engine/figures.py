"""What an engine is told once, and what it can say of itself at any time."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest

from fivefold.core.request import Caching, Decoding, EvictionChoice
from fivefold.core.runner import CacheFigures

from .pace import STRETCH


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine batches.

    max_sequences  requests that run side by side.
    max_queue      requests that wait; one more is refused.
    prefix_cache   whether requests share what they begin with alike.
    eviction       of requests that say nothing of it; decoding and caching too, and the denoiser ("": the
                   family's).
    stretch        how much longer prompts may make a step of those who write, as a factor.
    guesses        the sources of guesses that are asked, by their names in `decode.guesses`; None: all.
    """

    max_sequences: int = 64
    max_queue: int = 256
    prefix_cache: bool = True
    stretch: float = STRETCH
    eviction: EvictionChoice = field(default_factory=EvictionChoice)
    decoding: Decoding = "auto"
    denoiser: str = ""
    caching: Caching = "none"
    guesses: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """A snapshot. Requests now; totals of steps, preemptions, tokens and evictions since the start; the last
    step. Evicted entries are positions: what one KV head of one layer gives up. Of guesses that were run, and
    of those that were right, there is a count for each place behind the last known token."""

    running: int
    waiting: int
    cache: CacheFigures
    steps: int
    preemptions: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    last_step_rows: int
    last_step_seconds: float
    evictions: int = 0
    evicted_entries: int = 0
    guessed_by_place: tuple[int, ...] = ()
    accepted_by_place: tuple[int, ...] = ()

    @property
    def guessed_tokens(self) -> int:
        """Guesses that were run."""
        return sum(self.guessed_by_place)

    @property
    def accepted_tokens(self) -> int:
        """Guesses that were right."""
        return sum(self.accepted_by_place)


@dataclass(slots=True)
class Totals:
    """The totals of an engine, as they grow."""

    steps: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    last_step_rows: int = 0
    last_step_seconds: float = field(default=0.0)
    evictions: int = 0
    evicted_entries: int = 0
    guessed_by_place: tuple[int, ...] = ()
    accepted_by_place: tuple[int, ...] = ()

    def guessed(self, guessed: int, accepted: int) -> None:
        """Count the guesses of one window: as many as were run, of which the first ones were right."""
        if not guessed:
            return
        self.guessed_by_place = _added(self.guessed_by_place, (1,) * guessed)
        self.accepted_by_place = _added(self.accepted_by_place, (1,) * accepted)

    def plus(self, figures: EngineFigures) -> Totals:
        """These and an engine's together; the last step is the engine's."""
        return Totals(
            self.steps + figures.steps,
            self.preemptions + figures.preemptions,
            self.prompt_tokens + figures.prompt_tokens,
            self.cached_tokens + figures.cached_tokens,
            self.output_tokens + figures.output_tokens,
            figures.last_step_rows,
            figures.last_step_seconds,
            self.evictions + figures.evictions,
            self.evicted_entries + figures.evicted_entries,
            _added(self.guessed_by_place, figures.guessed_by_place),
            _added(self.accepted_by_place, figures.accepted_by_place),
        )


def _added(some: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    """Both, place by place."""
    return tuple(a + b for a, b in zip_longest(some, others, fillvalue=0))
