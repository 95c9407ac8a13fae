"""BPE by ranked merges, on the Hugging Face `tokenizers` library: over bytes, and over characters.

The rule of `tokenizer.ggml.pre` cuts the text into words, and the merges do the rest. Ids are those
of llama.cpp for any bytes. No Unicode normalisation takes place: GGUF does not record any. What a
vocabulary has no token for is dropped, as everywhere.
"""

from __future__ import annotations

import re

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as InTurn

from fivefold.files.tokenizer_bytes import (
    SPACE_MARK,
    SURROGATE,
    byte_of,
    byte_token,
    bytes_of,
    characters_of,
    token_like,
)
from fivefold.files.tokenizer_keys import TokenizerKeys
from fivefold.files.tokenizer_pre import PreTokenizer
from fivefold.files.tokenizer_table import TokenTable

_STAND_IN = "\ue000"
"""Stands for a lone surrogate while text is cut into words: of no class that any rule names, either."""
_LINE_ENDS = re.compile("(\n+)")


def read_merging(keys: TokenizerKeys, table: TokenTable, rule: PreTokenizer) -> BPE:
    """The merges of a file, but for those that would spell a special token. FileError if they do not fit."""
    ordinary = table.ordinary()
    special = table.ids.keys() - ordinary.keys()
    merges = [
        (first, second)
        for first, second in keys.merges()
        if special.isdisjoint((first, second, first + second))
    ]
    try:
        return BPE(
            ordinary,
            merges,
            ignore_merges=rule.whole_words,
            byte_fallback=not rule.byte_level,
        )
    except Exception as error:  # the library raises nothing narrower
        raise keys.malformed("merges", f"does not fit the tokens ({error})") from None


class ByteLevelSpelling:
    """Every byte is written as one character; see `tokenizer_bytes`."""

    def __init__(self, merging: BPE, rule: PreTokenizer) -> None:
        self._merging = merging
        self._cut = InTurn(
            [
                *(Split(Regex(pattern), "isolated") for pattern in rule.patterns),
                ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._library = Tokenizer(merging)
        self._library.pre_tokenizer = self._cut

    def encode(self, text: str) -> list[int]:
        if SURROGATE.search(text) is None:
            return list(self._library.encode(text, add_special_tokens=False).ids)
        plain = SURROGATE.sub(_STAND_IN, text)
        ids: list[int] = []
        for _, (start, end) in self._cut.pre_tokenize_str(plain):
            word = characters_of(text[start:end].encode("utf-8", "surrogatepass"))
            ids.extend(token.id for token in self._merging.tokenize(word))
        return ids

    def bytes_of(self, token: str) -> bytes:
        spelled = bytes_of(token)
        return token.encode() if spelled is None else spelled

    def token_of(self, text: str) -> str:
        return characters_of(text.encode("utf-8", "surrogatepass"))


class CharacterSpelling:
    """Characters as they are; one that no token has is written byte by byte, in tokens like <0x0A>."""

    def __init__(self, table: TokenTable, merging: BPE, rule: PreTokenizer, *, lowercase: bool) -> None:
        self._rule = rule
        self._ids = table.ordinary()
        self._lowercase = lowercase
        self._library = Tokenizer(merging)
        self._library.pre_tokenizer = InTurn(
            [
                *([Split(Regex(r"\s+"), "removed")] if rule.drops_spaces else []),
                *(Split(Regex(pattern), "isolated") for pattern in rule.patterns),
            ]
        )

    def encode(self, text: str) -> list[int]:
        if self._lowercase:
            text = "".join(letter.lower()[0] for letter in text)
        if self._rule.marks_spaces:
            text = text.replace(" ", SPACE_MARK)
        if not self._rule.whole_line_ends:
            return self._encode_words(text)
        ids: list[int] = []
        for part in _LINE_ENDS.split(text):
            whole = self._ids.get(part) if part.startswith("\n") else None
            ids.extend(self._encode_words(part) if whole is None else [whole])
        return ids

    def bytes_of(self, token: str) -> bytes:
        byte = byte_of(token)
        if byte is not None:
            return byte
        return (token.replace(SPACE_MARK, " ") if self._rule.marks_spaces else token).encode()

    def token_of(self, text: str) -> str:
        spelled = text.replace(" ", SPACE_MARK) if self._rule.marks_spaces else text
        return token_like(spelled, self._ids)

    def _encode_words(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in SURROGATE.split(text):
            if SURROGATE.match(part) is None:
                ids.extend(self._library.encode(part, add_special_tokens=False).ids)
            else:
                spelled = (self._ids.get(byte_token(byte)) for byte in part.encode("utf-8", "surrogatepass"))
                ids.extend(token for token in spelled if token is not None)
        return ids
