"""SentencePiece's BPE ("llama"): the best-scored neighbours are joined, the leftmost first among equals.

Merges by rank, as the `tokenizers` library has them, cannot say this: pairs that make the same token
have one score, and the leftmost of them counts. So the merging is written out here. It is fast because
words repeat: where no token of the vocabulary goes on past the beginning of a word, words are merged
one by one and remembered. A text without spaces is one word, and takes n log n steps.

A space is written before every text, unless the file says no, and so after every special token, as
llama.cpp has it. Where llama.cpp would read bytes that are not UTF-8 as byte tokens, U+FFFD is read
here, as everywhere. What no token spells becomes byte tokens, or the unknown token in a vocabulary
without them.

Source: Kudo and Richardson, 2018 (SentencePiece); llm_tokenizer_spm in llama.cpp's llama-vocab.cpp.
"""

from __future__ import annotations

import heapq
import re

from fivefold.files.tokenizer_bytes import SPACE_MARK, byte_of, byte_token, token_like
from fivefold.files.tokenizer_keys import BYTE, TokenizerKeys
from fivefold.files.tokenizer_table import TokenTable

_WORD = re.compile(f"{SPACE_MARK}+[^{SPACE_MARK}]*|[^{SPACE_MARK}]+")
_ACROSS_WORDS = re.compile(f"[^{SPACE_MARK}]{SPACE_MARK}")
_REMEMBERED_WORDS = 1 << 16
_REMEMBERED_LENGTH = 64


class SentencePieceSpelling:
    """The tokens of a SentencePiece model of the kind "bpe"."""

    def __init__(self, keys: TokenizerKeys, table: TokenTable) -> None:
        """FileError if scores are missing or malformed."""
        scores = keys.scores(len(table.tokens))
        self._ids = table.ordinary()
        self._costs = {
            text: -scores[token] for text, token in self._ids.items() if table.types[token] != BYTE
        }
        self._prefix = SPACE_MARK if keys.flag("add_space_prefix", True) else ""
        self._unknown = table.unknown
        self._apart = not any(_ACROSS_WORDS.search(text) for text in self._costs)
        self._words: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        if not text:
            return []
        spelled = self._prefix + text.replace(" ", SPACE_MARK)
        ids: list[int] = []
        for word in _WORD.findall(spelled) if self._apart else [spelled]:
            known = self._words.get(word)
            ids.extend(self._encode_word(word) if known is None else known)
        return ids

    def bytes_of(self, token: str) -> bytes:
        byte = byte_of(token)
        return token.replace(SPACE_MARK, " ").encode() if byte is None else byte

    def token_of(self, text: str) -> str:
        return token_like(text.replace(" ", SPACE_MARK), self._costs)

    def _encode_word(self, word: str) -> list[int]:
        ids: list[int] = []
        for part in merged(word, self._costs):
            if part in self._costs:
                ids.append(self._ids[part])
            else:
                ids.extend(self._encode_bytes(part, ids))
        if len(word) <= _REMEMBERED_LENGTH:
            if len(self._words) >= _REMEMBERED_WORDS:
                self._words.clear()
            self._words[word] = ids
        return ids

    def _encode_bytes(self, part: str, before: list[int]) -> list[int]:
        """Byte tokens; without them one unknown token for a run of unknown characters."""
        spelled = [self._ids.get(byte_token(byte)) for byte in part.encode("utf-8", "surrogatepass")]
        known = [token for token in spelled if token is not None]
        if len(known) == len(spelled):
            return known
        return [] if self._unknown is None or before[-1:] == [self._unknown] else [self._unknown]


def merged(word: str, costs: dict[str, float]) -> list[str]:
    """The parts of a word when no two neighbours make a token any more; `costs` are scores, negated."""
    parts = list(word)
    end = len(parts)
    following = list(range(1, end + 1))
    preceding = list(range(-1, end - 1))
    waiting = [
        (cost, left, left + 1, 2)
        for left in range(end - 1)
        if (cost := costs.get(parts[left] + parts[left + 1])) is not None
    ]
    heapq.heapify(waiting)
    while waiting:
        _, left, right, length = heapq.heappop(waiting)
        first, second = parts[left], parts[right]
        # A part that was merged into its left neighbour is empty, and a merged one is longer than before.
        if not first or not second or len(first) + len(second) != length:
            continue
        whole = first + second
        parts[left], parts[right] = whole, ""
        after = following[left] = following[right]
        if after < end:
            preceding[after] = left
            cost = costs.get(whole + parts[after])
            if cost is not None:
                heapq.heappush(waiting, (cost, left, after, length + len(parts[after])))
        before = preceding[left]
        if before >= 0:
            cost = costs.get(parts[before] + whole)
            if cost is not None:
                heapq.heappush(waiting, (cost, before, left, length + len(parts[before])))
    return [part for part in parts if part]
