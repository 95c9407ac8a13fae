"""WordPiece ("bert"): words cut at spaces and signs, each spelled by the longest tokens from its left.

In a GGUF file a token that begins a word is written with ▁ before it, and one that goes on has no
mark; a word that tokens cannot spell is unknown as a whole. Case and accents go, unless the file keeps
them. This follows llama.cpp, also where that differs from BERT's own code: a character is decomposed
into its first part alone (which leaves of a Hangul syllable its first letter), all combining marks are
dropped and not only the non-spacing, and a word may have any length. Characters are classed by
Python's Unicode tables.

Source: llm_tokenizer_wpm in llama.cpp's llama-vocab.cpp; BasicTokenizer of BERT.
"""

from __future__ import annotations

import unicodedata

from fivefold.files.tokenizer_bytes import REPLACEMENT, SPACE_MARK
from fivefold.files.tokenizer_keys import TokenizerKeys
from fivefold.files.tokenizer_table import TokenTable

_LINE_SPACES = "\t\n\v\f\r\x85"
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
_REMEMBERED_WORDS = 1 << 16
_REMEMBERED_LENGTH = 64


class WordPieceSpelling:
    """The tokens of a BERT vocabulary."""

    def __init__(self, keys: TokenizerKeys, table: TokenTable) -> None:
        """FileError for a missing or malformed key."""
        if table.unknown is None:
            raise keys.malformed("unknown_token_id", "is missing")
        lowercase = keys.flag("normalizer.lowercase", True)
        self._cleaned = _Cleaned(lowercase, keys.flag("normalizer.strip_accents", lowercase))
        self._ids = table.ordinary()
        self._unknown = table.unknown
        self._lengths = sorted({len(text) for text in self._ids}, reverse=True)
        self._words: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in text.translate(self._cleaned).split(" "):
            if word:
                known = self._words.get(word)
                ids.extend(self._encode_word(word) if known is None else known)
        return ids

    def bytes_of(self, token: str) -> bytes:
        return token.replace(SPACE_MARK, " ").encode()

    def token_of(self, text: str) -> str:
        return text.replace(" ", SPACE_MARK)

    def _encode_word(self, word: str) -> list[int]:
        ids = self._longest_tokens(SPACE_MARK + word)
        if len(word) <= _REMEMBERED_LENGTH:
            if len(self._words) >= _REMEMBERED_WORDS:
                self._words.clear()
            self._words[word] = ids
        return ids

    def _longest_tokens(self, spelled: str) -> list[int]:
        ids: list[int] = []
        place = 0
        while place < len(spelled):
            for length in self._lengths:
                part = spelled[place : place + length]
                token = self._ids.get(part)
                if token is not None:
                    break
            else:
                return [self._unknown]
            ids.append(token)
            place += len(part)
        return ids


class _Cleaned(dict[int, str]):
    """What becomes of each character, for `str.translate`: found when it is first met."""

    def __init__(self, lowercase: bool, strip_accents: bool) -> None:
        super().__init__()
        self._lowercase = lowercase
        self._strip_accents = strip_accents

    def __missing__(self, point: int) -> str:
        self[point] = self._clean(chr(point))
        return self[point]

    def _clean(self, letter: str) -> str:
        if self._strip_accents:
            letter = unicodedata.normalize("NFD", letter)[0]
        kind = unicodedata.category(letter)
        if kind[0] == "Z" or letter in _LINE_SPACES:
            return " "
        dropped = kind in {"Cc", "Cf", "Co", "Cs"} or letter == REPLACEMENT
        if dropped or (self._strip_accents and kind[0] == "M"):
            return ""
        written = letter.lower()[0] if self._lowercase else letter
        sign = kind[0] == "P" or (letter < "\x7f" and kind[0] == "S")
        ideograph = any(first <= ord(letter) <= last for first, last in _IDEOGRAPHS)
        return f" {written} " if sign or ideograph else written
