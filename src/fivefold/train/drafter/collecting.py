"""Conversations for a model: from its file and texts to shards on the disk.

What is asked comes from packages' texts, or, for a twin, from the records that it completes.

A folder that is not complete is filled up: each shard depends on the seed and its number alone. One that was
made otherwise, or has too few conversations, is refused.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fivefold.backends import NativeRunner
from fivefold.chat import ChatTemplate
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.engine import LoadedModel, LoadOptions, load
from fivefold.exercises import Library, Rendering, Side, texts
from fivefold.files import model_fingerprint
from fivefold.models import load_model
from fivefold.program import Model, tap_buffers, turning_of

from .asking import Asking, prompt_of
from .completing import Completing, Corpus
from .conversations import HELD_OUT, SHARD, TRAINING, Shard, read_shard, write_shard
from .writing import Prompt, Writing, write_conversations

ROOM = 512
"""Tokens of a prompt beside its passage, at most: what a template and a question add."""


@dataclass(frozen=True, slots=True)
class Collection:
    """How many conversations, how long, and how they are asked for.

    held_out  conversations about what is held out, beside the others.
    shard     conversations of a shard; `batch` of them run at once.
    taps      layers whose outputs are kept; empty for those that `usual_taps` names.
    """

    conversations: int
    held_out: int = 128
    answer: int = 256
    shard: int = 128
    batch: int = 32
    taps: tuple[int, ...] = ()
    asking: Asking | Completing = field(default_factory=Asking)


@dataclass(frozen=True, slots=True)
class Said:
    """After a shard: its name, tokens that it has and tokens that were written, and seconds that it took."""

    name: str
    tokens: int
    written: int
    seconds: float

    def line(self) -> str:
        """For people."""
        return (
            f"{self.name}: {self.tokens} tokens, {self.written} of them written, {self.seconds:.0f} s, "
            f"{self.tokens / self.seconds:.0f} tokens/s"
        )


def usual_taps(layers: int) -> tuple[int, ...]:
    """An early layer, the middle one and the last, as far as there are so many."""
    return tuple(sorted({min(1, layers - 1), layers // 2, layers - 1}))


def collect_conversations(
    path: Path, kept: Path, folder: Path, collection: Collection, threads: int, tell: Callable[[Said], None]
) -> int:
    """Make what is missing of a collection with the model at `path`, of texts or records kept in a folder;
    how many shards were made now. UnsupportedError for a model that cannot have a drafter."""
    longest = collection.asking.longest + ROOM + collection.answer
    options = LoadOptions(threads=threads, entries=longest * collection.batch, drafter=False)
    loaded = load(path, options)
    runner = loaded.runner
    if not isinstance(runner, NativeRunner):
        raise UnsupportedError(
            "another backend runs this model", where=str(path), remedy="drafters are for native models"
        )
    model = load_model(loaded.checkpoint)
    turning_of(model)
    end_tokens = frozenset(loaded.vocabulary.end_tokens)
    writing = _writing(runner, model, collection, end_tokens)
    fingerprint = model_fingerprint(model, loaded.checkpoint)
    taps, settings = _taps(collection, model), asdict(collection)
    made = 0
    sides: dict[Side, int] = {"held_out": collection.held_out, "training": collection.conversations}
    corpus = Corpus(kept) if isinstance(collection.asking, Completing) else None
    if corpus is not None:
        corpus.require_fit(path, sides)
    for side, count in sides.items():
        missing = _missing(folder, _shards(collection, side, count), (fingerprint, taps, settings))
        if not missing:
            continue
        prompt = _prompts(collection.asking, side, corpus or kept, loaded)
        for name, numbers in missing:
            began = time.monotonic()
            prompts = list(map(prompt, numbers))
            _require_room(prompts, min(longest, model.shape.context) - collection.answer)
            conversations = write_conversations(writing, prompts)
            shard = Shard(name, fingerprint, taps, conversations, settings)
            write_shard(folder, shard)
            made += 1
            tokens = sum(len(one.tokens) for one in conversations)
            tell(Said(name, tokens, shard.written, time.monotonic() - began))
    return made


def _missing(
    folder: Path, shards: Sequence[tuple[str, range]], made: tuple[str, tuple[int, ...], Mapping[str, Any]]
) -> list[tuple[str, range]]:
    """The shards that are not there; InputError for one of another model, with other taps, or asked for
    otherwise than it is to be `made`."""
    fingerprint, taps, settings = made
    wanted = json.loads(json.dumps({name: settings[name] for name in ("asking", "answer")}))
    missing = []
    for name, numbers in shards:
        if not (folder / name / SHARD).exists():
            missing.append((name, numbers))
            continue
        there = read_shard(folder / name)
        if len(there.conversations) < len(numbers):
            raise InputError(
                f"it has {len(there.conversations)} conversations, and {len(numbers)} are asked for",
                where=str(folder / name), remedy="remove that folder: it is written again, the same and more",
            )  # fmt: skip
        same = all(there.settings.get(key, value) == value for key, value in wanted.items())
        if (there.model, there.taps) != (fingerprint, taps) or not same:
            raise InputError(
                "these conversations are of another model or were asked for otherwise",
                where=str(folder / name), remedy="use another folder, or another --seed",
            )  # fmt: skip
    return missing


def _prompts(
    asking: Asking | Completing, side: Side, source: Path | Corpus, loaded: LoadedModel
) -> Callable[[int], Prompt]:
    """Prompts of a side by their numbers."""
    if isinstance(asking, Completing):
        assert isinstance(source, Corpus)
        return partial(source.prompt, asking, side)
    assert isinstance(source, Path)
    rendering = Rendering(ChatTemplate.of(loaded.checkpoint, loaded.vocabulary), loaded.vocabulary)
    return partial(prompt_of, asking, Library(texts(source, side), rendering.count), rendering)


def _require_room(prompts: Sequence[Prompt], longest: int) -> None:
    """InputError for a prompt that is longer than it should be, or if there is room for none."""
    if longest < 1:
        raise InputError("such answers leave no room for a prompt in the model's context",
                         remedy="ask for shorter ones: --answer")  # fmt: skip
    for one in prompts:
        if len(one.tokens) > longest:
            raise InputError(
                f"a prompt of kind {one.kind} has {len(one.tokens)} tokens, more than {longest}",
                remedy="ask for shorter texts (--longest) or answers (--answer)",
            )  # fmt: skip


def _writing(
    runner: NativeRunner, model: Model, collection: Collection, end_tokens: frozenset[int]
) -> Writing:
    taps = tap_buffers(model, _taps(collection, model))
    return Writing(runner, taps, model.main.outputs[0], end_tokens, collection.answer, collection.batch)


def _taps(collection: Collection, model: Model) -> tuple[int, ...]:
    return collection.taps or usual_taps(model.shape.layers)


def _shards(collection: Collection, side: Side, count: int) -> Sequence[tuple[str, range]]:
    """Names of shards, and the numbers of the conversations that each has."""
    word = HELD_OUT if side == "held_out" else TRAINING
    return [
        (
            f"{word}-{collection.asking.seed:03d}-{number:05d}",
            range(first, min(first + collection.shard, count)),
        )
        for number, first in enumerate(range(0, count, collection.shard))
    ]
