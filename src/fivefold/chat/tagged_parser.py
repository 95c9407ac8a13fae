"""The parser of dialects that write a tool call as JSON between marks, and reasoning between others.

Text is held back while it could still become a mark, a call until its function's name is known, and
not longer. What turns out to be no call comes out as the text it is. Nothing that was given is ever
taken back: no half JSON is completed or parsed again.

Space counts as layout where only marks are around it: before the first block, between blocks and after
the last. A list of calls in one block is read too, which is how SmolLM2 was trained to call.
"""

from __future__ import annotations

from collections.abc import Callable

from fivefold.chat.answer import CallForm, Marks, Piece
from fivefold.chat.call_reader import CallReader
from fivefold.chat.json_scanner import SPACE
from fivefold.chat.marks import begun_mark, first_mark
from fivefold.chat.pieces import Pieces


class TaggedParser:
    """One answer. Marks of a form that is None are text. No mark may be part of another."""

    def __init__(self, call: CallForm | None, thinking: Marks | None, opened: bool = False) -> None:
        """`opened`: the answer begins inside the reasoning."""
        self._form, self._thinking = call, thinking
        marks = (None if call is None else call.marks, thinking)
        self._openers = tuple(each.opener for each in marks if each is not None)
        self._pieces = Pieces()
        self._state: Callable[[TaggedParser], bool] = TaggedParser._in_text
        self._rest = ""
        """Text that came and is not decided yet."""
        self._space: str | None = "" if self._openers else None
        """Space since the start or the last block; None once there was text."""
        self._trim = False
        """Whether newlines are left out there."""
        self._had_block = False
        self._owed = ""
        """The closer of a block that is over and was not closed: left out when it comes."""
        self._raw: list[str] = []
        """The markup of a call that has no name yet."""
        self._reader: CallReader | None = None
        self._listed = False
        self._block_calls = 0
        self._called = self._cut = False
        if opened and thinking is not None:
            self._begin_reasoning()

    @property
    def called(self) -> bool:
        return self._called

    @property
    def cut(self) -> bool:
        return self._cut

    def push(self, text: str) -> list[Piece]:
        self._rest += text
        while self._rest and self._state(self):
            pass
        return self._pieces.taken()

    def finish(self) -> list[Piece]:
        rest, self._rest = self._rest, ""
        if self._state == TaggedParser._in_reasoning:
            self._pieces.emit("reasoning", rest)
        elif self._state == TaggedParser._in_text:
            if not (self._space is not None and self._owed.startswith(rest)):
                self._show(rest)
        elif self._raw:
            if self._reader is not None or self._block_calls == 0:  # else it ends after a list's comma
                self._show("".join(self._raw))
        elif self._reader is not None:
            self._cut = True
        if self._space and not self._had_block:
            self._pieces.emit("text", self._space)
        self._space, self._reader, self._state = None, None, TaggedParser._in_text
        self._raw.clear()
        return self._pieces.taken()

    def _in_text(self) -> bool:
        marks = (*self._openers, self._owed) if self._owed else self._openers
        found = first_mark(self._rest, marks)
        if found is None:
            begun = begun_mark(self._rest, marks)
            self._show(self._rest[: len(self._rest) - begun])
            self._rest = self._rest[len(self._rest) - begun :]
            return False
        at, mark = found
        self._show(self._rest[:at])
        self._rest = self._rest[at + len(mark) :]
        if mark == self._owed:
            self._end_block()
        elif self._thinking is not None and mark == self._thinking.opener:
            self._begin_reasoning()
        else:
            self._owed, self._raw, self._listed = "", [mark], False
            self._block_calls, self._reader = 0, None
            self._state = TaggedParser._before_call
        return True

    def _begin_reasoning(self) -> None:
        self._end_block()
        self._trim, self._state = True, TaggedParser._in_reasoning

    def _in_reasoning(self) -> bool:
        assert self._thinking is not None
        closer = self._thinking.closer
        if self._trim:
            self._rest = self._rest.lstrip("\n")
        at = self._rest.find(closer)
        end = at if at >= 0 else len(self._rest) - begun_mark(self._rest, (closer,))
        body = self._rest[:end].rstrip("\n")
        self._pieces.emit("reasoning", body)
        self._trim = self._trim and not self._rest[:end]
        if at < 0:
            self._rest = self._rest[len(body) :]
            return False
        self._rest = self._rest[at + len(closer) :]
        self._end_block()
        self._trim, self._state = True, TaggedParser._in_text
        return True

    def _before_call(self) -> bool:
        """Between the opener, or the comma in a list, and the call's object."""
        body = self._rest.lstrip(SPACE)
        self._raw.append(self._rest[: len(self._rest) - len(body)])
        self._rest = body
        if body.startswith("[") and not self._listed:
            self._listed = True
            self._raw.append("[")
            self._rest = body[1:]
        elif body:
            assert self._form is not None
            self._reader, self._state = CallReader(self._form), TaggedParser._in_call
        return bool(self._rest)

    def _in_call(self) -> bool:
        assert self._reader is not None
        reader = self._reader
        end = reader.read(self._rest)
        read, self._rest = self._rest[:end], self._rest[end:]
        if self._raw and not reader.name:
            self._raw.append(read)
        elif self._raw:
            self._announce(reader.name)
        if not self._raw:
            self._pieces.emit("tool_arguments", reader.take_arguments())
        if not (reader.done or reader.failed):
            return False
        self._end_call(reader)
        return True

    def _announce(self, name: str) -> None:
        self._raw.clear()
        self._end_block()
        self._pieces.announce(name)
        self._block_calls += 1

    def _end_call(self, reader: CallReader) -> None:
        assert self._form is not None
        if self._block_calls:
            self._owed = self._form.marks.closer
        self._called = self._called or reader.done
        self._cut = self._cut or not (reader.done or self._raw)
        self._show("".join(self._raw) if self._raw else reader.unsent)
        self._raw.clear()
        self._reader = None
        listed = self._listed and reader.done
        self._state = TaggedParser._between_calls if listed else TaggedParser._in_text

    def _between_calls(self) -> bool:
        """After a call of a list."""
        self._rest = self._rest.lstrip(SPACE)
        if self._rest.startswith(","):
            self._rest, self._raw = self._rest[1:], [","]
            self._state = TaggedParser._before_call
        elif self._rest:
            self._rest = self._rest.removeprefix("]")
            self._state = TaggedParser._in_text
        return bool(self._rest)

    def _end_block(self) -> None:
        """What a block leaves behind: space after it is layout until text comes."""
        self._had_block = True
        self._space, self._trim, self._owed = "", False, ""

    def _show(self, text: str) -> None:
        """Text of the answer, and the space before it if that turns out to belong to it."""
        if self._space is not None:
            text = self._space + text
            if self._trim:
                text = text.lstrip("\n")
            if not text.strip():
                self._space = text
                return
            self._space = None
        self._pieces.emit("text", text)
