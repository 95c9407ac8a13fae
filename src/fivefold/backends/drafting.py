"""Guesses of a side drafter for several sequences at once, over the cache that the model itself has.

The rows of a block get slots behind the entries of their sequence as any step's rows do; afterwards none of
them is kept, so the cache is as it was. In the form "serial" the rows run one after the other, each with the
token that the one before it brought, in the slots that all of them were given at first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fivefold.cache import OutOfPagesError, PagedCache
from fivefold.core.batch import LOGITS, Batch, Commit, Float32, GroupView, Int32, Span, Step
from fivefold.core.checkpoint import Tensor
from fivefold.core.drafter import DRAFTER, SLOTS, Drafter
from fivefold.formats import format_of
from fivefold.program import weight_name

from .adapted import Tensors

Asked = tuple[int, int, int]
"""A sequence, its last final token, whose entry is not in the cache yet, and how many guesses are wanted."""

_NONE: Int32 = np.zeros(0, np.int32)
_PACKED = "q8_0"


class Drafting:
    """A drafter over a cache. `run` gives the logits (n, F) of a batch, `rows` are the most of one batch."""

    def __init__(
        self, cache: PagedCache, drafter: Drafter, run: Callable[[Batch], Float32], rows: int
    ) -> None:
        self._cache = cache
        self._drafter = drafter
        self._run = run
        self._rows = rows

    def draft(self, asked: Sequence[Asked]) -> list[list[int]]:
        """Guesses for each, at most as many as are wanted, and as the drafter has slots.

        None where the cache has no room for the rows of a guess.
        """
        counts = [min(count, self._drafter.shape.slots, self._rows) for _, _, count in asked]
        found: list[list[int]] = [[] for _ in asked]
        for together in self._parts(counts):
            spans = [self._span(*asked[index][:2], counts[index]) for index in together]
            try:
                batch = self._cache.prepare(Step(tuple(spans)))
            except OutOfPagesError:
                continue
            try:
                guessed = self._guess(batch, [len(span.tokens) for span in spans])
            finally:
                self._cache.commit([Commit(span.sequence, _NONE) for span in spans])
            for index, tokens in zip(together, guessed, strict=True):
                found[index] = tokens
        return found

    def _parts(self, counts: Sequence[int]) -> list[list[int]]:
        """Those that want guesses, as many together as a batch can have."""
        parts: list[list[int]] = []
        room = 0
        for index, count in enumerate(counts):
            if count < 1:
                continue
            if count > room:
                parts.append([])
                room = self._rows
            parts[-1].append(index)
            room -= count
        return parts

    def _span(self, sequence: int, anchor: int, count: int) -> Span:
        """The rows of a block: the last token in each, from its own position on."""
        start = self._cache.length(sequence, DRAFTER)
        rows = np.arange(count, dtype=np.int32)
        span = Span.causal(sequence, np.full(count, anchor, np.int32), start, rows)
        inputs = {SLOTS: self._drafter.slots[:count]} if self._drafter.shape.form == "block" else {}
        return replace(span, inputs=inputs)

    def _guess(self, batch: Batch, counts: Sequence[int]) -> list[list[int]]:
        """Tokens by sequence, of rows that lie together."""
        tokens = self._drafter.tokens
        if self._drafter.shape.form == "block":
            chosen = tokens[self._run(batch).argmax(1)]
            return [part.tolist() for part in np.split(chosen, np.cumsum(counts)[:-1])]
        first = np.cumsum(counts) - counts
        found: list[list[int]] = [[] for _ in counts]
        for place in range(max(counts)):
            going = [index for index, count in enumerate(counts) if place < count]
            rows = np.array([first[index] + place for index in going])
            given = [found[index][-1] if place else int(batch.tokens[first[index]]) for index in going]
            logits = self._run(_rows(batch, rows, np.array(given, np.int32)))
            for index, token in zip(going, tokens[logits.argmax(1)], strict=True):
                found[index].append(int(token))
        return found


def _rows(batch: Batch, rows: np.ndarray, tokens: Int32) -> Batch:
    """Some rows of a batch with other tokens, each of a sequence of its own; all want logits."""
    groups = {
        name: GroupView(view.tables, view.start[rows], view.stop[rows], view.write[rows])
        for name, view in batch.groups.items()
    }
    every = np.arange(len(rows), dtype=np.int32)
    return Batch(tokens, batch.positions[rows], batch.sequence[rows], {LOGITS: every}, groups)


def drafter_tensors(drafter: Drafter) -> dict[str, Tensor]:
    """Its tensors by the names that Programs have for them: matrices as q8_0 where rows have whole blocks,
    else as float16; vectors as float32."""
    made = {}
    for short, values in drafter.matrices.items():
        name, form = weight_name(short), _form(values.shape)
        stored = format_of(form).pack(values.astype(np.float32).reshape(-1))
        made[name] = Tensor(name, form, values.shape, stored)
    return made


def drafter_bytes(drafter: Drafter) -> dict[str, int]:
    """Bytes of these tensors by name; nothing is packed for that."""
    return {
        weight_name(short): format_of(_form(values.shape)).bytes_for(values.size)
        for short, values in drafter.matrices.items()
    }


def _form(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return "f32"
    return "f16" if shape[1] % format_of(_PACKED).block else _PACKED


def with_tensors(tensors: Tensors, added: dict[str, Tensor]) -> Tensors:
    """Tensors by name, those that were added among them."""
    return lambda name: added[name] if name in added else tensors(name)
