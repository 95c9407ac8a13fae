"""Loading a model: from a path to something that can answer.

Files give tensors and a tokenizer, a family gives the Program, a backend runs it. Everything is
decided here once, from frozen options; nothing is read from the environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fivefold.backends import NativeRunner, ReferenceRunner
from fivefold.core.checkpoint import CHAT_TEMPLATE, Checkpoint
from fivefold.core.errors import FileError, InputError
from fivefold.core.runner import Runner
from fivefold.core.vocabulary import Vocabulary
from fivefold.executor import Settings, allowed_threads, choose_isa
from fivefold.files import give_back, open_checkpoint, vocabulary_of
from fivefold.models import load_model
from fivefold.program import Model

from .need import measured, stored_entries
from .options import LoadOptions

MOST_THREADS = 1024


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
    need = measured(model, checkpoint, chosen)
    if not 0 <= chosen.threads <= MOST_THREADS:
        raise InputError(
            f"{chosen.threads} threads", where="--threads", remedy=f"give 1 to {MOST_THREADS}, or 0"
        )
    form = stored_entries(chosen)
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
        entries = need.least if chosen.memory is None else need.entries(chosen.memory)
    if entries < 1:
        raise InputError(f"{entries} cache entries", remedy="give at least one")
    if chosen.sequences < 1:
        raise InputError(f"states of {chosen.sequences} sequences", remedy="give at least one")
    runner: Runner = (
        ReferenceRunner(model, checkpoint, entries, form, chosen.sequences)
        if chosen.reference
        else NativeRunner(
            model, checkpoint, settings, entries, lambda tensor: give_back([tensor]), chosen.sequences
        )
    )
    give_back(checkpoint.tensors.values())
    return LoadedModel(path, checkpoint, model, vocabulary, runner, need.context, settings)
