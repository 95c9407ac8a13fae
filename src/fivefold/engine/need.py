"""What a model takes of the memory, known before it is loaded: its weights, the entries of its cache, and the
recurrent states of its sequences.

Only the file's head and the Program are read for that, no weight. What is wrong with the model's files (a
missing shard, an unknown architecture, a format that this build lacks) is found here as well, so that it
can be told before anything depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import InputError
from fivefold.files import open_checkpoint, vocabulary_of
from fivefold.formats import ENTRY_FORMATS, UNROUNDED, EntryFormat, entry_format, format_of
from fivefold.models import load_model
from fivefold.program import Model

from .options import LoadOptions

LONGEST_CONTEXT = 8192
"""Tokens of context where nothing else is said and the model has as many."""

MOST_CONTEXTS = 64
"""Contexts that a cache holds at most, however much memory there is."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of a model's weights and of an entry of its cache, and how many entries it can use.

    states    bytes of the recurrent states of all sequences that run at a time; most models have none.
    context   tokens of one request; `longest` is the most that the model can have.
    least     entries without which not even one request of that length can run.
    most      entries beyond which more would be of no use.
    """

    path: Path
    weights: int
    states: int
    entry_bytes: float
    context: int
    longest: int
    least: int
    most: int

    @property
    def least_bytes(self) -> int:
        """The least memory that the model can run in."""
        return self.bytes(self.least)

    def bytes(self, entries: int) -> int:
        """Weights, states and a cache of so many entries."""
        return self.weights + self.states + int(entries * self.entry_bytes)

    def entries(self, memory: int) -> int:
        """Entries of the cache in that much memory beside the weights; InputError if too few fit."""
        if self.entry_bytes == 0:
            return self.least
        fitting = int((memory - self.weights - self.states) / self.entry_bytes)
        if fitting < self.least:
            states = f", {self.states} of recurrent states" if self.states else ""
            raise InputError(
                f"{memory} bytes of memory do not hold {self.weights} bytes of weights{states} and a cache "
                f"of {self.least} entries, {int(self.entry_bytes)} bytes each", where=str(self.path),
                remedy="give more memory or a smaller context",
            )  # fmt: skip
        return min(fitting, self.most)


def need_of(path: Path, options: LoadOptions, with_vocabulary: bool = False) -> Need:
    """What the model at `path` needs; InputError, FileError or UnsupportedError say what is wrong with it.

    `with_vocabulary` looks at the tokenizer too, which takes longer.
    """
    checkpoint = open_checkpoint(path)
    need = measured(load_model(checkpoint), checkpoint, options)
    if with_vocabulary:
        vocabulary_of(checkpoint)
    return need


def measured(model: Model, checkpoint: Checkpoint, options: LoadOptions) -> Need:
    """The same of a model whose Program is there."""
    _check_formats(model, checkpoint)
    longest = model.shape.context
    context = options.context or min(longest, LONGEST_CONTEXT)
    if not 1 <= context <= longest:
        raise InputError(
            f"a context of {context} is outside the model's", where="--context",
            remedy=f"give 1 to {longest}",
        )  # fmt: skip
    form = stored_entries(options)
    names = {name for program in model.programs.values() for name in program.tensors}
    stored = sum(checkpoint.tensors[name].stored_bytes for name in names if name in checkpoint.tensors)
    size = model.layout.entry_bytes(form.number_bytes, form.scale_bytes)
    states = int(options.sequences * model.layout.state_bytes())
    least = context + options.max_rows
    most = max(MOST_CONTEXTS * context, least)
    return Need(checkpoint.path, stored, states, size, context, longest, least, most)


def stored_entries(options: LoadOptions) -> EntryFormat:
    """How entries are stored."""
    if options.cache_format is None:
        return UNROUNDED if options.reference else ENTRY_FORMATS["f16"]
    return entry_format(options.cache_format, "--kv")


def _check_formats(model: Model, checkpoint: Checkpoint) -> None:
    """Each weight that is used has a format that this build knows; the others do not matter."""
    for program in model.programs.values():
        for name in program.tensors:
            format_of(checkpoint.tensors[name].format, where=f"{checkpoint.path}: tensor {name}")
