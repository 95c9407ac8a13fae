"""Prompts to measure with: the fixed sets of exercises, as tokens by the model's own template.

Texts are of packages that nothing was trained with, asked in phrasings that training does not have. Questions
on one document share its tokens, so it is read once for all of them. Nothing is run here.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from fivefold.core.errors import InputError
from fivefold.exercises import (
    FIXED_SETS,
    Exercise,
    FixedSet,
    Question,
    Rendering,
    Text,
    common_beginning,
    exercises,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Selected:
    """Which prompts: sets by name, documents of each, the seed that they are drawn with."""

    sets: tuple[str, ...]
    count: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question on a document: its name, which does not change, all of its tokens, and what is asked."""

    name: str
    tokens: tuple[int, ...]
    question: Question


@dataclass(frozen=True, slots=True)
class AskedDocument:
    """A document with its prompts; `set_name` is that of the fixed set."""

    name: str
    set_name: str
    prompts: tuple[Prompt, ...]

    @property
    def shared(self) -> int:
        """Tokens that all prompts begin with."""
        return common_beginning([prompt.tokens for prompt in self.prompts])


def asked_document(rendering: Rendering, name: str, set_name: str, exercise: Exercise) -> AskedDocument:
    """An exercise with the tokens of its questions."""
    prompts = zip(rendering.prompts(exercise), exercise.questions, strict=True)
    return AskedDocument(name, set_name, tuple(Prompt(f"{name}.{n}", *one) for n, one in enumerate(prompts)))


def chosen_sets(kinds: Sequence[str], lengths: Sequence[str]) -> tuple[str, ...]:
    """Names of the fixed sets of these kinds and lengths; empty is all. InputError if there is none."""
    known_kinds = {one.kind for one in FIXED_SETS.values()}
    known_lengths = {length_of(one) for one in FIXED_SETS.values()}
    for given, known, where in ((kinds, known_kinds, "--kinds"), (lengths, known_lengths, "--lengths")):
        for name in given:
            if name not in known:
                raise InputError(
                    f"{name!r} is not known", where=where, remedy=f"take of {', '.join(sorted(known))}"
                )
    found = tuple(
        name
        for name, one in FIXED_SETS.items()
        if (not kinds or one.kind in kinds) and (not lengths or length_of(one) in lengths)
    )
    if not found:
        raise InputError(
            "no set has these kinds in these lengths", where="--kinds", remedy="leave one of them out"
        )
    return found


def length_of(one: FixedSet) -> str:
    """The length in a set's name, such as 2k."""
    return one.name.rpartition("_")[2]


def documents(
    selected: Selected, texts: Sequence[Text], rendering: Rendering, done: Container[str] = ()
) -> Iterator[AskedDocument]:
    """Documents that are not done, one of each set in turn: when it is stopped there are some of all."""
    for number in range(selected.count):
        for name in selected.sets:
            if f"{name}.{number}" in done:
                continue
            drawing = FIXED_SETS[name].drawing(selected.seed)
            exercise = next(exercises(texts, rendering.count, drawing, 1, number))
            yield asked_document(rendering, f"{name}.{number}", name, exercise)
