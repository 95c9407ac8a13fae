"""Tokenizers from GGUF metadata: byte-level BPE ("gpt2") on the Hugging Face `tokenizers` library.

Special and user-defined tokens are cut out first, on bytes, longest token first as in llama.cpp;
the library does the rest. Ids are those of llama.cpp for any bytes, with one difference on purpose:
text never becomes a control token unless the caller asks for it, not even where a vocabulary
takes whole words as they stand. No Unicode normalisation takes place: GGUF does not record any.
Bytes that a vocabulary has no token for are dropped, as everywhere.
`add_eos_token` is not looked at: what is encoded here is to be continued. SentencePiece, WordPiece
and the other models are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Split
from tokenizers.pre_tokenizers import Sequence as InTurn

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, InputError, UnsupportedError
from fivefold.core.vocabulary import Vocabulary
from fivefold.files.tokenizer_bytes import bytes_of, characters_of, lenient_text
from fivefold.files.tokenizer_pre import PRE_TOKENIZERS

_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 2, 3, 4, 5
_NORMAL = 1
_LAST_TYPE = 6
_END_KEYS = ("eos", "eot", "eom")
_SURROGATE = re.compile("[\ud800-\udfff]")
_STAND_IN = "\ue000"
"""Stands for a lone surrogate while text is cut into words: of no class that any rule names, either."""


def gguf_vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    """The tokenizer of an opened GGUF file.

    Raises UnsupportedError for a tokenizer model or pre-tokenizer that is not known, and FileError
    for a missing or malformed key; both name the file and the key.
    """
    keys = _Keys(checkpoint)
    model = keys.text("model")
    if model != "gpt2":
        raise keys.unsupported("model", f"tokenizer model {model!r} is not known, only 'gpt2'")
    name = keys.text("pre", "default")
    rule = PRE_TOKENIZERS.get(name)
    if rule is None:
        raise keys.unsupported("pre", f"pre-tokenizer {name!r} is not known")
    tokens = [text or f"[EMPTY_{index}]" for index, text in enumerate(keys.texts("tokens"))]
    ids = {text: index for index, text in enumerate(tokens)}
    if not tokens:
        raise keys.malformed("tokens", "holds no tokens")
    if len(ids) != len(tokens):
        raise keys.malformed("tokens", "holds a token twice")
    types = keys.types(len(tokens))
    bos = keys.token("bos", len(tokens))
    add_bos = keys.flag("add_bos_token", rule.add_bos)
    if add_bos and bos is None:
        raise keys.malformed("bos_token_id", "is missing, and this model begins texts with it")
    ends = [keys.token(end, len(tokens)) for end in _END_KEYS]
    cut = InTurn(
        [
            *(Split(Regex(pattern), "isolated") for pattern in rule.patterns),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    spellable = {text: index for text, index in ids.items() if types[index] not in {_CONTROL, _UNKNOWN}}
    try:
        merging = BPE(spellable, keys.merges(), ignore_merges=rule.whole_words)
    except Exception as error:  # the library raises nothing narrower
        raise keys.malformed("merges", f"does not fit the tokens ({error})") from None
    return ByteLevelVocabulary(
        tokens=tokens,
        types=types,
        ids=ids,
        cut=cut,
        merging=merging,
        marks=_Marks(bos, tuple(dict.fromkeys(end for end in ends if end is not None)), add_bos),
    )


@dataclass(frozen=True, slots=True)
class _Marks:
    """The tokens with a role, and whether texts begin with the first."""

    bos: int | None
    end_tokens: tuple[int, ...]
    add_bos: bool


class ByteLevelVocabulary:
    """A byte-level BPE vocabulary, a `core.vocabulary.Vocabulary`. Immutable, so threads may share it."""

    def __init__(
        self,
        tokens: Sequence[str],
        types: Sequence[int],
        ids: Mapping[str, int],
        cut: PreTokenizer,
        merging: BPE,
        marks: _Marks,
    ) -> None:
        self._tokens = tokens
        self._types = types
        self._ids = ids
        self._cut = cut
        self._marks = marks
        self._merging = merging
        self._library = Tokenizer(merging)
        self._library.pre_tokenizer = cut
        apart = [index for index, kind in enumerate(types) if kind in {_UNKNOWN, _CONTROL, _USER_DEFINED}]
        found = sorted(((tokens[index].encode(), index) for index in apart), key=lambda pair: -len(pair[0]))
        self._apart = tuple(found)
        self._apart_always = tuple(pair for pair in found if types[pair[1]] == _USER_DEFINED)

    @property
    def size(self) -> int:
        return len(self._tokens)

    @property
    def bos(self) -> int | None:
        return self._marks.bos

    @property
    def end_tokens(self) -> tuple[int, ...]:
        return self._marks.end_tokens

    @property
    def add_bos(self) -> bool:
        return self._marks.add_bos

    def encode(self, text: str | bytes, *, special: bool = False, add_bos: bool | None = None) -> list[int]:
        """Token ids of a text; see `Vocabulary.encode`. InputError if there is no `bos` to begin with."""
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        ids: list[int] = []
        if self.add_bos if add_bos is None else add_bos:
            if self.bos is None:
                raise InputError("the model has no token to begin with", remedy="leave add_bos out")
            ids.append(self.bos)
        for piece in _partition(data, self._apart if special else self._apart_always):
            if isinstance(piece, int):
                ids.append(piece)
            else:
                ids.extend(self._encode_ordinary(lenient_text(piece)))
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of tokens; see `Vocabulary.decode`."""
        parts = [self.token_bytes(token) for token in ids if not (skip_special and self.is_special(token))]
        return b"".join(parts).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token; empty for a token that the file marks as unused."""
        kind = self._kind(token)
        if kind == _UNUSED:
            return b""
        text = self._tokens[token]
        spelled = None if kind in {_UNKNOWN, _CONTROL, _USER_DEFINED} else bytes_of(text)
        return text.encode() if spelled is None else spelled

    def is_special(self, token: int) -> bool:
        """Whether the file marks a token as control or unknown."""
        return self._kind(token) in {_UNKNOWN, _CONTROL}

    def token_id(self, text: str) -> int | None:
        """The token of this text: a special or user-defined one, else one that spells it."""
        apart = self._ids.get(text)
        if apart is not None and self._types[apart] in {_UNKNOWN, _CONTROL, _USER_DEFINED}:
            return apart
        return self._ids.get(characters_of(text.encode("utf-8", "surrogatepass")))

    def _kind(self, token: int) -> int:
        if not 0 <= token < len(self._types):
            raise InputError(f"token {token} is not in the vocabulary of {self.size}", remedy="check the ids")
        return self._types[token]

    def _encode_ordinary(self, text: str) -> list[int]:
        if _SURROGATE.search(text) is None:
            return list(self._library.encode(text, add_special_tokens=False).ids)
        plain = _SURROGATE.sub(_STAND_IN, text)
        ids: list[int] = []
        for _, (start, end) in self._cut.pre_tokenize_str(plain):
            word = characters_of(text[start:end].encode("utf-8", "surrogatepass"))
            ids.extend(token.id for token in self._merging.tokenize(word))
        return ids


def _partition(data: bytes, apart: Iterable[tuple[bytes, int]]) -> list[bytes | int]:
    """Cut tokens out of bytes, in the order given: ids, and the bytes between them."""
    pieces: list[bytes | int] = [data] if data else []
    for text, token in apart:
        if text not in data:
            continue
        cut: list[bytes | int] = []
        for piece in pieces:
            if isinstance(piece, int):
                cut.append(piece)
                continue
            first, *rest = piece.split(text)
            cut.extend([first] if first else [])
            for part in rest:
                cut.append(token)
                cut.extend([part] if part else [])
        pieces = cut
    return pieces


class _Keys:
    """Reads `tokenizer.ggml.*` and says what is wrong with it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def malformed(self, name: str, what: str) -> FileError:
        return FileError(
            f"key 'tokenizer.ggml.{name}' {what}",
            where=str(self._checkpoint.path),
            remedy="fetch the file again, or convert the model with a current program",
        )

    def unsupported(self, name: str, what: str) -> UnsupportedError:
        return UnsupportedError(
            f"key 'tokenizer.ggml.{name}': {what}",
            where=str(self._checkpoint.path),
            remedy="use a model with a byte-level BPE tokenizer that is in the list",
        )

    def text(self, name: str, absent: str | None = None) -> str:
        value = self._get(name, absent)
        if not isinstance(value, str):
            raise self.malformed(name, "is not a string")
        return value

    def texts(self, name: str) -> list[str]:
        value = self._get(name, None)
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.malformed(name, "is not a list of strings")
        return value

    def flag(self, name: str, absent: bool) -> bool:
        value = self._get(name, absent)
        if not isinstance(value, bool):
            raise self.malformed(name, "is not true or false")
        return value

    def token(self, role: str, size: int) -> int | None:
        """The id under a role's key, None when the file has none."""
        name = f"{role}_token_id"
        value = self._checkpoint.metadata.get(f"tokenizer.ggml.{name}")
        if value is None:
            return None
        if type(value) is not int or not 0 <= value < size:
            raise self.malformed(name, f"is not the id of one of {size} tokens")
        return value

    def types(self, size: int) -> list[int]:
        """The type of each token; all normal when the file does not say."""
        value = self._checkpoint.metadata.get("tokenizer.ggml.token_type")
        if value is None:
            return [_NORMAL] * size
        types = np.asarray(value)
        if types.ndim != 1 or types.dtype.kind not in "iu" or len(types) != size:
            raise self.malformed("token_type", f"does not hold one number for each of {size} tokens")
        if len(types) and not (types.min() >= 0 and types.max() <= _LAST_TYPE):
            raise self.malformed("token_type", f"holds a type that is not from 0 to {_LAST_TYPE}")
        return [int(kind) for kind in types]

    def merges(self) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        for rank, text in enumerate(self.texts("merges")):
            space = text.find(" ", 1)
            if not 0 < space < len(text) - 1:
                raise self.malformed("merges", f"holds no pair at {rank}")
            pairs.append((text[:space], text[space + 1 :]))
        return pairs

    def _get(self, name: str, absent: Any) -> Any:
        value = self._checkpoint.metadata.get(f"tokenizer.ggml.{name}", absent)
        if value is None:
            raise self.malformed(name, "is missing")
        return value
