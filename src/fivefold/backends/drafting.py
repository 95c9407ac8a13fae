"""Guesses of a side drafter for several sequences at once, over the cache that the model itself has.

The rows of a block get slots behind the entries of their sequence as any step's rows do; afterwards none of
them is kept, so the cache is as it was. In the form "serial" the rows run one after the other, each with the
token that the one before it brought, in the slots that all of them were given at first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from fivefold.cache import OutOfPagesError, PagedCache
from fivefold.core.batch import LOGITS, Batch, Commit, Float32, GroupView, Int32, Span, Step
from fivefold.core.checkpoint import Tensor
from fivefold.core.decoder import Likely
from fivefold.core.drafter import DRAFTER, FEATURE, SLOTS, Drafter
from fivefold.executor import dequantize, likeliest_tokens
from fivefold.formats import format_of
from fivefold.program import Weight, packed_form, packed_weight, weight_name

from .adapted import Tensors

Asked = tuple[int, int, int]
"""A sequence, its last final token, whose entry is not in the cache yet, and how many guesses are wanted."""

_NONE: Int32 = np.zeros(0, np.int32)
HEAD = "head"

GIVEN_UP = 0.15
"""Guesses one after the other end where all of them together are right less often than that: a further row
costs a step of the drafter, and brings less than it costs."""


class Drafting:
    """A drafter over a cache. `run` gives the outputs of a batch: logits (n, F), and in the form "serial"
    what is known of each row's token (n, hidden). `rows` are the most of one batch."""

    def __init__(
        self, cache: PagedCache, drafter: Drafter, run: Callable[[Batch], Sequence[Float32]], rows: int
    ) -> None:
        self._cache = cache
        self._drafter = drafter
        self._run = run
        self._rows = rows
        self._tokens: list[int] = drafter.tokens.tolist()
        self._features: dict[int, Float32] = {}
        self._numbers = np.arange(drafter.shape.slots, dtype=np.int32)
        self._zeros = np.zeros(drafter.shape.slots, np.int32)

    def note(self, step: Step, context: Float32, commits: Iterable[Commit]) -> None:
        """Take what a step's rows (N, hidden) say of the last token that each sequence keeps of it."""
        first = 0
        places = {}
        for span in step.spans:
            places[span.sequence] = first
            first += len(span.tokens)
        for commit in commits:
            if len(commit.rows):
                self._features[commit.sequence] = context[places[commit.sequence] + commit.rows[-1]].copy()

    def forget(self, sequence: int) -> None:
        """What is known of a sequence's last token holds no longer: no guess until another has run."""
        self._features.pop(sequence, None)

    def copy(self, sequence: int, other: int) -> None:
        """Another sequence has the same entries."""
        if sequence in self._features:
            self._features[other] = self._features[sequence]

    def draft(self, asked: Sequence[Asked]) -> list[list[Likely]]:
        """Guesses for each, at most as many as are wanted, and as the drafter has slots.

        None where the cache has no room for a guess's rows, or nothing has run since entries were taken back.
        """
        most = min(self._drafter.shape.slots, self._rows)
        if len(asked) == 1 and self._drafter.shape.form == "block":
            found = self._alone(asked[0], most)
            if found is not None:
                return [found]
        counts = [min(count, most) if sequence in self._features else 0 for sequence, _, count in asked]
        drafts: list[list[Likely]] = [[] for _ in asked]
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
                drafts[index] = tokens
        return drafts

    def _alone(self, asked: Asked, most: int) -> list[Likely] | None:
        """The same for one sequence whose pages have room for the rows, without a step of the cache; None
        where it takes one."""
        sequence, anchor, count = asked
        count = min(count, most) if sequence in self._features else 0
        if count < 1:
            return []
        view = self._cache.ahead(sequence, DRAFTER, count)
        if view is None:
            return None
        rows = self._numbers[:count]
        batch = Batch(
            np.full(count, anchor, np.int32), view.write[:, 0], self._zeros[:count], {LOGITS: rows},
            {DRAFTER: view}, inputs=self._inputs(sequence, count),
        )  # fmt: skip
        return _sound(self._chosen(self._run(batch)[0]))

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
        return replace(span, inputs=self._inputs(sequence, count))

    def _inputs(self, sequence: int, count: int) -> dict[str, Float32]:
        """What the rows of a block are given beside their tokens."""
        inputs = {FEATURE: np.tile(self._features[sequence], (count, 1))}
        if self._drafter.shape.form == "block":
            inputs[SLOTS] = self._drafter.slots[:count]
        return inputs

    def _guess(self, batch: Batch, counts: Sequence[int]) -> list[list[Likely]]:
        """Guesses by sequence, of rows that lie together."""
        first = np.cumsum(counts) - counts
        if self._drafter.shape.form == "block":
            chosen = self._chosen(self._run(batch)[0])
            return [_sound(chosen[at : at + count]) for at, count in zip(first, counts, strict=True)]
        found: list[list[Likely]] = [[] for _ in counts]
        going = list(range(len(counts)))
        hope = [1.0] * len(counts)
        features = np.concatenate([batch.inputs[FEATURE], batch.inputs[FEATURE][:1]])  # and one for the last
        for place in range(max(counts)):
            going = [index for index in going if place < counts[index] and hope[index] >= GIVEN_UP]
            if not going:
                break
            rows = np.array([first[index] + place for index in going])
            given = [found[index][-1][0] if place else int(batch.tokens[first[index]]) for index in going]
            logits, told = self._run(_rows(batch, rows, np.array(given, np.int32), features[rows]))
            chosen = self._chosen(logits)
            features[rows + 1] = told
            for index, guess in zip(going, chosen, strict=True):
                found[index] += _sound([guess])
                hope[index] *= 0.0 if guess is None else guess[1]
        return found

    def _chosen(self, logits: Float32) -> list[Likely | None]:
        """The likeliest token of each row, and its probability among those that the head knows; None for a
        row with a logit that is not finite."""
        best, shares, _ = likeliest_tokens(np.ascontiguousarray(logits), -1)
        return [
            (self._tokens[place], share) if place >= 0 else None
            for place, share in zip(best, shares, strict=True)
        ]


