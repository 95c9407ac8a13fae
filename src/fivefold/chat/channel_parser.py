"""The parser of answers that are several messages, each with a header that names its channel.

A header tells what its message is: reasoning, text for the reader, or the arguments of a function. It is held
back until it is whole; of a body only what could still become a mark. Nothing that was given is taken back.
An answer that begins without a header is text. Marks are never shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fivefold.chat.answer import Piece, PieceKind
from fivefold.chat.json_scanner import SPACE, JsonScanner
from fivefold.chat.marks import begun_mark, first_mark
from fivefold.chat.pieces import Pieces

LONGEST_HEADER = 400
"""Characters of a header; more of them are text."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The marks of messages: what begins one and its channel, what ends its header, and what ends it.

    reasoning   the channel of reasoning.
    recipient   finds the function that a header sends its message to, as its group 1.
    """

    start: str
    channel: str
    message: str
    ends: tuple[str, ...]
    reasoning: str
    recipient: re.Pattern[str]
    inside: tuple[str, ...] = ()

    @property
    def marks(self) -> tuple[str, ...]:
        """All of them."""
        return (self.start, self.channel, self.message, *self.ends, *self.inside)


class ChannelParser:
    """One answer. `tools` and `reasoning`: whether these come as what they are, or as text."""

    def __init__(self, frame: Frame, tools: bool, reasoning: bool, opened: bool = False) -> None:
        self._frame, self._tools, self._reasoning = frame, tools, reasoning
        self._pieces = Pieces()
        self._rest = ""
        self._kind: PieceKind | None = "reasoning" if opened and reasoning else None
        """What the body is that is being read; None in a header."""
        self._first = True
        self._scanner: JsonScanner | None = None
        self._begun = False
        """Whether anything of a call's object has come."""
        self._called = self._cut = False

    @property
    def called(self) -> bool:
        return self._called

    @property
    def cut(self) -> bool:
        return self._cut

    def push(self, text: str) -> list[Piece]:
        self._rest += text
        while self._rest and (self._in_header() if self._kind is None else self._in_body()):
            pass
        return self._pieces.taken()

    def finish(self) -> list[Piece]:
        rest, self._rest = self._rest, ""
        if self._kind is None:
            if not any(mark in rest for mark in self._frame.marks) and self._first:
                self._pieces.emit("text", rest)
        else:
            self._take(rest)
            self._end_body()
        self._kind, self._first = "text", False
        return self._pieces.taken()

    def _in_header(self) -> bool:
        frame = self._frame
        at = self._rest.find(frame.message)
        if at >= 0:
            self._begin_body(self._rest[:at])
            self._rest = self._rest[at + len(frame.message) :]
            return True
        if (self._first and not self._may_be_header(self._rest)) or len(self._rest) > LONGEST_HEADER:
            self._first, self._kind = False, "text"
            return True
        return False

    def _may_be_header(self, text: str) -> bool:
        """Whether an answer that begins so may have a header: one begins with a mark, or a recipient."""
        begins = (self._frame.channel, self._frame.start, " to=", "to=")
        return any(text.startswith(one) or one.startswith(text) for one in begins)

    def _begin_body(self, header: str) -> None:
        frame, self._first = self._frame, False
        recipient = frame.recipient.search(header)
        channel = header.rpartition(frame.channel)[2].split()[:1]
        if recipient is not None and self._tools:
            self._kind, self._scanner = "tool_arguments", JsonScanner()
            self._pieces.announce(recipient[1])
            return
        thinks = frame.reasoning in channel and self._reasoning
        self._kind = "reasoning" if thinks else "text"

    def _in_body(self) -> bool:
        frame = self._frame
        marks = (*frame.ends, frame.start, frame.channel)
        found = first_mark(self._rest, marks)
        if found is None:
            end = len(self._rest) - begun_mark(self._rest, marks)
            self._take(self._rest[:end])
            self._rest = self._rest[end:]
            return False
        at, mark = found
        self._take(self._rest[:at])
        self._end_body()
        self._kind = None
        self._rest = self._rest[at + len(mark) if mark in frame.ends else at :]
        return True

    def _take(self, body: str) -> None:
        """More of a body. Of a call that is its object alone: what follows is none of it."""
        scanner = self._scanner
        if scanner is None:
            self._pieces.emit(self._kind or "text", body)
            return
        if not self._begun:
            body = body.lstrip(SPACE)
            self._begun = bool(body)
            scanner.failed = self._begun and body[0] != "{"
        if not (scanner.done or scanner.failed):
            self._pieces.emit("tool_arguments", body[: scanner.scan(body)])

    def _end_body(self) -> None:
        """A call without arguments has none to give; one that broke off is cut."""
        scanner, self._scanner = self._scanner, None
        if scanner is None:
            return
        if not self._begun:
            self._pieces.emit("tool_arguments", "{}")
        whole = scanner.done or not self._begun
        self._called, self._cut = self._called or whole, self._cut or not whole
        self._begun = False
