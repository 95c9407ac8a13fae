"""Reads one JSON value as it comes, character by character, and accepts what can still become valid.

A tool call's arguments are passed on while the model writes them, so their text must be checked as it
arrives: completing half an object and parsing that would have to guess. Strict JSON (RFC 8259): no
comments, no NaN, no raw control characters in strings. Nothing is converted.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MOST_DEPTH = 64
"""Objects and lists that may be open at once."""

SPACE = " \t\n\r"
_SPACES = re.compile(f"[{SPACE}]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_DIGITS = "0123456789"
_LITERALS = {"t": "rue", "f": "alse", "n": "ull"}

# A number's states: after its sign, a zero, whole digits, the point, decimals, the e, its sign, its digits.
_NUMBER: dict[str, dict[str, str]] = {
    "-": {"0": "0", **dict.fromkeys("123456789", "1")},
    "0": {".": ".", "e": "e", "E": "e"},
    "1": {**dict.fromkeys(_DIGITS, "1"), ".": ".", "e": "e", "E": "e"},
    ".": dict.fromkeys(_DIGITS, ".1"),
    ".1": {**dict.fromkeys(_DIGITS, ".1"), "e": "e", "E": "e"},
    "e": {**dict.fromkeys("+-", "e+"), **dict.fromkeys(_DIGITS, "e1")},
    "e+": dict.fromkeys(_DIGITS, "e1"),
    "e1": dict.fromkeys(_DIGITS, "e1"),
}
_WHOLE_NUMBER = {"0", "1", ".1", "e1"}


class JsonScanner:
    """One value. It begins with the first character given; space before it is the caller's matter.

    `done` after its last character; a number ends before the character that follows it. `failed`
    when a character came that no valid JSON has there.
    """

    def __init__(self) -> None:
        self.done = False
        self.failed = False
        self._closers: list[str] = []
        self._state: Callable[[JsonScanner, str, int], int] = JsonScanner._value
        self._key = False
        self._rest = ""
        self._hex = 0
        self._number = ""

    def scan(self, text: str, at: int = 0) -> int:
        """Accept what follows `at`; where the text was left: its end, that of the value, or the fault."""
        while at < len(text) and not (self.done or self.failed):
            at = self._state(self, text, at)
        return at

    def _value(self, text: str, at: int) -> int:
        character = text[at]
        if character in SPACE and self._closers:
            return self._space(text, at)
        if character in "{[":
            if len(self._closers) == MOST_DEPTH:
                return self._fail(at)
            self._closers.append("}" if character == "{" else "]")
            self._state = JsonScanner._first_key if character == "{" else JsonScanner._first_item
        elif character == '"':
            self._key, self._state = False, JsonScanner._string
        elif character in _LITERALS:
            self._rest, self._state = _LITERALS[character], JsonScanner._literal
        elif character in _NUMBER["-"]:
            self._number, self._state = _NUMBER["-"][character], JsonScanner._digits
        elif character == "-":
            self._number, self._state = "-", JsonScanner._digits
        else:
            return self._fail(at)
        return at + 1

    def _first_item(self, text: str, at: int) -> int:
        if text[at] in SPACE:
            return self._space(text, at)
        return self._close(at) if text[at] == "]" else self._value(text, at)

    def _first_key(self, text: str, at: int) -> int:
        return self._close(at) if text[at] == "}" else self._next_key(text, at)

    def _next_key(self, text: str, at: int) -> int:
        if text[at] in SPACE:
            return self._space(text, at)
        if text[at] != '"':
            return self._fail(at)
        self._key, self._state = True, JsonScanner._string
        return at + 1

    def _colon(self, text: str, at: int) -> int:
        if text[at] in SPACE:
            return self._space(text, at)
        if text[at] != ":":
            return self._fail(at)
        self._state = JsonScanner._value
        return at + 1

    def _after_value(self, text: str, at: int) -> int:
        if text[at] in SPACE:
            return self._space(text, at)
        if text[at] == self._closers[-1]:
            return self._close(at)
        if text[at] != ",":
            return self._fail(at)
        self._state = JsonScanner._next_key if self._closers[-1] == "}" else JsonScanner._value
        return at + 1

    def _string(self, text: str, at: int) -> int:
        at = _end_of(_PLAIN, text, at)
        if at == len(text):
            return at
        if text[at] == "\\":
            self._state = JsonScanner._escape
        elif text[at] != '"':
            return self._fail(at)
        elif self._key:
            self._state = JsonScanner._colon
        else:
            self._end_value()
        return at + 1

    def _escape(self, text: str, at: int) -> int:
        if text[at] == "u":
            self._hex, self._state = 4, JsonScanner._hexadecimal
        elif text[at] in '"\\/bfnrt':
            self._state = JsonScanner._string
        else:
            return self._fail(at)
        return at + 1

    def _hexadecimal(self, text: str, at: int) -> int:
        if text[at] not in "0123456789abcdefABCDEF":
            return self._fail(at)
        self._hex -= 1
        if self._hex == 0:
            self._state = JsonScanner._string
        return at + 1

    def _literal(self, text: str, at: int) -> int:
        if text[at] != self._rest[0]:
            return self._fail(at)
        self._rest = self._rest[1:]
        if not self._rest:
            self._end_value()
        return at + 1

    def _digits(self, text: str, at: int) -> int:
        following = _NUMBER[self._number].get(text[at])
        if following is not None:
            self._number = following
            return at + 1
        if self._number not in _WHOLE_NUMBER:
            return self._fail(at)
        self._end_value()
        return at

    def _close(self, at: int) -> int:
        self._closers.pop()
        self._end_value()
        return at + 1

    def _end_value(self) -> None:
        if self._closers:
            self._state = JsonScanner._after_value
        else:
            self.done = True

    def _space(self, text: str, at: int) -> int:
        return _end_of(_SPACES, text, at)

    def _fail(self, at: int) -> int:
        self.failed = True
        return at


def _end_of(run: re.Pattern[str], text: str, at: int) -> int:
    """Where a run of characters ends that begins at `at`; the pattern also matches nothing."""
    found = run.match(text, at)
    return at if found is None else found.end()
