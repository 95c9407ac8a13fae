"""Who runs a step, as the engine sees it: native Programs, the reference, or another backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .batch import Commit, Float32, Int32, Step
from .decoder import Likely


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """How full the cache is, in entries (positions) of the group that is fullest.

    capacity  entries that fit in all; free entries that nobody holds; kept entries that only the
              prefix tree holds, which are given up when room is needed.
    longest   entries of the longest sequence that can be; groups with a window let go of its beginning.
    """

    capacity: int
    free: int
    kept: int
    longest: int

    @property
    def used(self) -> int:
        """Entries that sequences hold."""
        return self.capacity - self.free - self.kept


class Runner(Protocol):
    """A model with its cache. Sequences are opened, grown by steps and commits, and closed."""

    @property
    def max_rows(self) -> int:
        """Most rows of one step."""
        ...

    def open(self) -> int:
        """A new, empty sequence; its number."""
        ...

    def close(self, sequence: int) -> None:
        """Forget a sequence and free what it holds."""
        ...

    def truncate(self, sequence: int, positions: int) -> None:
        """Forget the entries at that logical position and after it; 0 gives everything back."""
        ...

    def attach(self, sequence: int, tokens: Sequence[int], salt: str = "") -> int:
        """Fill an empty sequence with what the cache has of `tokens`; how many entries it now holds.

        Only what was published under the same salt is found.
        """
        ...

    def reserve(self, sequence: int, entries: int) -> bool:
        """Room for a sequence of that many entries, taken now; False takes nothing."""
        ...

    def publish(self, sequence: int, tokens: Sequence[int], salt: str = "") -> None:
        """Offer the entries of a sequence, which are those of `tokens`, to others that begin the same."""
        ...

    def fork(self, sequence: int) -> int:
        """A second sequence with the same entries, in the same pages until one of them writes; its number."""
        ...

    def length(self, sequence: int, group: str) -> int:
        """Entries that a sequence keeps of a cache group, in its first table."""
        ...

    def importance(self, sequence: int) -> Mapping[str, Float32]:
        """What the observers of a sequence's span in the last run found, of the entries that it has.

        By cache group (layers, query heads, slots): attention summed over them, or its maximum.
        """
        ...

    def evict(
        self, sequence: int, kept: Mapping[str, Int32 | Sequence[Int32]], offered: bool = False
    ) -> None:
        """Keep these slots of each group, (layers, KV heads, B) or for each KV head (layers, B).

        With `offered` what was published of the sequence stays on offer until its pages are needed.
        """
        ...

    def figures(self) -> CacheFigures:
        """How full the cache is."""
        ...

    def check_integrity(self) -> None:
        """AssertionError unless all that is kept of pages and sequences fits together."""
        ...

    def run(self, step: Step, *, copy: bool = True) -> Float32:
        """Run the step; logits (n, V) of the rows in the row set `logits`, span after span.

        Without `copy` they may be the runner's own memory, which the next run overwrites.
        """
        ...

    def commit(self, commits: Iterable[Commit]) -> None:
        """Keep these rows of each sequence's last span and forget the others."""
        ...


@runtime_checkable
class DraftingRunner(Runner, Protocol):
    """A runner that may have a drafter beside its model: a smaller one that guesses tokens."""

    @property
    def drafting(self) -> object | None:
        """What makes its drafts; None where it has no drafter."""
        ...

    def draft(self, asked: Sequence[tuple[int, int, int]]) -> list[list[Likely]]:
        """Guesses of the tokens behind an anchor, for each (sequence, anchor, count) at most `count` of them.

        The anchor is the sequence's last final token, whose entry is not in the cache yet. Nothing stays of
        this in the cache. OutOfPagesError where there is no room for it.
        """
        ...
