"""What the rooms above know of a tokenizer: text in, token ids out, and back.

`files` makes vocabularies, `chat` and `engine` use them; they do not know each other, so the noun
lives here. How text is cut into tokens is the implementation's matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Vocabulary(Protocol):
    """The tokens of one model.

    A token is special when it steers the model instead of standing for text: begin, end, the marks
    of a chat turn. The text of a special token, written by a user, is ordinary text unless the
    caller of `encode` says otherwise.
    """

    @property
    def size(self) -> int:
        """Number of tokens; ids run from 0 to size - 1."""

    @property
    def bos(self) -> int | None:
        """The token that begins a text, if the model has one."""

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Tokens that end an answer, without repetition, the end of text first: eos, eot, eom."""

    @property
    def add_bos(self) -> bool:
        """Whether the model expects `bos` before every text."""

    def encode(self, text: str | bytes, *, special: bool = False, add_bos: bool | None = None) -> list[int]:
        """Token ids of a text.

        `special`: read the texts of special tokens as those tokens. `add_bos`: begin with `bos`;
        None does as the model expects. Bytes that are not UTF-8 read as U+FFFD.
        """

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of tokens: their bytes joined; what is not UTF-8 reads as U+FFFD.

        It is what they add to the text before them. So a vocabulary that writes a space before every
        word has one before the first as well. InputError for an unknown id.
        """

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token, perhaps only a part of a character. InputError for an unknown id."""

    def is_special(self, token: int) -> bool:
        """Whether a token steers the model instead of standing for text. InputError for an unknown id."""

    def token_id(self, text: str) -> int | None:
        """The one token that stands for exactly this text, special or not."""
