"""Loading a model: from a path to something that can answer.

Files give tensors and a tokenizer, a family gives the Program (or Transformers its own code), a backend
runs it. Everything is decided here once, from frozen options; nothing is read from the environment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fivefold.backends import NativeRunner, ReferenceRunner, Room, transformers_backend
from fivefold.core.checkpoint import CHAT_TEMPLATE, Checkpoint
from fivefold.core.drafter import Drafter
from fivefold.core.errors import FileError, InputError
from fivefold.core.lookahead import LookaheadModule, Sought, no_module
from fivefold.core.ngrams import NGramTable
from fivefold.core.runner import Runner
from fivefold.core.vocabulary import Vocabulary
from fivefold.executor import Settings, allowed_threads, choose_isa
from fivefold.files import give_back, open_checkpoint, sought_lookahead_module, vocabulary_of
from fivefold.program import Model

from .described import NATIVE, REFERENCE, Described, described
from .need import measured
from .options import LoadOptions
from .servable import require_module, served_policy

MOST_THREADS = 1024


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run, with what is needed to talk to it.

    `backend` is native, reference or transformers; with the last there is no Program, and `notice` is a line
    for people that says so.
    """

    path: Path
    checkpoint: Checkpoint
    model: Model
    vocabulary: Vocabulary
    runner: Runner
    context: int
    settings: Settings
    backend: str = NATIVE
    notice: str = ""
    sought: Sought = no_module
    drafter: Drafter | None = None
    ngrams: NGramTable | None = None

    @property
    def lookahead(self) -> LookaheadModule | None:
        """The model's lookahead module, read when it is asked for first; None if there is none."""
        return self.sought()

    def with_lookahead(self, module: LookaheadModule | None) -> LoadedModel:
        """The same model with another module, or with none."""
        return replace(self, sought=lambda: module)

    @property
    def template(self) -> str | None:
        """The chat template's text, if the file has one."""
        text = self.checkpoint.metadata.get(CHAT_TEMPLATE)
        return text if isinstance(text, str) else None


def load(path: Path, options: LoadOptions | None = None) -> LoadedModel:
    """Open and prepare the model at `path`; InputError, FileError or UnsupportedError say what is wrong."""
    chosen = options or LoadOptions()
    stored = open_checkpoint(path)
    found = described(stored, chosen)
    need = measured(found, chosen)
    if not 0 <= chosen.threads <= MOST_THREADS:
        raise InputError(
            f"{chosen.threads} threads", where="--threads", remedy=f"give 1 to {MOST_THREADS}, or 0"
        )
    settings = Settings(
        choose_isa(chosen.isa), chosen.threads or allowed_threads(), chosen.activations, chosen.max_rows,
        found.entries.name,
    )  # fmt: skip
    vocabulary = vocabulary_of(stored)
    if vocabulary.size > found.model.shape.vocabulary:
        raise FileError(
            f"the tokenizer has {vocabulary.size} tokens, and the model {found.model.shape.vocabulary}",
            where=str(path), remedy="fetch the file again or convert the model again",
        )  # fmt: skip
    entries = chosen.entries
    if entries is None:
        entries = need.least if chosen.memory is None else need.entries(chosen.memory)
    if entries < 1:
        raise InputError(f"{entries} cache entries", remedy="give at least one")
    if chosen.sequences < 1:
        raise InputError(f"states of {chosen.sequences} sequences", remedy="give at least one")
    runner = _runner(found, settings, entries, chosen.sequences)
    sought: Sought = no_module
    if isinstance(runner, NativeRunner | ReferenceRunner):
        sought = runner.sought = sought_lookahead_module(found.model, stored)
    require_module(served_policy(chosen.eviction), sought, path)
    give_back(stored.tensors.values())
    return LoadedModel(
        path, found.checkpoint, found.model, vocabulary, runner, need.context, settings, found.backend,
        found.notice, sought, found.drafter, found.ngrams,
    )  # fmt: skip


def _runner(found: Described, settings: Settings, entries: int, sequences: int) -> Runner:
    """The runner of the backend that was chosen, its weights in memory."""
    checkpoint = found.checkpoint
    if found.outline is not None:
        room = Room(settings.threads, settings.max_rows, entries, settings.cache_format)
        return transformers_backend().open_runner(found.outline, checkpoint, room)
    if found.backend == REFERENCE:
        return ReferenceRunner(found.model, checkpoint, entries, found.entries, sequences, found.drafter)
    return NativeRunner(
        found.model, checkpoint, settings, entries, lambda tensor: give_back([tensor]), sequences,
        found.drafter,
    )  # fmt: skip
