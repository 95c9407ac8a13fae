"""Examples for a model out of exercises: tokens by the model's own template, and answers by the model itself.

Documents are numbered, and each depends on the seed and its number alone: a folder that is not complete is
filled up, whatever it already has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fivefold.backends import NativeRunner
from fivefold.chat import ChatTemplate
from fivefold.core.errors import FivefoldError, InputError, UnsupportedError
from fivefold.engine import LoadOptions, load
from fivefold.exercises import (
    WEIGHTS,
    Drawing,
    Exercise,
    Library,
    Question,
    Rendering,
    Text,
    common_beginning,
    one_exercise,
    texts,
)

from .examples import DOCUMENT, Document, write_document
from .making import Asked, Making, make_document

ROOM = 1024
"""Tokens beside a document: its question and answer, and what a template adds."""

LEAST_SHARED = 32
"""Tokens that the prompts of a document have alike, at least."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Which examples: how many documents, of how many tokens (log-uniform between two lengths), how asked.

    kinds  of exercises by weight. With `right`, questions that have an answer are kept only where the model
           finds it: what a wrong answer looked at teaches nothing about the right one.
    """

    documents: int
    lengths: tuple[int, int] = (256, 4096)
    seed: int = 0
    questions: int = 4
    kinds: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    right: bool = False

    def name(self, number: int) -> str:
        """Of a document; collections of other seeds can lie in the same folder."""
        return f"document-{self.seed:03d}-{number:05d}"


@dataclass(frozen=True, slots=True)
class Said:
    """After a document: its number, the document or None if its answers were too short, seconds so far."""

    number: int
    document: Document | None
    seconds: float

    def line(self) -> str:
        """For people."""
        if self.document is None:
            return f"document {self.number}: its answers are too short, {self.seconds:.0f} s"
        kinds = ", ".join(sorted({question.kind for question in self.document.questions}))
        return f"document {self.number}: {self.document.longest} tokens, {kinds}, {self.seconds:.0f} s"


def prompts_of(
    rendering: Rendering, exercise: Exercise, right: bool = False
) -> tuple[tuple[int, ...], list[Asked]]:
    """What all prompts of an exercise begin with, and what each goes on with; with `right` also what a right
    answer is."""
    prompts = rendering.prompts(exercise)
    shared = shared_beginning(prompts)
    asked = [
        Asked(prompt[shared:], question.kind, _judge(rendering, question) if right else None)
        for prompt, question in zip(prompts, exercise.questions, strict=True)
    ]
    return prompts[0][:shared], asked


def _judge(rendering: Rendering, question: Question) -> Callable[[Sequence[int]], bool] | None:
    if question.answer is None:
        return None
    return lambda answer: question.is_right(rendering.vocabulary.decode(answer))


def shared_beginning(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, each keeping one of its own at least."""
    return common_beginning([prompt[:-1] for prompt in prompts])


def collect_examples(
    path: Path, kept: Path, folder: Path, collection: Collection, threads: int, tell: Callable[[Said], None]
) -> int:
    """Make what is missing of a collection with the model at `path`, of texts kept in a folder.

    UnsupportedError for a model with more than one cache group or a backend whose entries cannot be read.
    """
    longest = collection.lengths[1] + ROOM
    entries = longest * (collection.questions + 1)
    options = LoadOptions(threads=threads, context=longest, entries=entries, drafter=False)
    loaded = load(path, options)
    runner, names = loaded.runner, loaded.model.layout.names
    if not isinstance(runner, NativeRunner) or len(names) != 1 or loaded.model.layout.states:
        raise UnsupportedError(
            "its layers do not all attend to everything, or another backend runs it", where=str(path),
            remedy="lookahead modules are for models of one cache group",
        )  # fmt: skip
    making = Making(runner, names[0], frozenset(loaded.vocabulary.end_tokens))
    rendering = Rendering(ChatTemplate.of(loaded.checkpoint, loaded.vocabulary), loaded.vocabulary)
    return collect(making, rendering, texts(kept, "training"), collection, folder, tell)


def collect(
    making: Making, rendering: Rendering, texts: Sequence[Text], collection: Collection, folder: Path,
    tell: Callable[[Said], None] = lambda said: None,
) -> int:  # fmt: skip
    """Make what is missing of a collection in a folder; how many documents were made now."""
    drawing = Drawing(collection.lengths, collection.seed, collection.kinds, collection.questions)
    settings = {**asdict(collection), "answer_tokens": making.answer_tokens}
    began, made = time.monotonic(), 0
    unknown = sorted(set(collection.kinds) - set(WEIGHTS))
    if unknown:
        raise InputError(
            f"unknown kind of exercise {unknown[0]!r}", where="--kinds",
            remedy=f"take some of {', '.join(WEIGHTS)}",
        )  # fmt: skip
    library = Library(texts, rendering.count)
    for number in range(collection.documents):
        name = collection.name(number)
        if (folder / name / DOCUMENT).exists():
            continue
        shared, asked = prompts_of(rendering, one_exercise(library, drawing, number), collection.right)
        document = None
        if len(shared) >= LEAST_SHARED:
            document = make_document(making, name, shared, asked, settings)
        if document is not None:
            write_document(folder, document)
            made += 1
        tell(Said(number, document, time.monotonic() - began))
    if not made and not any(folder.glob(f"*/{DOCUMENT}")):
        raise FivefoldError("no example could be made", where=str(folder), remedy="ask for more documents")
    return made
