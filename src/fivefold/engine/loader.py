"""Loading a model: from a path to something that can answer.

Files give tensors and a tokenizer, a family gives the Program, a backend runs it. Everything is
decided here once, from frozen options; nothing is read from the environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fivefold.backends import NativeRunner, ReferenceRunner
from fivefold.core.checkpoint import CHAT_TEMPLATE, Checkpoint
from fivefold.core.errors import FileError, InputError
from fivefold.core.runner import Runner
from fivefold.core.vocabulary import Vocabulary
from fivefold.executor import Settings, allowed_threads, choose_isa
from fivefold.files import give_back, open_checkpoint, vocabulary_of
from fivefold.formats import ENTRY_FORMATS, UNROUNDED, EntryFormat, entry_format, format_of
from fivefold.models import load_model
from fivefold.program import Model

MOST_THREADS = 1024
MOST_CONTEXTS = 64
"""Contexts that a cache holds at most, however much memory there is."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load: 0 threads is what the machine allows; context None is the model's own, up to 8192.

    `entries` is the number of positions that the cache holds, of all requests together; None is one
    context and one step, which is all that a single request can use. With `memory` (bytes, for weights
    and cache together) it is what is left after the weights, at least that much and at most 64 contexts.
    `cache_format` is how entries are stored: f16, bf16, int8, fp8; None is f16, and float32 with `reference`.
    """

    isa: str = "auto"
    threads: int = 0
    activations: Literal["int8", "float"] = "int8"
    context: int | None = None
    entries: int | None = None
    memory: int | None = None
    max_rows: int = 512
    reference: bool = False
    cache_format: str | None = None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run, with what is needed to talk to it."""

    path: Path
    checkpoint: Checkpoint
    model: Model
    vocabulary: Vocabulary
    runner: Runner
    context: int
    settings: Settings

    @property
    def template(self) -> str | None:
        """The chat template's text, if the file has one."""
        text = self.checkpoint.metadata.get(CHAT_TEMPLATE)
        return text if isinstance(text, str) else None


def load(path: Path, options: LoadOptions | None = None) -> LoadedModel:
    """Open and prepare the model at `path`; InputError, FileError or UnsupportedError say what is wrong."""
    chosen = options or LoadOptions()
    checkpoint = open_checkpoint(path)
    model = load_model(checkpoint)
    _check_formats(model, checkpoint)
    context = chosen.context or min(model.shape.context, 8192)
    if not 1 <= context <= model.shape.context:
        raise InputError(
            f"a context of {context} is outside the model's", where="--context",
            remedy=f"give 1 to {model.shape.context}",
        )  # fmt: skip
    if not 0 <= chosen.threads <= MOST_THREADS:
        raise InputError(
            f"{chosen.threads} threads", where="--threads", remedy=f"give 1 to {MOST_THREADS}, or 0"
        )
    form = _entry_format(chosen)
    settings = Settings(
        choose_isa(chosen.isa), chosen.threads or allowed_threads(), chosen.activations, chosen.max_rows,
        form.name,
    )  # fmt: skip
    vocabulary = vocabulary_of(checkpoint)
    if vocabulary.size > model.shape.vocabulary:
        raise FileError(
            f"the tokenizer has {vocabulary.size} tokens, and the model {model.shape.vocabulary}",
            where=str(checkpoint.path), remedy="fetch the file again or convert the model again",
        )  # fmt: skip
    entries = chosen.entries
    if entries is None:
        size = model.layout.entry_bytes(form.number_bytes, form.scale_bytes)
        entries = _entries(model, checkpoint, (context, size), chosen)
    if entries < 1:
        raise InputError(f"{entries} cache entries", remedy="give at least one")
    runner: Runner = (
        ReferenceRunner(model, checkpoint, entries, form)
        if chosen.reference
        else NativeRunner(model, checkpoint, settings, entries, lambda tensor: give_back([tensor]))
    )
    give_back(checkpoint.tensors.values())
    return LoadedModel(path, checkpoint, model, vocabulary, runner, context, settings)


def _entry_format(options: LoadOptions) -> EntryFormat:
    """How entries are stored."""
    if options.cache_format is None:
        return UNROUNDED if options.reference else ENTRY_FORMATS["f16"]
    return entry_format(options.cache_format, "--kv")


def _entries(model: Model, checkpoint: Checkpoint, wanted: tuple[int, float], options: LoadOptions) -> int:
    """Cache entries for a context, and for as many more as the memory allows; `wanted` is the context and
    the bytes of an entry."""
    context, size = wanted
    least = context + options.max_rows
    if options.memory is None:
        return least
    names = {name for program in model.programs.values() for name in program.tensors}
    stored = sum(checkpoint.tensors[name].stored_bytes for name in names)
    if size == 0:
        return least
    fitting = int((options.memory - stored) / size)
    if fitting < least:
        raise InputError(
            f"{options.memory} bytes of memory do not hold {stored} bytes of weights and a cache of "
            f"{least} entries, {int(size)} bytes each", where=str(checkpoint.path),
            remedy="give more memory or a smaller context",
        )  # fmt: skip
    return min(fitting, MOST_CONTEXTS * context)


def _check_formats(model: Model, checkpoint: Checkpoint) -> None:
    """Each weight that is used has a format that this build knows; the others do not matter."""
    for program in model.programs.values():
        for name in program.tensors:
            format_of(checkpoint.tensors[name].format, where=f"{checkpoint.path}: tensor {name}")
