"""The pieces of one answer, as a parser finds them: neighbours of one kind become one."""

from __future__ import annotations

import secrets

from fivefold.chat.answer import Piece, PieceKind


class Pieces:
    """Those that nobody has taken yet, and how many calls there have been."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._calls = 0

    def announce(self, name: str) -> None:
        """A call of a function begins."""
        identity = f"call_{secrets.token_hex(12)}"
        self._pieces.append(Piece("tool_call", call=self._calls, name=name, identity=identity))
        self._calls += 1

    def emit(self, kind: PieceKind, text: str) -> None:
        """More text, reasoning, or arguments of the last call."""
        if not text:
            return
        last = self._pieces[-1] if self._pieces else None
        call = self._calls - 1 if kind == "tool_arguments" else 0
        if last is not None and (last.kind, last.call) == (kind, call):
            self._pieces[-1] = Piece(kind, last.text + text, call)
        else:
            self._pieces.append(Piece(kind, text, call))

    def taken(self) -> list[Piece]:
        """All of them, which are not given again."""
        pieces, self._pieces = self._pieces, []
        return pieces
