"""Finding marks in text that comes in parts."""

from __future__ import annotations

from collections.abc import Sequence


def first_mark(text: str, marks: Sequence[str]) -> tuple[int, str] | None:
    """Where the first of the marks is, and which; None if there is none."""
    return min(((text.find(mark), mark) for mark in marks if mark in text), default=None)


def begun_mark(text: str, marks: tuple[str, ...]) -> int:
    """Length of the longest ending of `text` that begins one of the marks, each of two characters or more."""
    longest = 0
    for mark in marks:
        tail = text[1 - len(mark) :]
        at = tail.find(mark[0])
        while at >= 0 and not mark.startswith(tail[at:]):
            at = tail.find(mark[0], at + 1)
        longest = max(longest, len(tail) - at if at >= 0 else 0)
    return longest
