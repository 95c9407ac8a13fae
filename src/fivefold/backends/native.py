"""The runner of native Programs, and the same over the reference executor.

A runner joins one model's Program with its cache: it turns steps into batches, runs them, and
keeps the rows that are committed. It schedules nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fivefold.cache import PagedCache, Storage
from fivefold.core.batch import Batch, Commit, Float32, Step
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.layout import CacheLayout
from fivefold.core.runner import CacheFigures
from fivefold.executor import NativeCache, NativeExecutor, Packing, Settings, dequantize
from fivefold.formats import UNROUNDED, EntryFormat
from fivefold.program import Model, ReferenceCache, ReferenceExecutor


class _CachedRunner:
    """What both runners share: sequences and commits over a paged cache."""

    def __init__(self, layout: CacheLayout, pages: dict[str, int], storage: Storage, slots: int) -> None:
        self.cache = PagedCache(layout, pages, storage, slots)

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


def pages_for(layout: CacheLayout, entries: int) -> dict[str, int]:
    """Pages of each group that hold `entries` positions of one sequence."""
    return {group.name: group.tables * -(-entries // group.page_size) for group in layout.groups}


class NativeRunner(_CachedRunner):
    """A model on the native executor, with room for `entries` positions in its cache, and for the recurrent
    states of so many `sequences` (and of rows of drafts).

    `packed` is told of each stored matrix that is no longer needed.
    """

    def __init__(
        self,
        model: Model,
        checkpoint: Checkpoint,
        settings: Settings,
        entries: int,
        packed: Callable[[Tensor], None] | None = None,
        sequences: int = 1,
    ) -> None:
        pages = pages_for(model.layout, entries)
        storage = NativeCache(model.layout, pages, settings.cache_format, sequences)
        super().__init__(model.layout, pages, storage, sequences)
        self.executor = NativeExecutor(
            model.main, checkpoint.tensors.__getitem__, storage, settings,
            packing=Packing(str(checkpoint.path), packed),
        )  # fmt: skip
        self.cache_bytes = storage.bytes
        self._output = model.main.outputs[0]

    @property
    def max_rows(self) -> int:
        """Most rows of one step."""
        return self.executor.max_rows

    def _logits(self, batch: Batch, copy: bool) -> Float32:
        return self.executor.run(batch, copy=copy).buffers[self._output]


class ReferenceRunner(_CachedRunner):
    """The same model on the reference executor: float32, slow, the measure of the others.

    Entries of the cache are float32 too, unless a format is given to round them by.
    """

    max_rows = 512

    def __init__(
        self, model: Model, checkpoint: Checkpoint, entries: int, form: EntryFormat = UNROUNDED,
        sequences: int = 1,
    ) -> None:  # fmt: skip
        pages = pages_for(model.layout, entries)
        storage = ReferenceCache(model.layout, max(pages.values(), default=0), form, sequences)
        super().__init__(model.layout, pages, storage, sequences)
        self._weights: dict[str, Float32] = {}
        self._checkpoint = checkpoint
        self._executor = ReferenceExecutor(model.main, self._weight, storage)
        self._output = model.main.outputs[0]

    def _weight(self, name: str) -> Float32:
        if name not in self._weights:
            self._weights[name] = dequantize(self._checkpoint.tensors[name])
        return self._weights[name]

    def _logits(self, batch: Batch, copy: bool) -> Float32:
        return self._executor.run(batch).buffers[self._output]
