"""SentencePiece's unigram model ("t5"): the parts with the greatest sum of scores.

The text is normalized as the file says: by its `precompiled_charsmap`, then spaces are joined or kept,
and become ▁. The `tokenizers` library finds the parts, in double precision as llama.cpp does it. It
must not find special tokens or byte tokens in text, so it is given those without their texts. What no
token spells becomes byte tokens where the vocabulary has them, or else one unknown token for a run of
such characters. This is SentencePiece's way in every setting; llama.cpp goes another in some that are
rare: it has no byte tokens here, begins texts with a space when told to join spaces but not to begin
with one, and does not begin a text of nothing but spaces with one more.

Source: Kudo, 2018 (Subword Regularization); SentencePiece's unigram_model.cc.
"""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.models import Unigram

from fivefold.files.tokenizer_bytes import REPLACEMENT, SPACE_MARK, SURROGATE, byte_of, byte_token, token_like
from fivefold.files.tokenizer_charsmap import CharacterMap
from fivefold.files.tokenizer_keys import BYTE, CONTROL, UNKNOWN, USER_DEFINED, TokenizerKeys
from fivefold.files.tokenizer_table import TokenTable


class UnigramSpelling:
    """The tokens of a SentencePiece model of the kind "unigram"."""

    def __init__(self, keys: TokenizerKeys, table: TokenTable) -> None:
        """FileError for a missing or malformed key."""
        if table.unknown is None:
            raise keys.malformed("unknown_token_id", "is missing")
        self._unknown = table.unknown
        self._ids = table.ordinary()
        self._bytes = self._byte_tokens()
        self._prefix = keys.flag("add_space_prefix", False)
        self._joins = keys.flag("remove_extra_whitespaces", False)
        charsmap = keys.bytes("precompiled_charsmap")
        try:
            self._map = CharacterMap(charsmap) if charsmap else None
        except ValueError as error:
            raise keys.malformed("precompiled_charsmap", str(error)) from None
        self._library = Tokenizer(Unigram(_pieces(keys, table), unk_id=self._unknown, byte_fallback=False))

    def encode(self, text: str) -> list[int]:
        spelled = self._spelled(SURROGATE.sub(REPLACEMENT, text))
        found = self._library.encode(spelled, add_special_tokens=False)
        ids: list[int] = found.ids
        if self._bytes is None or self._unknown not in ids:
            return list(ids)
        written: list[int] = []
        for token, (start, end) in zip(ids, found.offsets, strict=True):
            unknown = token == self._unknown
            written.extend(
                self._bytes[byte] for byte in spelled[start:end].encode()
            ) if unknown else written.append(token)
        return written

    def bytes_of(self, token: str) -> bytes:
        byte = byte_of(token)
        return token.replace(SPACE_MARK, " ").encode() if byte is None else byte

    def token_of(self, text: str) -> str:
        return token_like(text.replace(" ", SPACE_MARK), self._ids)

    def _spelled(self, text: str) -> str:
        if not text:
            return ""
        if self._map is not None:
            text = self._map.normalize(text)
        first = SPACE_MARK if self._prefix else ""
        if not self._joins:
            return first + text.replace(" ", SPACE_MARK)
        return (first + SPACE_MARK.join(word for word in text.split(" ") if word)).rstrip(SPACE_MARK)

    def _byte_tokens(self) -> list[int] | None:
        tokens = [self._ids.get(byte_token(byte)) for byte in range(256)]
        return None if None in tokens else [token for token in tokens if token is not None]


def _pieces(keys: TokenizerKeys, table: TokenTable) -> list[tuple[str, float]]:
    """Texts and scores for the library, which takes its score of the unknown from the least of them."""
    scores = keys.scores(len(table.tokens))
    hidden = {UNKNOWN, CONTROL, BYTE}
    seen = [score for score, kind in zip(scores, table.types, strict=True) if kind not in hidden]
    greatest = max(seen, default=0.0)
    return [
        ("", greatest) if kind in hidden else (text, 0.0 if kind == USER_DEFINED else score)
        for text, score, kind in zip(table.tokens, scores, table.types, strict=True)
    ]
