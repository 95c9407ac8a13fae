"""The errors that people see.

Every error says what is wrong, where, and what to do about it, in one line. The command line
prints that line to stderr and ends with the error's exit status; the Python doors raise it.
This module does not catch or translate anything.
"""

from __future__ import annotations

LONGEST_PART = 400
"""Characters that an error says at most of what is wrong, and of the remedy."""


class FivefoldError(Exception):
    """Something failed while working on good input. Exit status 1.

    `what` says what is wrong, `where` the file, key or option it was found in, `remedy` what the
    reader can do. The text of the exception is the three joined on one line.
    """

    status = 1

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(self.line())

    def line(self) -> str:
        """The one line for people: `where: what; remedy`."""
        what = _bounded(self.what)
        text = f"{self.where}: {what}" if self.where else what
        text = f"{text}; {_bounded(self.remedy)}" if self.remedy else text
        return _printable(" ".join(text.split()))


def _bounded(text: str) -> str:
    """A part of a line, which may quote a file: not endless."""
    return text if len(text) <= LONGEST_PART else f"{text[: LONGEST_PART - 103]}...{text[-100:]}"


def _printable(text: str) -> str:
    """The text with everything escaped that would steer a terminal, or that cannot be written."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class InputError(FivefoldError):
    """The caller's input is wrong: a bad option, file, key or value. Exit status 2."""

    status = 2


class FileError(InputError):
    """A model file cannot be used: missing, cut short, malformed, or of an unknown kind."""


class UnsupportedError(InputError):
    """The input is well formed and this build has no implementation for it."""


class NotFiniteError(FivefoldError):
    """A model gave a number that is NaN or infinite."""

    def __init__(self, what: str, *, where: str = "") -> None:
        super().__init__(
            what, where=where, remedy="its file may be broken; take another file or number format"
        )

    def of(self, model: str) -> NotFiniteError:
        """The same, with the model's name."""
        return NotFiniteError(self.what, where=model)


class OverloadedError(FivefoldError):
    """There is no room for one more request now; `retry_after` seconds may help."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "", retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(what, where=where, remedy=remedy)
