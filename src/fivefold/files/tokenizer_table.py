"""The tokens of a GGUF file as a `Vocabulary`: what all kinds of tokenizers have in common.

Special and user-defined tokens are cut out of a text first, on bytes, longest token first as in
llama.cpp; a `Spelling` turns the text between them into ids, and says which bytes a token stands for.
Text never becomes a control token unless the caller asks for it: here this differs from llama.cpp on
purpose, and a `Spelling` is given no token that it could break the rule with.
`add_eos_token` is not looked at: what is encoded here is to be continued.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fivefold.core.errors import InputError
from fivefold.files.tokenizer_bytes import lenient_text
from fivefold.files.tokenizer_keys import CONTROL, UNKNOWN, UNUSED, USER_DEFINED, TokenizerKeys

SPACE = b" \t\n\v\f\r"
LONGEST_TOKEN = 4096
"""Characters. The library walks the letters of a token by recursion, and other readers by trial."""
_END_ROLES = ("eos", "eot", "eom")
_TURN_ENDS = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|calls|>", "<|flush|>",
    "<end_of_turn>", "<turn|>", "<|tool_response>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]",
    "<end_of_utterance>", "[e~[",
)  # fmt: skip
"""Marks that end an answer in the families that have them; many files leave out `eot_token_id`."""
_MESSAGE_END, _ANSWER_ENDS = "<|end|>", ("<|return|>", "<|call|>", "<|calls|>", "<|flush|>")
"""In families with the latter an answer has several messages, and the former ends each."""
_PREFIX = 3


class Spelling(Protocol):
    """How one kind of tokenizer writes text in tokens. Threads may share it."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text that begins after a special token or at the start. It may hold lone surrogates."""

    def bytes_of(self, token: str) -> bytes:
        """The bytes of a token that is neither special nor user-defined."""

    def token_of(self, text: str) -> str:
        """The token that stands for exactly this text, if there is one."""


@dataclass(frozen=True, slots=True)
class TokenTable:
    """The tokens of a file and what it says of them.

    tokens, types   text and type of each token.
    ids             the tokens by text.
    bos, ends       the token that begins a text, those that end an answer.
    add_bos         whether texts begin with `bos`.
    unknown         what stands for text that no token spells, if anything does.
    strip_before, strip_after   tokens that take the white space beside them with them.
    """

    tokens: Sequence[str]
    types: Sequence[int]
    ids: Mapping[str, int]
    bos: int | None
    ends: tuple[int, ...]
    add_bos: bool
    unknown: int | None
    strip_before: frozenset[int] = field(default=frozenset())
    strip_after: frozenset[int] = field(default=frozenset())

    def ordinary(self) -> dict[str, int]:
        """The tokens that text may become of itself."""
        return {
            text: token for text, token in self.ids.items() if self.types[token] not in {CONTROL, UNKNOWN}
        }


def read_table(
    keys: TokenizerKeys, defaults: Mapping[str, int], *, add_bos: bool, always_bos: bool = False
) -> TokenTable:
    """The table of a file. `defaults` has the ids of roles that the file may leave out.

    `add_bos` holds when the file does not say, `always_bos` whatever it says.
    """
    tokens = [text or f"[EMPTY_{index}]" for index, text in enumerate(keys.texts("tokens"))]
    ids = {text: index for index, text in enumerate(tokens)}
    size = len(tokens)
    if not tokens:
        raise keys.malformed("tokens", "holds no tokens")
    if len(ids) != size:
        raise keys.malformed("tokens", "holds a token twice")
    if max(map(len, tokens)) > LONGEST_TOKEN:
        raise keys.malformed("tokens", f"holds a token of more than {LONGEST_TOKEN} characters")
    types = keys.types(size)
    bos = keys.token("bos", size, defaults.get("bos"))
    begins = keys.flag("add_bos_token", add_bos) or always_bos
    if begins and bos is None:
        raise keys.malformed("bos_token_id", "is missing, and this model begins texts with it")
    ends = [keys.token(role, size, defaults.get(role)) for role in _END_ROLES]
    ends.extend(_turn_ends(ids, types))
    before, after = _stripping(keys, ids, types)
    return TokenTable(
        tokens,
        types,
        ids,
        bos,
        tuple(dict.fromkeys(end for end in ends if end is not None)),
        begins,
        keys.token("unknown", size, defaults.get("unknown")),
        before,
        after,
    )


def _turn_ends(ids: Mapping[str, int], types: Sequence[int]) -> list[int]:
    """Tokens that end an answer, known by their texts as in llama.cpp."""
    found = [ids[text] for text in _TURN_ENDS if text in ids and types[ids[text]] in {CONTROL, USER_DEFINED}]
    several = any(text in ids for text in _ANSWER_ENDS)
    return [token for token in found if not (several and token == ids.get(_MESSAGE_END))]


