"""The runner of native Programs, and the same over the reference executor.

A runner joins one model's Program with its cache: it turns steps into batches, runs them, and
keeps the rows that are committed. It schedules nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fivefold.core.batch import Batch, Float32, Int32, Step
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.drafter import DRAFTER, Drafter
from fivefold.core.layout import STEP_ROWS
from fivefold.executor import NativeCache, NativeExecutor, Packing, Settings, dequantize
from fivefold.formats import UNROUNDED, EntryFormat
from fivefold.program import Model, Program, ReferenceCache, ReferenceExecutor, StepOutput, head_of

from .adapted import Tensors, observing_program, with_module
from .cached import CachedRunner
from .drafting import Drafting, drafter_tensors, with_tensors
from .importance import Importance, importance_of

DRAFTED_ROWS = 128
"""Rows of guesses at most that run together."""


class NativeRunner(CachedRunner):
    """A model on the native executor, with room for `entries` positions in its cache, fewer behind windows,
    and for the recurrent states of so many `sequences` (and of rows of drafts).

    `packed` is told of each stored matrix that is no longer needed. With a `drafter` the model is one that
    `with_drafter` made for it.
    """

    def __init__(
        self,
        model: Model,
        checkpoint: Checkpoint,
        settings: Settings,
        entries: int,
        packed: Callable[[Tensor], None] | None = None,
        sequences: int = 1,
        drafter: Drafter | None = None,
    ) -> None:
        pages = model.layout.pages(entries, settings.max_rows)
        storage = NativeCache(model.layout, pages, settings.cache_format, sequences)
        super().__init__(model.layout, pages, storage, settings.max_rows, sequences)
        self._storage, self._settings = storage, settings
        self._tensors = _tensors(model, checkpoint, drafter)
        self._packing = Packing(str(checkpoint.path), packed, {})
        self.executor = NativeExecutor(model.main, self._tensors, storage, settings, packing=self._packing)
        self._main = model.main
        self._observing: tuple[Program, NativeExecutor] | None = None
        self._tapped: dict[tuple[str, ...], NativeExecutor] = {}
        self.cache_bytes = storage.bytes
        if drafter is not None:
            self.drafting = self._drafting(model.programs[DRAFTER], drafter)

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

    def _drafting(self, program: Program, drafter: Drafter) -> Drafting:
        settings = replace(self._settings, max_rows=min(self._settings.max_rows, DRAFTED_ROWS))
        executor = NativeExecutor(
            program, self._tensors, self._storage, settings, self.executor.pool, packing=self._packing
        )
        return Drafting(
            self.cache, drafter, lambda batch: _taken(executor.run(batch, copy=False), program),
            settings.max_rows,
        )  # fmt: skip

    def _outputs(self, batch: Batch, copy: bool) -> Sequence[Float32]:
        return _taken(self.executor.run(batch, copy=copy), self._main)

    def _read_entries(self, group: str, pages: Int32, count: int) -> tuple[Float32, Float32]:
        return self._storage.read_entries(group, pages, count)

    def _observe(
        self, batch: Batch, step: Step, copy: bool
    ) -> tuple[Sequence[Float32], dict[int, Importance]]:
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
        return _taken(out, self._main), importance_of(program, out.results, step)


class ReferenceRunner(CachedRunner):
    """The same model on the reference executor: float32, slow, the measure of the others.

    Entries of the cache are float32 too, unless a format is given to round them by.
    """

    max_rows = STEP_ROWS

    def __init__(
        self, model: Model, checkpoint: Checkpoint, entries: int, form: EntryFormat = UNROUNDED,
        sequences: int = 1, drafter: Drafter | None = None,
    ) -> None:  # fmt: skip
        pages = model.layout.pages(entries, self.max_rows)
        storage = ReferenceCache(model.layout, max(pages.values(), default=0), form, sequences)
        super().__init__(model.layout, pages, storage, self.max_rows, sequences)
        self._weights: dict[str, Float32] = {}
        self._tensors = _tensors(model, checkpoint, drafter)
        self._main, self._storage = model.main, storage
        self._executor = ReferenceExecutor(model.main, self._weight, storage)
        if drafter is not None:
            program = model.programs[DRAFTER]
            guessing = ReferenceExecutor(program, self._weight, storage)
            self.drafting = Drafting(
                self.cache, drafter, lambda batch: _taken(guessing.run(batch), program), self.max_rows
            )

    def _weight(self, name: str) -> Float32:
        if name not in self._weights:
            self._weights[name] = dequantize(self._tensors(name))
        return self._weights[name]

    def _outputs(self, batch: Batch, copy: bool) -> Sequence[Float32]:
        return _taken(self._executor.run(batch), self._main)

    def _read_entries(self, group: str, pages: Int32, count: int) -> tuple[Float32, Float32]:
        return self._storage.read_entries(group, pages, count)

    def _observe(
        self, batch: Batch, step: Step, copy: bool
    ) -> tuple[Sequence[Float32], dict[int, Importance]]:
        program = observing_program(self._main, self.lookahead)
        learned = program.weights.keys() - self._main.weights.keys()
        tensors = with_module(self._tensors, self.lookahead)

        def weight(name: str) -> Float32:
            return dequantize(tensors(name)) if name in learned else self._weight(name)

        out = ReferenceExecutor(program, weight, self._storage).run(batch)
        return _taken(out, self._main), importance_of(program, out.results, step)


def _tensors(model: Model, checkpoint: Checkpoint, drafter: Drafter | None) -> Tensors:
    """The model's tensors by name, and its drafter's."""
    own = checkpoint.tensors.__getitem__
    return own if drafter is None else with_tensors(own, drafter_tensors(drafter, head_of(model), own))


def _taken(out: StepOutput, program: Program) -> list[Float32]:
    """A Program's outputs in their order."""
    return [out.buffers[name] for name in program.outputs]
