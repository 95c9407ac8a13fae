"""Reads one tool call, a JSON object with a function's name and arguments, as it comes.

The arguments are given on as they stand in the answer, so that they are the same byte for byte streamed
or not. Models differ in what they write around them: the keys come in either order, the arguments
may be missing, null, or a string that holds the object. Other keys are read over, and of a key that
comes twice the first counts. Marks around the object are not looked at here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Literal

from fivefold.chat.answer import CallForm
from fivefold.chat.json_scanner import SPACE, JsonScanner

_SURROGATE = re.compile("[\ud800-\udfff]")


class CallReader:
    """One call. `name` is empty until it is known; `done` after the object's last character.

    `failed` when what came is no call; `unsent` is then the value at fault, if it was read and
    held back.
    """

    def __init__(self, form: CallForm) -> None:
        self.name = ""
        self.done = False
        self.failed = False
        self.unsent = ""
        self._form = form
        self._state: Callable[[CallReader, str, int], int] = CallReader._open
        self._scanner = JsonScanner()
        self._held: list[str] = []
        self._key = ""
        self._role: Literal["skip", "name", "object", "string"] = "skip"
        self._has_arguments = False
        self._arguments: list[str] = []

    def read(self, text: str, at: int = 0) -> int:
        """Accept what follows `at`; where the text was left: its end, that of the object, or the fault."""
        while at < len(text) and not (self.done or self.failed):
            at = self._state(self, text, at)
        return at

    def take_arguments(self) -> str:
        """The text of the arguments that is new since the last time. A whole call without any has "{}"."""
        new = "".join(self._arguments)
        self._arguments.clear()
        return new

    def _open(self, text: str, at: int) -> int:
        if text[at] != "{":
            return self._fail(at)
        self._state = CallReader._first_key
        return at + 1

    def _first_key(self, text: str, at: int) -> int:
        return self._close(at) if text[at] == "}" else self._next_key(text, at)

    def _next_key(self, text: str, at: int) -> int:
        if text[at] in SPACE:
            return at + 1
        if text[at] != '"':
            return self._fail(at)
        self._begin(CallReader._in_key)
        return at

    def _in_key(self, text: str, at: int) -> int:
        at = self._scan(text, at, held=True)
        if self._scanner.done:
            self._key = json.loads("".join(self._held))
            self._state = CallReader._colon
        return at

    def _colon(self, text: str, at: int) -> int:
        if text[at] in SPACE:
            return at + 1
        if text[at] != ":":
            return self._fail(at)
        self._state = CallReader._value
        return at + 1

    def _value(self, text: str, at: int) -> int:
        """The first character tells whether the value is of a kind that its key may have."""
        if text[at] in SPACE:
            return at + 1
        self._role = "skip"
        if self._key == self._form.name_key and not self.name:
            if text[at] != '"':
                return self._fail(at)
            self._role = "name"
        elif self._key in self._form.argument_keys and not self._has_arguments:
            if text[at] not in '{"n':
                return self._fail(at)
            self._has_arguments = text[at] == "{"
            self._role = "object" if text[at] == "{" else "string" if text[at] == '"' else "skip"
        self._begin(CallReader._in_value)
        return at

    def _in_value(self, text: str, at: int) -> int:
        begin, at = at, self._scan(text, at, held=self._role in {"name", "string"})
        if self._role == "object":
            self._arguments.append(text[begin:at])
        if self._scanner.done:
            self._state = CallReader._after_value
            if self._role == "name":
                self._accept_name("".join(self._held))
            elif self._role == "string":
                self._accept_string("".join(self._held))
        return at

    def _after_value(self, text: str, at: int) -> int:
        if text[at] in SPACE:
            return at + 1
        if text[at] == "}":
            return self._close(at)
        if text[at] != ",":
            return self._fail(at)
        self._state = CallReader._next_key
        return at + 1

    def _accept_name(self, raw: str) -> None:
        self.name = json.loads(raw)
        if not self.name or _SURROGATE.search(self.name):
            self.name, self.failed = "", True

    def _accept_string(self, raw: str) -> None:
        """Arguments that were encoded twice; an empty text and null are no arguments."""
        content = _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", json.loads(raw).strip(SPACE))
        if content in {"", "null"}:
            return
        scanner = JsonScanner()
        if content[0] == "{" and scanner.scan(content) == len(content) and scanner.done:
            self._arguments.append(content)
            self._has_arguments = True
        else:
            self.unsent, self.failed = raw, True

    def _begin(self, state: Callable[[CallReader, str, int], int]) -> None:
        self._scanner, self._state = JsonScanner(), state
        self._held.clear()

    def _scan(self, text: str, at: int, held: bool) -> int:
        begin, at = at, self._scanner.scan(text, at)
        if held:
            self._held.append(text[begin:at])
        self.failed = self._scanner.failed
        return at

    def _close(self, at: int) -> int:
        """The object's end. One that names no function is no call."""
        self.done, self.failed = bool(self.name), not self.name
        if not self._has_arguments:
            self._arguments.append("{}")
        return at + 1

    def _fail(self, at: int) -> int:
        self.failed = True
        return at