def _stripping(
    keys: TokenizerKeys, ids: Mapping[str, int], types: Sequence[int]
) -> tuple[frozenset[int], frozenset[int]]:
    """Tokens that take the white space before or after them: known by names, as GGUF has no key for it."""
    model, pre = keys.general("name").lower(), keys.text("pre", "default")
    masked = ("jina-v2-de", "jina-v2-es", "jina-v2-code")
    if any(name in pre for name in masked) or keys.general("architecture") in {
        "nomic-bert-moe",
        "jina-bert-v3",
    }:
        return frozenset({ids["<mask>"]} if "<mask>" in ids else ()), frozenset()
    if "phi-3" in model or "phi3" in model:
        apart = {index for index, kind in enumerate(types) if kind in {CONTROL, USER_DEFINED, UNKNOWN}}
        kept = {ids[text] for text in ("<unk>", "<s>", "<|endoftext|>") if text in ids}
        return frozenset(), frozenset(apart - kept | {ids[text] for text in ("</s>",) if text in ids})
    if "modern-bert" in model:
        return frozenset({ids["[MASK]"]} if "[MASK]" in ids else ()), frozenset()
    return frozenset(), frozenset()


class GgufVocabulary:
    """The tokens of a GGUF file, a `core.vocabulary.Vocabulary`. Threads may share it."""

    def __init__(self, table: TokenTable, spelling: Spelling) -> None:
        self._table = table
        self._spelling = spelling
        apart = [index for index, kind in enumerate(table.types) if kind in {UNKNOWN, CONTROL, USER_DEFINED}]
        found = sorted(
            ((table.tokens[index].encode(), index) for index in apart), key=lambda pair: -len(pair[0])
        )
        self._apart = tuple(found)
        self._apart_always = tuple(pair for pair in found if table.types[pair[1]] == USER_DEFINED)

    @property
    def size(self) -> int:
        return len(self._table.tokens)

    @property
    def bos(self) -> int | None:
        return self._table.bos

    @property
    def end_tokens(self) -> tuple[int, ...]:
        return self._table.ends

    @property
    def add_bos(self) -> bool:
        return self._table.add_bos

    def encode(self, text: str | bytes, *, special: bool = False, add_bos: bool | None = None) -> list[int]:
        """Token ids of a text; see `Vocabulary.encode`. InputError if there is no `bos` to begin with."""
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        ids: list[int] = []
        if self.add_bos if add_bos is None else add_bos:
            if self.bos is None:
                raise InputError("the model has no token to begin with", remedy="leave add_bos out")
            ids.append(self.bos)
        for piece in self._partition(data, self._apart if special else self._apart_always):
            if isinstance(piece, int):
                ids.append(piece)
            else:
                ids.extend(self._spelling.encode(lenient_text(piece)))
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of tokens; see `Vocabulary.decode`."""
        parts = [self.token_bytes(token) for token in ids if not (skip_special and self.is_special(token))]
        return b"".join(parts).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token; empty for a token that the file marks as unused."""
        kind = self._kind(token)
        if kind == UNUSED:
            return b""
        text = self._table.tokens[token]
        return text.encode() if kind in {UNKNOWN, CONTROL, USER_DEFINED} else self._spelling.bytes_of(text)

    def is_special(self, token: int) -> bool:
        """Whether the file marks a token as control or unknown."""
        return self._kind(token) in {UNKNOWN, CONTROL}

    def token_id(self, text: str) -> int | None:
        """The token of this text: a special or user-defined one, else one that spells it."""
        types, ids = self._table.types, self._table.ids
        apart = ids.get(text)
        if apart is not None and types[apart] in {UNKNOWN, CONTROL, USER_DEFINED}:
            return apart
        spelled = ids.get(self._spelling.token_of(text))
        return None if spelled is None or types[spelled] in {UNKNOWN, CONTROL, USER_DEFINED} else spelled

    def _kind(self, token: int) -> int:
        if not 0 <= token < len(self._table.types):
            raise InputError(f"token {token} is not in the vocabulary of {self.size}", remedy="check the ids")
        return self._table.types[token]

    def _partition(self, data: bytes, apart: Sequence[tuple[bytes, int]]) -> list[bytes | int]:
        """Cut tokens out of bytes, in the order given: ids, and the bytes between them."""
        pieces: list[bytes | int] = [data] if data else []
        # Vocabularies have thousands of such tokens, most with the same first bytes: looked for once.
        seen: dict[bytes, bool] = {}
        for text, token in apart:
            first = text[:_PREFIX]
            if first not in seen:
                seen[first] = first in data
            if seen[first] and text in data:
                pieces = self._cut(pieces, text, token)
        return pieces

    def _cut(self, pieces: list[bytes | int], text: bytes, token: int) -> list[bytes | int]:
        before, after = token in self._table.strip_before, token in self._table.strip_after
        cut: list[bytes | int] = []
        for piece in pieces:
            if isinstance(piece, int) or text not in piece:
                cut.append(piece)
                continue
            parts = piece.split(text)
            for place, part in enumerate(parts):
                kept = part.rstrip(SPACE) if before and place < len(parts) - 1 else part
                kept = kept.lstrip(SPACE) if after and place else kept
                cut.extend([token, kept] if place else [kept])
        return [piece for piece in cut if piece != b""]
