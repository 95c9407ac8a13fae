"""What all runners share: the sequences of a model in a paged cache, and steps turned into batches.

A runner joins one model with its cache: it turns steps into batches, runs them, and keeps the rows that
are committed. It schedules nothing. How a batch is run is each backend's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fivefold.cache import PagedCache, Storage
from fivefold.core.batch import Batch, Commit, Float32, Int32, Step
from fivefold.core.decoder import Likely
from fivefold.core.errors import UnsupportedError
from fivefold.core.layout import PAGE_SIZE, CacheLayout
from fivefold.core.lookahead import LookaheadModule, Sought, no_module
from fivefold.core.runner import CacheFigures

from .drafting import Asked, Drafting
from .importance import Importance, observes


class CachedRunner:
    """What all runners share: sequences and commits over a paged cache."""

    def __init__(
        self, layout: CacheLayout, pages: dict[str, int], storage: Storage, rows: int, slots: int = 0
    ) -> None:
        self.cache = PagedCache(layout, pages, storage, rows, slots)
        self.sought: Sought = no_module
        self.drafting: Drafting | None = None
        self._importance: dict[int, Importance] = {}
        self._context: tuple[Step, Float32] | None = None

    @property
    def lookahead(self) -> LookaheadModule | None:
        """The module whose rows can run, if there is one."""
        return self.sought()

    @lookahead.setter
    def lookahead(self, module: LookaheadModule | None) -> None:
        self.sought = lambda: module

    def open(self) -> int:
        """A new, empty sequence; its number."""
        return self.cache.open()

    def close(self, sequence: int) -> None:
        """Forget a sequence and free its pages."""
        self.cache.close(sequence)
        self._forget(sequence)

    def truncate(self, sequence: int, positions: int) -> None:
        """Forget the entries at that logical position and after it."""
        self.cache.truncate(sequence, positions)
        self._forget(sequence)

    def attach(self, sequence: int, tokens: Sequence[int], salt: str = "") -> int:
        """Begin an empty sequence with what the cache has of `tokens`; how many entries that is."""
        return self.cache.attach(sequence, tokens, salt)

    def reserve(self, sequence: int, entries: int) -> bool:
        """Room for a sequence of that many entries, held from now on; False changes nothing."""
        return self.cache.reserve(sequence, entries)

    def fork(self, sequence: int) -> int:
        """A second sequence with the same entries; its number."""
        other = self.cache.fork(sequence)
        if self.drafting is not None:
            self.drafting.copy(sequence, other)
        return other

    def length(self, sequence: int, group: str) -> int:
        """Entries that a sequence keeps of a cache group, in its first table."""
        return self.cache.length(sequence, group)

    def evict(
        self, sequence: int, kept: Mapping[str, Int32 | Sequence[Int32]], offered: bool = False
    ) -> None:
        """Keep these slots of each group, (layers, KV heads, B) or for each KV head (layers, B)."""
        self.cache.evict(sequence, kept, offered)

    def entries(self, sequence: int, group: str, first: int = 0) -> tuple[Float32, Float32]:
        """Keys and values of a sequence from slot `first` on, (layers, KV heads, n, width), as stored.

        Where heads have tables of their own, these must be equally long.
        """
        parts = [
            self._entries_of(sequence, group, table, first)
            for table in range(self.cache.layout.group(group).tables)
        ]
        keys, values = (np.concatenate([part[which] for part in parts], axis=1) for which in (0, 1))
        return keys, values

    def _entries_of(self, sequence: int, group: str, table: int, first: int) -> tuple[Float32, Float32]:
        """Those of one table."""
        page, skipped = divmod(first, PAGE_SIZE)
        count = self.cache.length(sequence, group, table) - page * PAGE_SIZE
        keys, values = self._read_entries(group, self.cache.pages(sequence, group, table)[page:], count)
        return keys[:, :, skipped:], values[:, :, skipped:]

    def importance(self, sequence: int) -> Importance:
        """What the observers of the sequence's last span found, of the entries that it has.

        By cache group (layers, query heads, slots): attention summed over them, or its maximum.
        """
        lengths = {group.name: self.cache.length(sequence, group.name) for group in self.cache.layout.groups}
        return {name: found[..., : lengths[name]] for name, found in self._importance[sequence].items()}

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
        commits = list(commits)
        self.cache.commit(commits)
        if self.drafting is not None and self._context is not None:
            self.drafting.note(*self._context, commits)
            self._context = None

    def draft(self, asked: Sequence[Asked]) -> list[list[Likely]]:
        """The side drafter's guesses at what follows each sequence, of (sequence, anchor, count): at most
        `count` tokens, each with its probability, behind the anchor: the sequence's last final token, whose
        entry is not in the cache yet.

        None where there is no drafter, or no room. No step may be open; nothing is kept.
        """
        return [[] for _ in asked] if self.drafting is None else self.drafting.draft(asked)

    def run(self, step: Step, *, copy: bool = True) -> Float32:
        """Run the step; logits (n, V) of the rows that want them, the runner's own memory unless copied."""
        batch = self.cache.prepare(step)
        if observes(step):
            outputs, self._importance = self._observe(batch, step, copy)
        else:
            outputs = self._outputs(batch, copy)
        self._context = (step, outputs[1]) if self.drafting is not None else None
        return outputs[0]

    def _forget(self, sequence: int) -> None:
        if self.drafting is not None:
            self.drafting.forget(sequence)

    def _outputs(self, batch: Batch, copy: bool) -> Sequence[Float32]:
        """Logits, and what a side drafter's entries are made of (N, hidden) if there is one."""
        raise NotImplementedError

    def _read_entries(self, group: str, pages: Int32, count: int) -> tuple[Float32, Float32]:
        raise UnsupportedError("entries of this backend cannot be read", remedy="use the native backend")

    def _observe(
        self, batch: Batch, step: Step, copy: bool
    ) -> tuple[Sequence[Float32], dict[int, Importance]]:
        """The outputs, and what each sequence's observers found."""
        raise UnsupportedError(
            "this backend does not tell what attention is paid to entries", remedy='set eviction = "none"'
        )
