"""Examples for a model out of exercises: each becomes tokens by the model's own template, and is answered by it.

Documents are numbered, and each depends on the seed and its number alone: a folder that is not complete is
filled up, whatever it already has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fivefold.chat import ChatTemplate
from fivefold.core.errors import FivefoldError
from fivefold.core.vocabulary import Vocabulary
from fivefold.exercises import WEIGHTS, Drawing, Exercise, Text, exercises

from .examples import DOCUMENT, Document, write_document
from .making import Asked, Making, make_document

LEAST_SHARED = 32
"""Tokens that the prompts of a document have alike, at least."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Which examples: how many documents, of how many tokens (log-uniform between two lengths), how asked."""

    documents: int
    lengths: tuple[int, int] = (256, 4096)
    seed: int = 0
    questions: int = 4
    kinds: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))


@dataclass(frozen=True, slots=True)
class Said:
    """After a document: its number, the document or None if its answers were too short, seconds so far."""

    number: int
    document: Document | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Prompts:
    """How exercises become tokens."""

    template: ChatTemplate
    vocabulary: Vocabulary

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.vocabulary.encode(text))

    def tokens(self, exercise: Exercise) -> tuple[list[int], list[Asked]]:
        """What all prompts of an exercise begin with, and what each goes on with."""
        prompts = [
            [
                *self.template.encode(self.vocabulary, exercise.messages(question)),
                *(self.vocabulary.encode(question.prefix, add_bos=False) if question.prefix else ()),
            ]
            for question in exercise.questions
        ]
        shared = shared_beginning(prompts)
        asked = [
            Asked(tuple(prompt[shared:]), question.kind)
            for prompt, question in zip(prompts, exercise.questions, strict=True)
        ]
        return prompts[0][:shared], asked


def shared_beginning(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, each keeping one of its own at least."""
    count = 0
    for column in zip(*(prompt[:-1] for prompt in prompts), strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count


def collect(
    making: Making, prompts: Prompts, texts: Sequence[Text], collection: Collection, folder: Path,
    tell: Callable[[Said], None] = lambda said: None,
) -> int:  # fmt: skip
    """Make what is missing of a collection in a folder; how many documents were made now."""
    drawing = Drawing(collection.lengths, collection.seed, collection.kinds, collection.questions)
    settings = {**asdict(collection), "answer_tokens": making.answer_tokens}
    began, made = time.monotonic(), 0
    missing = [n for n in range(collection.documents) if not (folder / _name(n) / DOCUMENT).exists()]
    for number in missing:
        exercise = next(exercises(texts, prompts.count, drawing, 1, number))
        shared, asked = prompts.tokens(exercise)
        document = None
        if len(shared) >= LEAST_SHARED:
            document = make_document(making, _name(number), shared, asked, settings)
        if document is not None:
            write_document(folder, document)
            made += 1
        tell(Said(number, document, time.monotonic() - began))
    if not made and not any(folder.glob(f"*/{DOCUMENT}")):
        raise FivefoldError("no example could be made", where=str(folder), remedy="ask for more documents")
    return made


def _name(number: int) -> str:
    return f"document-{number:05d}"
