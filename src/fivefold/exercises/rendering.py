"""Exercises as tokens: by a model's chat template, with the words that begin its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fivefold.chat import ChatTemplate
from fivefold.core.vocabulary import Vocabulary

from .exercise import Exercise


@dataclass(frozen=True, slots=True)
class Rendering:
    """How exercises become tokens: a model's template and vocabulary."""

    template: ChatTemplate
    vocabulary: Vocabulary

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.vocabulary.encode(text))

    def prompts(self, exercise: Exercise) -> list[tuple[int, ...]]:
        """The tokens of each question's conversation, up to the prefix of its answer."""
        found = []
        for question in exercise.questions:
            tokens = self.template.encode(self.vocabulary, exercise.messages(question))
            if question.prefix:
                tokens = [*tokens, *self.vocabulary.encode(question.prefix, add_bos=False)]
            found.append(tuple(tokens))
        return found


def common_beginning(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with."""
    count = 0
    for column in zip(*prompts, strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count
