"""What a model takes of the memory, known before it is loaded: its weights, the entries of its cache, and the
recurrent states of its sequences.

Only the file's head and the model's description are read for that, no weight. What is wrong with the
model's files (a missing shard, an unknown architecture, a format that this build lacks) is found here as
well, so that it can be told before anything depends on it; so is an eviction that it cannot be served with.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from fivefold.core.errors import InputError
from fivefold.core.layout import CacheLayout
from fivefold.files import found_lookahead_module, open_checkpoint, vocabulary_of
from fivefold.formats import EntryFormat

from .described import Described, described
from .options import LoadOptions
from .servable import require_module, served_policy

LONGEST_CONTEXT = 8192
"""Tokens of context where nothing else is said and the model has as many."""

MOST_CONTEXTS = 64
"""Contexts that a cache holds at most, however much memory there is."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of a model's weights, what its cache is like, and how many entries of it can be used.

    states    bytes of the recurrent states of all sequences that run at a time; most models have none.
    rows      of a step at most: groups with a window keep so many entries beside what rows see.
    context   tokens of one request; `longest` is the most that the model can have.
    least     entries without which not even one request of that length can run.
    most      entries beyond which more would be of no use.
    notice    one line for people, where another backend than the native one runs it; else empty.
    """

    path: Path
    weights: int
    states: int
    layout: CacheLayout
    form: EntryFormat
    rows: int
    context: int
    longest: int
    least: int
    most: int
    notice: str = ""

    @property
    def least_bytes(self) -> int:
        """The least memory that the model can run in."""
        return self.bytes(self.least)

    def bytes(self, entries: int) -> int:
        """Weights, states and a cache of so many entries."""
        form = self.form
        cache = self.layout.kept_bytes(entries, self.rows, form.number_bytes, form.scale_bytes)
        return self.weights + self.states + int(cache)

    def entries(self, memory: int) -> int:
        """Entries of the cache in that much memory beside the weights; InputError if too few fit."""
        if not self.layout.groups:
            return self.least
        if self.least_bytes > memory:
            states = f", {self.states} of recurrent states" if self.states else ""
            raise InputError(
                f"{memory} bytes of memory do not hold {self.weights} bytes of weights{states} and a cache "
                f"of {self.least} entries, {self.least_bytes - self.weights - self.states} bytes",
                where=str(self.path),
                remedy="give more memory or a smaller context",
            )  # fmt: skip
        above = range(self.least + 1, self.most + 1)
        return self.least + bisect_right(above, memory, key=self.bytes)


def need_of(path: Path, options: LoadOptions, with_vocabulary: bool = False) -> Need:
    """What the model at `path` needs; InputError, FileError or UnsupportedError say what is wrong with it.

    `with_vocabulary` looks at the tokenizer too, which takes longer.
    """
    checkpoint = open_checkpoint(path)
    found = described(checkpoint, options)
    need = measured(found, options)
    require_module(
        served_policy(options.eviction), lambda: found_lookahead_module(found.model, checkpoint), path
    )
    if with_vocabulary:
        vocabulary_of(checkpoint)
    return need


def measured(found: Described, options: LoadOptions) -> Need:
    """The same of a model that is described already."""
    longest = found.model.shape.context
    context = options.context or min(longest, LONGEST_CONTEXT)
    if not 1 <= context <= longest:
        raise InputError(
            f"a context of {context} is outside the model's", where="--context",
            remedy=f"give 1 to {longest}",
        )  # fmt: skip
    states = int(options.sequences * found.model.layout.state_bytes())
    least = context + options.max_rows
    most = max(MOST_CONTEXTS * context, least)
    return Need(
        found.checkpoint.path, found.weights, states, found.model.layout, found.entries, options.max_rows,
        context, longest, least, most, found.notice,
    )  # fmt: skip
