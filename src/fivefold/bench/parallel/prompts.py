"""Prompts of three domains: general chat, summaries that quote, and code to be written again with a change.

The first are short questions of all kinds. The others are made of texts of packages that are held out
from all training (docs/exercises.md). What a model makes of them is its own affair: guesses are measured
on the answers that it really writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from random import Random

from fivefold.chat import ChatTemplate
from fivefold.core.errors import InputError
from fivefold.core.vocabulary import Vocabulary
from fivefold.exercises import Library, Text

SHORTEST, LONGEST = 150, 450
"""Tokens of a passage."""
QUOTING = (
    "Summarize the text below, and quote its most important sentences word for word.\n\n{text}",
    "{text}\n\nWhat does this text say? Answer with sentences from the text.",
    "Repeat the first two paragraphs of this text exactly, then say what it is about.\n\n{text}",
)
EDITING = (
    "Add a comment to this code and print the whole code again.\n\n```\n{text}\n```",
    "Rename one variable in the code below. Write the complete code.\n\n```\n{text}\n```",
    "Here is a file:\n\n```\n{text}\n```\n\nCorrect its mistakes, if there are any, and show the full file.",
)
Questions = Callable[[Library, Random, int], list[str]]


def _general(library: Library, random: Random, count: int) -> list[str]:
    lines = files(__package__).joinpath("general.txt").read_text(encoding="utf-8").splitlines()
    if count > len(lines):
        raise InputError(f"there are {len(lines)} general prompts", where="--count", remedy="give fewer")
    return lines[:count]


def _of_passages(kinds: Sequence[str], templates: Sequence[str]) -> Questions:
    def questions(library: Library, random: Random, count: int) -> list[str]:
        made = []
        for number in range(count):
            passage = library.passage(random, kinds, random.randint(SHORTEST, LONGEST))  # type: ignore[arg-type]
            made.append(templates[number % len(templates)].format(text=passage.text))
        return made

    return questions


DOMAINS: Mapping[str, Questions] = {
    "general": _general,
    "quoting": _of_passages(("prose", "manual"), QUOTING),
    "editing": _of_passages(("code",), EDITING),
}
"""The domains by name."""


def domain_prompts(
    texts: Sequence[Text], template: ChatTemplate, vocabulary: Vocabulary, count: int, seed: int
) -> dict[str, list[tuple[int, ...]]]:
    """So many prompts of each domain as tokens. InputError if there are not as many."""
    library = Library(texts, lambda text: len(vocabulary.encode(text)))
    return {
        name: [
            tuple(template.encode(vocabulary, [{"role": "user", "content": question}]))
            for question in questions(library, Random(f"{name} {seed}"), count)
        ]
        for name, questions in DOMAINS.items()
    }
