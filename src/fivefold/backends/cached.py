"""What all runners share: the sequences of a model in a paged cache, and steps turned into batches.

A runner joins one model with its cache: it turns steps into batches, runs them, and keeps the rows that
are committed. It schedules nothing. How a batch is run is each backend's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fivefold.cache import PagedCache, Storage
from fivefold.core.batch import Batch, Commit, Float32, Step
from fivefold.core.layout import CacheLayout
from fivefold.core.runner import CacheFigures


class CachedRunner:
    """What all runners share: sequences and commits over a paged cache."""

    def __init__(
        self, layout: CacheLayout, pages: dict[str, int], storage: Storage, rows: int, slots: int = 0
    ) -> None:
        self.cache = PagedCache(layout, pages, storage, rows, slots)

    def open(self) -> int:
        """A new, empty sequence; its number."""
        return self.cache.open()

    def close(self, sequence: int) -> None:
        """Forget a sequence and free its pages."""
        self.cache.close(sequence)

    def truncate(self, sequence: int, positions: int) -> None:
        """Forget the entries at that logical position and after it."""
        self.cache.truncate(sequence, positions)

    def attach(self, sequence: int, tokens: Sequence[int], salt: str = "") -> int:
        """Begin an empty sequence with what the cache has of `tokens`; how many entries that is."""
        return self.cache.attach(sequence, tokens, salt)

    def reserve(self, sequence: int, entries: int) -> bool:
        """Room for a sequence of that many entries, held from now on; False changes nothing."""
        return self.cache.reserve(sequence, entries)

    def publish(self, sequence: int, tokens: Sequence[int], salt: str = "") -> None:
        """Offer the entries of a sequence, which are those of `tokens`, to others."""
        self.cache.publish(sequence, tokens, salt)

    def figures(self) -> CacheFigures:
        """How full the cache is."""
        return self.cache.figures()

    def check_integrity(self) -> None:
        """AssertionError unless all that the cache keeps fits together."""
        self.cache.check_integrity()

    def commit(self, commits: Iterable[Commit]) -> None:
        """Keep these rows of each sequence's last span."""
        self.cache.commit(commits)

    def run(self, step: Step, *, copy: bool = True) -> Float32:
        """Run the step; logits (n, V) of the rows that want them, the runner's own memory unless copied."""
        return self._logits(self.cache.prepare(step), copy)

    def _logits(self, batch: Batch, copy: bool) -> Float32:
        raise NotImplementedError