def _sound(guesses: Sequence[Likely | None]) -> list[Likely]:
    """Guesses up to the first row that brought none."""
    found: list[Likely] = []
    for guess in guesses:
        if guess is None:
            break
        found.append(guess)
    return found


def _rows(batch: Batch, rows: np.ndarray, tokens: Int32, features: Float32) -> Batch:
    """Some rows of a batch with other tokens and features, each of a sequence of its own; all want logits."""
    groups = {
        name: GroupView(view.tables, view.start[rows], view.stop[rows], view.write[rows])
        for name, view in batch.groups.items()
    }
    every = np.arange(len(rows), dtype=np.int32)
    sets, given = {LOGITS: every}, {FEATURE: features}
    return Batch(tokens, batch.positions[rows], batch.sequence[rows], sets, groups, inputs=given)


def drafter_tensors(drafter: Drafter, head: Weight, tensors: Tensors) -> dict[str, Tensor]:
    """Its tensors by the names that Programs have for them. That of its head is made of the model's own, and
    is not among them where that has the same rows."""
    if len(drafter.tokens) == head.shape[0]:
        return {tensor.name: tensor for tensor in drafter.weights.values()}
    rows = _lying_rows(head, tensors, drafter.tokens)
    if rows is None or rows.format != packed_form(rows.shape):
        rows = packed_weight(HEAD, head_rows(head, tensors, drafter.tokens))
    return {tensor.name: tensor for tensor in (*drafter.weights.values(), rows)}


def head_rows(head: Weight, tensors: Tensors, tokens: Int32) -> Float32:
    """(F, hidden): these tokens' rows of a model's head."""
    rows = _lying_rows(head, tensors, tokens)
    return head.of(lambda name: dequantize(tensors(name)))[tokens] if rows is None else dequantize(rows)


def _lying_rows(head: Weight, tensors: Tensors, tokens: Int32) -> Tensor | None:
    """The rows as they lie; None if they cannot be taken one by one."""
    if head.sources:
        return None
    tensor = tensors(head.name)
    if tensor.scales is not None or tensor.shape[1] % format_of(tensor.format).block:
        return None
    rows = tensor.data.reshape(tensor.shape[0], -1)[tokens]
    return Tensor(weight_name(HEAD), tensor.format, (len(tokens), tensor.shape[1]), rows.reshape(-1))


def drafter_bytes(drafter: Drafter, head: Weight) -> dict[str, int]:
    """Bytes of these tensors by name, for a model with that head; nothing is packed for that."""
    shape = drafter.shape.vocabulary, drafter.shape.hidden
    rows = format_of(packed_form(shape)).bytes_for(shape[0] * shape[1])
    own = {tensor.name: tensor.stored_bytes for tensor in drafter.weights.values()}
    return own if shape[0] == head.shape[0] else own | {weight_name(HEAD): rows}


def with_tensors(tensors: Tensors, added: dict[str, Tensor]) -> Tensors:
    """Tensors by name, those that were added among them."""
    return lambda name: added[name] if name in added else tensors(name)
