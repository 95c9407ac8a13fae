"""Plain: everything is text. For models that know no tools, and for marks that nobody asked to read."""

from __future__ import annotations

from fivefold.chat.answer import AnswerParser, Dialect, Piece


class PlainParser:
    """Gives what it gets."""

    def push(self, text: str) -> list[Piece]:
        return [Piece("text", text)] if text else []

    def finish(self) -> list[Piece]:
        return []

    @property
    def called(self) -> bool:
        return False

    @property
    def cut(self) -> bool:
        return False


def _make(tools: bool, reasoning: bool, opened: bool = False) -> AnswerParser:
    return PlainParser()


DIALECT = Dialect(name="plain", shown_texts=(), make=_make)
