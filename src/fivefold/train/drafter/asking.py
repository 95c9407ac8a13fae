"""Which conversations: prompts out of texts of packages, by the model's own template.

Most are questions about a passage, as in exercises; some ask for something in general, about a word of the
texts, or an everyday question; a few are bare text, which the model goes on with. Number n of a side and a
seed is the same whatever comes before it. Phrasings of what is held out are never those of training.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType

from fivefold.core.errors import InputError
from fivefold.exercises import Drawing, Library, Rendering, Side, one_exercise

from .everyday import everyday_question
from .writing import Prompt

KINDS: Mapping[str, float] = MappingProxyType(
    {"summary": 3.0, "quote": 1.0, "code": 2.0, "chat": 2.0, "needle_prose": 0.5}
)
"""Kinds of exercises by weight, beside the other two kinds below."""

GENERAL, PLAIN, EVERYDAY = "general", "plain", "everyday"

LONG_WORDS = 8
"""Of the longest words of a passage one is asked about."""

_ASKED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "training": (
            "What is {word}?", "Explain {word} in simple words.", "Tell me something about {word}.",
            "Write a short story in which {word} plays a part.", "Give me five tips about {word}.",
            "How would you explain {word} to a child?", "Write a short email about {word} to a colleague.",
            "What are the advantages and disadvantages of {word}?", "Write a poem about {word}.",
            "What is the difference between {word} and {other}?", "List ten ideas about {word}.",
            "Write a Python function that has to do with {word}.", "How do I get started with {word}?",
            "Why do people care about {word}?", "Compare {word} with {other} in a few sentences.",
            "Write three questions for a quiz about {word}, with answers.", "Define {word} and {other}.",
            "What should everybody know about {word}?", "Describe a day in the life of somebody who works "
            "with {word}.", "Make a plan for learning about {word} in a week.",
            "Write a paragraph that has the words {word} and {other}.", "Is {word} important? Say why.",
        ),
        "held_out": (
            "Can you describe {word} for me?", "I have heard of {word}. What does it mean?",
            "Write a dialogue between two friends about {word}.", "Which steps are needed for {word}?",
            "Give an example of {word} and one of {other}.", "What is the history of {word}?",
            "Help me to write an introduction to a talk about {word}.", "Name three facts about {word}.",
        ),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asking:
    """How prompts are drawn.

    lengths      tokens of a passage, log-uniform between two.
    general      the share of prompts that ask in general about a word of a text; `plain` that of bare texts;
                 `everyday` that of everyday questions.
    sampled      the share of answers that are drawn at `temperature`; others take the likeliest tokens.
    """

    lengths: tuple[int, int] = (64, 640)
    seed: int = 0
    kinds: Mapping[str, float] = field(default_factory=lambda: dict(KINDS))
    general: float = 0.3
    plain: float = 0.1
    everyday: float = 0.0
    sampled: float = 0.25
    temperature: float = 0.7

    @property
    def longest(self) -> int:
        """Tokens of a passage at most."""
        return self.lengths[1]


def drawn(
    seed: int, side: Side, number: int, sampled: float, temperature: float
) -> tuple[Random, float, tuple[int, ...]]:
    """What a prompt is drawn with, the temperature of its answer, and the seed of that."""
    random = Random(f"conversation {side} {seed} {number}")
    heat = temperature if random.random() < sampled else 0.0
    return random, heat, (seed, number, int(side != "training"))


def prompt_of(asking: Asking, library: Library, rendering: Rendering, number: int) -> Prompt:
    """Prompt number `number` of the library's side."""
    side, sampled, temperature = library.side, asking.sampled, asking.temperature
    random, heat, seed = drawn(asking.seed, side, number, sampled, temperature)
    share = random.random()
    if share < asking.plain:
        return Prompt(_plain(asking, library, rendering, random), PLAIN, heat, seed)
    if share < asking.plain + asking.general:
        return Prompt(_general(library, rendering, random), GENERAL, heat, seed)
    if share < asking.plain + asking.general + asking.everyday:
        return Prompt(_asked(rendering, everyday_question(random, library.side)), EVERYDAY, heat, seed)
    for kinds in (asking.kinds, {"summary": 1.0}):
        try:
            exercise = one_exercise(library, Drawing(asking.lengths, asking.seed, kinds, 1), number)
        except InputError:  # a passage is too short for the kind that was drawn
            continue
        question = exercise.questions[0]
        return Prompt(rendering.prompts(exercise)[0], question.kind, heat, seed)
    raise InputError("no text serves for a prompt", remedy="ask for longer texts: --longest")


def _plain(asking: Asking, library: Library, rendering: Rendering, random: Random) -> tuple[int, ...]:
    low, high = asking.lengths
    size = round(math.exp(random.uniform(math.log(low), math.log(high))))
    passage = library.passage(random, ("prose", "manual", "code", "talk"), size)
    return tuple(rendering.vocabulary.encode(passage.text))


def _general(library: Library, rendering: Rendering, random: Random) -> tuple[int, ...]:
    passage = library.passage(random, ("prose", "manual", "talk"), 64)
    found = sorted(set(re.findall(r"\b[A-Za-z][a-z]{4,}\b", passage.text)) or {"language"})
    words = sorted(found, key=len)[-LONG_WORDS:]  # short ones are mostly no subject
    text = random.choice(_ASKED[library.side]).format(word=random.choice(words), other=random.choice(words))
    return _asked(rendering, text)


def _asked(rendering: Rendering, text: str) -> tuple[int, ...]:
    return tuple(rendering.template.encode(rendering.vocabulary, [{"role": "user", "content": text}]))
