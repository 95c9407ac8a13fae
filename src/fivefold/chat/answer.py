"""What an answer is made of, and what a dialect is: the contract of this room's parsers.

Models write reasoning and tool calls as marks in their text, each family in its own way. A dialect says
how, as data, so that one description serves the parser of answers, the text that tells a model of its
tools, and a grammar. One parser reads one answer. How each dialect writes is in `dialects`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

PieceKind = Literal["text", "reasoning", "tool_call", "tool_arguments"]


@dataclass(frozen=True, slots=True)
class Piece:
    """One committed part of an answer: exactly one of the kinds.

    text        text, reasoning: what is new; tool_arguments: new raw JSON text of the arguments.
    call        tool_call, tool_arguments: which call, from 0.
    name        tool_call: the whole name of the function.
    identity    tool_call: "call_" and 24 hexadecimal digits.
    """

    kind: PieceKind
    text: str = ""
    call: int = 0
    name: str = ""
    identity: str = ""


class AnswerParser(Protocol):
    """Reads one answer as it comes. What it gives is final, however the answer is cut into pieces.

    The `tool_arguments` of a call, joined, are the JSON text of an object, unless the call was cut.
    """

    def push(self, text: str) -> list[Piece]:
        """What is certain after this text."""

    def finish(self) -> list[Piece]:
        """What was held back, when no text follows. A second time it gives nothing."""

    @property
    def called(self) -> bool:
        """Whether a whole tool call was seen."""

    @property
    def cut(self) -> bool:
        """Whether a tool call was begun and its JSON object broke off: its arguments are not whole."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The texts before and after a block."""

    opener: str
    closer: str


@dataclass(frozen=True, slots=True)
class CallForm:
    """A tool call as a JSON object between marks.

    name_key        the object's key that names the function.
    argument_keys   keys that may hold the arguments object; the first is the one to write.
    response        the marks around what a tool has returned.
    """

    marks: Marks
    name_key: str
    argument_keys: tuple[str, ...]
    response: Marks


class MakeParser(Protocol):
    """Makes the parser of one answer.

    `tools` and `reasoning`: whether their marks are read, or left as text. `opened`: the prompt
    already ended with the opener of the reasoning.
    """

    def __call__(self, tools: bool, reasoning: bool, opened: bool = False) -> AnswerParser: ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a family of models writes reasoning and tool calls.

    shown_texts      marks that are special tokens in some vocabularies: their text has to be shown.
    call, thinking   the form of a tool call and the marks of reasoning, where there are such.
    instruct         the words for a system message that tell a model of its tools.
    frame            the marks of messages, for dialects whose answers are several of them.
    template_marks   texts of which one in a chat template tells that the model writes this dialect.
    taught_marks     the same for templates that know no tools: the model writes it when told so.
    """

    name: str
    shown_texts: tuple[str, ...]
    make: MakeParser
    call: CallForm | None = None
    thinking: Marks | None = None
    instruct: Callable[[Sequence[Mapping[str, Any]]], str] | None = None
    frame: tuple[str, ...] = ()
    template_marks: tuple[str, ...] = ()
    taught_marks: tuple[str, ...] = ()

    @property
    def reasons(self) -> bool:
        """Whether it has marks of reasoning."""
        return self.thinking is not None or bool(self.frame)

    @property
    def reasoning_open(self) -> str:
        """The text after which a prompt has already opened the reasoning; empty if there is none."""
        return "" if self.thinking is None else self.thinking.opener
