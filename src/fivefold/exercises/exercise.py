"""What an exercise is: a shared beginning and several questions on it.

A document is read once and asked several times, since reading it is what costs. An exercise gives texts of
messages only; what a chat template makes of them, and tokens, belong to the caller.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

Message = dict[str, str]
"""`role` and `content`, as chat templates take them."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question on a document.

    `answer` is what a right answer contains, None where no string decides. `prefix` begins the assistant's
    turn, which the model goes on with (as in RULER, arXiv 2404.06654); it may be empty. `kind` is the name
    of the question's kind, `depth` where in the document the answer stands (0 its beginning, 1 its end).
    """

    text: str
    answer: str | None
    prefix: str
    kind: str
    depth: float | None = None

    def is_right(self, said: str) -> bool:
        """Whether what was said after the prefix has the answer, in whole words; case does not matter."""
        if self.answer is None:
            return False
        whole = re.escape(plain(self.answer))
        return re.search(rf"(?<!\w){whole}(?!\w)", plain(said)) is not None


@dataclass(frozen=True, slots=True)
class Exercise:
    """A document with questions.

    The messages of a question are `history`, then one of the user's: the document and the question. So all
    questions share their messages up to the end of `document`. `packages` are those that the text is of.
    """

    kind: str
    document: str
    questions: tuple[Question, ...]
    packages: tuple[str, ...]
    history: tuple[tuple[str, str], ...] = field(default=())

    def messages(self, question: Question) -> list[Message]:
        """The conversation that ends with the question; the assistant's turn, with the prefix, comes next."""
        asked = f"{self.document}\n\n{question.text}" if self.document else question.text
        before = [{"role": role, "content": content} for role, content in self.history]
        return [*before, {"role": "user", "content": asked}]


def plain(text: str) -> str:
    """In small letters, all blanks alike."""
    return " ".join(text.lower().split())
