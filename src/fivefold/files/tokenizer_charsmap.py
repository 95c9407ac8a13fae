"""SentencePiece's `precompiled_charsmap`: text replaced piece by piece, the longest known prefix first.

The map is a trie in a double array, each unit 32 bits, with the replacements behind it as
null-terminated strings. Its usual content (NFKC and more) has some 225,000 prefixes, so it is walked
where the text needs it and never written out. The Hugging Face library walks it by grapheme cluster
instead, which gives other results where a cluster is longer than a prefix; here it is done as in
SentencePiece and llama.cpp.

Sources: SentencePiece's normalizer.cc; darts-clone's unit layout; llm_tokenizer_ugm in llama-vocab.cpp.
"""

from __future__ import annotations

import re
import struct

import numpy as np

_VALUE = 1 << 31
_HAS_VALUE = 1 << 8
_ASCII = range(1, 128)
_LONGEST_PREFIX, _LONGEST_REPLACEMENT = 64, 1024
"""Characters and bytes: a trie may have circles, and a long replacement makes much of little."""
_TOO_LONG = re.compile(rb"[^\0]{%d}" % (_LONGEST_REPLACEMENT + 1))


class CharacterMap:
    """A charsmap, ready to normalize text. Threads may share it."""

    def __init__(self, data: bytes) -> None:
        """ValueError if the data is not a charsmap."""
        if len(data) < 8:
            raise ValueError("is too short")
        size = struct.unpack_from("<I", data)[0]
        if size == 0 or size % 4 or 4 + size > len(data):
            raise ValueError("does not hold what its head says")
        self._units = np.frombuffer(data, "<u4", size // 4, 4).tolist()
        self._texts = data[4 + size :]
        if not self._texts.endswith(b"\0"):
            raise ValueError("has a replacement without an end")
        if any(unit & _VALUE and unit & (_VALUE - 1) >= len(self._texts) for unit in self._units):
            raise ValueError("names a replacement that it does not hold")
        if _TOO_LONG.search(self._texts):
            raise ValueError(f"has a replacement of more than {_LONGEST_REPLACEMENT} bytes")
        self._root = self._offset(0)
        self._letters: dict[str, tuple[int, str | None] | None] = {}
        self._beginning = self._places()

    def normalize(self, text: str) -> str:
        """The text with every known prefix replaced."""
        parts: list[str] = []
        place = 0
        while (found := self._beginning.search(text, place)) is not None:
            end, replaced = self._longest_prefix(text, found.start())
            parts.extend((text[place : found.start()], replaced))
            place = end
        return "".join([*parts, text[place:]])

    def _places(self) -> re.Pattern[str]:
        """Where a prefix may begin: anywhere but at ASCII letters that begin none with what follows.

        Most ASCII letters begin prefixes that go on with a combining mark, and none that end there or go
        on with an ASCII letter, so most ASCII text need not be looked at.
        """
        busy = ""
        for letter in map(chr, _ASCII):
            found = self._letter(letter)
            if found is not None:
                node, replacement = found
                goes_on = any(self._step(node, point) is not None for point in _ASCII)
                busy += letter if replacement is not None or goes_on else ""
        among = f"[{re.escape(busy)}]|" if busy else ""
        return re.compile(rf"{among}[^\x00-\x7f]|.(?=[^\x00-\x7f])", re.DOTALL)

    def _longest_prefix(self, text: str, place: int) -> tuple[int, str]:
        """The end of the longest prefix at a place, and what replaces it; one character if there is none."""
        end, replaced = place + 1, text[place]
        ahead = place + 1
        found = self._letter(text[place])
        while found is not None:
            node, replacement = found
            if replacement is not None:
                end, replaced = ahead, replacement
            going_on = ahead < min(len(text), place + _LONGEST_PREFIX)
            found = self._walk(node, text[ahead]) if going_on else None
            ahead += 1
        return end, replaced

    def _letter(self, letter: str) -> tuple[int, str | None] | None:
        """The node that a character leads to from the root, and its replacement; remembered."""
        if letter not in self._letters:
            self._letters[letter] = self._walk(self._root, letter)
        return self._letters[letter]

    def _walk(self, node: int, letter: str) -> tuple[int, str | None] | None:
        text: str | None = None
        for byte in letter.encode("utf-8", "surrogatepass"):
            step = self._step(node, byte)
            if step is None:
                return None
            node, text = step
        return node, text

    def _step(self, node: int, byte: int) -> tuple[int, str | None] | None:
        """One byte further: the next node, and the replacement of the prefix that ends there."""
        child = node ^ byte
        if byte == 0 or child >= len(self._units) or self._units[child] & (_VALUE | 0xFF) != byte:
            return None
        further = child ^ self._offset(child)
        if not self._units[child] & _HAS_VALUE or further >= len(self._units):
            return further, None
        start = self._units[further] & (_VALUE - 1)
        if start >= len(self._texts):
            return further, None
        return further, self._texts[start : self._texts.index(b"\0", start)].decode("utf-8", "replace")

    def _offset(self, place: int) -> int:
        unit: int = self._units[place]
        return (unit >> 10) << ((unit & (1 << 9)) >> 6)
