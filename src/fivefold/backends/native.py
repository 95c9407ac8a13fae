"""The runner of native Programs, and the same over the reference executor.

A runner joins one model's Program with its cache: it turns steps into batches, runs them, and
keeps the rows that are committed. It schedules nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fivefold.core.batch import Batch, Float32, Int32, Step
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.layout import STEP_ROWS
from fivefold.executor import NativeCache, NativeExecutor, Packing, Settings, dequantize
from fivefold.formats import UNROUNDED, EntryFormat
from fivefold.program import Model, Program, ReferenceCache, ReferenceExecutor

from .adapted import observing_program, with_module
from .cached import CachedRunner
from .importance import Importance, importance_of


class NativeRunner(CachedRunner):
    """A model on the native executor, with room for `entries` positions in its cache, fewer behind windows,
    and for the recurrent states of so many `sequences` (and of rows of drafts).

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
        pages = model.layout.pages(entries, settings.max_rows)
        storage = NativeCache(model.layout, pages, settings.cache_format, sequences)
        super().__init__(model.layout, pages, storage, settings.max_rows, sequences)
        self._storage, self._settings, self._tensors = storage, settings, checkpoint.tensors.__getitem__
        self._packing = Packing(str(checkpoint.path), packed, {})
        self.executor = NativeExecutor(model.main, self._tensors, storage, settings, packing=self._packing)
        self._main = model.main
        self._observing: tuple[Program, NativeExecutor] | None = None
        self._tapped: dict[tuple[str, ...], NativeExecutor] = {}
        self.cache_bytes = storage.bytes
        self._output = model.main.outputs[0]

    @property
    def max_rows(self) -> int:
        """Most rows of one step."""
        return self.executor.max_rows

    def run_tapped(self, step: Step, names: tuple[str, ...]) -> Mapping[str, Float32]:
        """Run the step and take buffers of the Program by name, (N, width) each; for measurements."""
        batch = self.cache.prepare(step)
        if names not in self._tapped:
            self._tapped[names] = NativeExecutor(
                self._main, self._tensors, self._storage, self._settings, self.executor.pool, names,
                self._packing,
            )  # fmt: skip
        return self._tapped[names].run(batch, names).buffers

    def _logits(self, batch: Batch, copy: bool) -> Float32:
        return self.executor.run(batch, copy=copy).buffers[self._output]

    def _read_entries(self, group: str, pages: Int32, count: int) -> tuple[Float32, Float32]:
        return self._storage.read_entries(group, pages, count)

    def _observe(self, batch: Batch, step: Step, copy: bool) -> tuple[Float32, dict[int, Importance]]:
        """By a Program of its own, so that steps without observers cost what they did; weights are shared."""
        if self._observing is None:
            program = observing_program(self._main, self.lookahead)
            tensors = with_module(self._tensors, self.lookahead)
            self._observing = (
                program,
                NativeExecutor(
                    program, tensors, self._storage, self._settings, self.executor.pool, packing=self._packing
                ),
            )
        program, executor = self._observing
        out = executor.run(batch, copy=copy)
        return out.buffers[self._output], importance_of(program, out.results, step)


class ReferenceRunner(CachedRunner):
    """The same model on the reference executor: float32, slow, the measure of the others.

    Entries of the cache are float32 too, unless a format is given to round them by.
    """

    max_rows = STEP_ROWS

    def __init__(
        self, model: Model, checkpoint: Checkpoint, entries: int, form: EntryFormat = UNROUNDED,
        sequences: int = 1,
    ) -> None:  # fmt: skip
        pages = model.layout.pages(entries, self.max_rows)
        storage = ReferenceCache(model.layout, max(pages.values(), default=0), form, sequences)
        super().__init__(model.layout, pages, storage, self.max_rows, sequences)
        self._weights: dict[str, Float32] = {}
        self._checkpoint = checkpoint
        self._main, self._storage = model.main, storage
        self._executor = ReferenceExecutor(model.main, self._weight, storage)
        self._output = model.main.outputs[0]

    def _weight(self, name: str) -> Float32:
        if name not in self._weights:
            self._weights[name] = dequantize(self._checkpoint.tensors[name])
        return self._weights[name]

    def _logits(self, batch: Batch, copy: bool) -> Float32:
        return self._executor.run(batch).buffers[self._output]

    def _read_entries(self, group: str, pages: Int32, count: int) -> tuple[Float32, Float32]:
        return self._storage.read_entries(group, pages, count)

    def _observe(self, batch: Batch, step: Step, copy: bool) -> tuple[Float32, dict[int, Importance]]:
        program = observing_program(self._main, self.lookahead)
        tensors = with_module(self._checkpoint.tensors.__getitem__, self.lookahead)

        def weight(name: str) -> Float32:
            return self._weight(name) if name in self._checkpoint.tensors else dequantize(tensors(name))

        out = ReferenceExecutor(program, weight, self._storage).run(batch)
        return out.buffers[self._output], importance_of(program, out.results, step)
