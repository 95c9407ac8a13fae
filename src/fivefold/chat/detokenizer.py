"""Tokens to text while they arrive: whole characters only, and cut at the first stop string.

A token may end in the middle of a character, and a stop string may begin in text that looks final.
So text is held back while it could still become either, and not longer. The first stop string to be
complete counts, the longest if several are complete at once: this does not depend on how the text
is cut into tokens. Stop tokens are the decoder's matter, not looked at here.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from fivefold.core.vocabulary import Vocabulary

OPEN = "\u2581"
"""What stands for a token that is not known yet in the text of a draft."""


class StreamDecoder:
    """The text of one answer, piece by piece.

    The pieces joined are `vocabulary.decode` of all tokens, cut before the stop string, or after it
    with `include_stop`. Special tokens have no text, but for those that are `shown`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        stop: tuple[str, ...] = (),
        include_stop: bool = False,
        shown: frozenset[int] = frozenset(),
        least: int = 0,
    ) -> None:
        """`stop` strings must not be empty, which `SamplingParams` has seen to. Text of the tokens before
        number `least` ends nothing: it is shown as it comes, and is not looked at again.
        """
        self.matched: str | None = None
        """The stop string that ended the text."""
        self._vocabulary = vocabulary
        self._shown = shown
        self._stop = stop
        self._include_stop = include_stop
        self._longest = max((len(text) for text in stop), default=0)
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._unstopped = least - 1
        """Tokens to come whose text cannot end the answer."""

    def push(self, token: int) -> str:
        """The text that may be shown after this token; empty once a stop string has come."""
        self._unstopped -= 1
        if self.matched is not None or (self._vocabulary.is_special(token) and token not in self._shown):
            return ""
        return self._accept(self._characters.decode(self._vocabulary.token_bytes(token)))

    def finish(self) -> str:
        """The text still held back when no token follows. An incomplete character reads as U+FFFD."""
        if self.matched is not None:
            return ""
        shown = self._accept(self._characters.decode(b"", final=True))
        shown, self._held = shown + self._held, ""
        return shown

    def preview(self, tokens: Sequence[int | None]) -> str:
        """What would follow the text shown so far if these tokens came, `OPEN` in place of each None.

        Stop strings are not looked for, and nothing is remembered.
        """
        characters = codecs.getincrementaldecoder("utf-8")("replace")
        characters.setstate(self._characters.getstate())
        text = self._held
        for token in tokens:
            if token is None:
                text += characters.decode(b"", final=True) + OPEN
                characters.reset()
            elif not self._vocabulary.is_special(token) or token in self._shown:
                text += characters.decode(self._vocabulary.token_bytes(token))
        return text + characters.decode(b"", final=True)

    def _accept(self, text: str) -> str:
        if not self._stop or self._unstopped >= 0:
            return text
        text = self._held + text
        self._held = ""
        found = self._first_stop(text)
        if found is not None:
            end, self.matched = found
            return text[: end if self._include_stop else end - len(self.matched)]
        kept = self._could_become_stop(text)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def _first_stop(self, text: str) -> tuple[int, str] | None:
        """Where the first complete stop string ends, and which it is."""
        places = [(text.find(stop) + len(stop), stop) for stop in self._stop if stop in text]
        return min(places, key=lambda place: (place[0], -len(place[1])), default=None)

    def _could_become_stop(self, text: str) -> int:
        """Length of the longest ending of `text` that begins a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            ending = text[len(text) - length :]
            if any(stop.startswith(ending) for stop in self._stop):
                return length
        return 0
