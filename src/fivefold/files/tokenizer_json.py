"""Tokenizers of Hugging Face folders: tokenizer.json on the library that it was written for.

Ids are the library's. With `special` they are those of `Tokenizer.encode` without its template; without,
the texts of special tokens are ordinary text. The token that begins a text is added here and not by the
template, so that a text can also be encoded that goes on after another. Of the template no more is taken
than whether it begins texts; `add_bos_token` in tokenizer_config.json counts before it. Text that
is not UTF-8, and a lone surrogate in a Python text, read as U+FFFD.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from tokenizers import AddedToken

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, InputError
from fivefold.core.vocabulary import Vocabulary
from fivefold.files.tokenizer_bytes import REPLACEMENT, SURROGATE
from fivefold.files.tokenizer_json_bytes import TokenBytes
from fivefold.files.tokenizer_json_files import (
    CONFIG,
    TOKENIZER,
    TokenizerFolder,
    is_of_the_library,
    malformed,
    read_tokenizer_folder,
)
from fivefold.files.tokenizer_json_ordinary import OrdinaryTokenizer

_SPARE_NUMBERS = 1 << 16


def huggingface_vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    """The tokenizer of an opened Hugging Face folder.

    Raises FileError for a missing or malformed file or key, and UnsupportedError for a decoder that is not
    known; both name the file and the key.
    """
    folder = read_tokenizer_folder(checkpoint)
    _add_described(folder)
    size = _size(folder)
    bos, eos = _role(folder, "bos_token"), _role(folder, "eos_token")
    start = folder.template_start()
    if bos is None and start is not None and start == folder.role("cls_token"):
        bos = _role(folder, "cls_token")
    if bos is None and not folder.speaks_of("bos_token"):
        bos = next(iter(folder.numbers("bos_token_id", size)), None)
    asked = folder.flag("add_bos_token")
    if asked and bos is None:
        raise malformed(
            folder.path, CONFIG, "key 'bos_token' names no token, and 'add_bos_token' begins texts with it"
        )
    return HuggingFaceVocabulary(
        folder,
        size,
        bos=bos,
        ends=tuple(dict.fromkeys([*([] if eos is None else [eos]), *folder.numbers("eos_token_id", size)])),
        add_bos=(start is not None and bos is not None and folder.library.token_to_id(start) == bos)
        if asked is None
        else asked,
    )


class HuggingFaceVocabulary:
    """The tokens of a Hugging Face folder, a `core.vocabulary.Vocabulary`. Threads may share it."""

    def __init__(
        self, folder: TokenizerFolder, size: int, *, bos: int | None, ends: tuple[int, ...], add_bos: bool
    ) -> None:
        self.size = size
        self.bos = bos
        self.end_tokens = ends
        self.add_bos = add_bos
        self._library = folder.library
        self._where = str(folder.path / TOKENIZER)
        added = folder.library.get_added_tokens_decoder()
        self._added = {number: token.content for number, token in added.items()}
        self._special = frozenset(number for number, token in added.items() if token.special)
        self._plain = OrdinaryTokenizer(folder, {self._added[number] for number in self._special})
        self._bytes = TokenBytes(folder.path, folder.parts["decoder"])

    def encode(self, text: str | bytes, *, special: bool = False, add_bos: bool | None = None) -> list[int]:
        """Token ids of a text; see `Vocabulary.encode`. InputError if there is no `bos` to begin with."""
        ids: list[int] = []
        if self.add_bos if add_bos is None else add_bos:
            if self.bos is None:
                raise InputError("the model has no token to begin with", remedy="leave add_bos out")
            ids.append(self.bos)
        read = (
            text.decode("utf-8", "replace") if isinstance(text, bytes) else SURROGATE.sub(REPLACEMENT, text)
        )
        try:
            if special:
                ids.extend(self._library.encode(read, add_special_tokens=False).ids)
            else:
                ids.extend(self._plain.encode(read))
        except BaseException as error:
            if not is_of_the_library(error):
                raise
            raise FileError(
                f"the tokenizer does not take this text ({error})",
                where=self._where,
                remedy="use a tokenizer with a token for the unknown",
            ) from None
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of tokens; see `Vocabulary.decode`."""
        parts = [self.token_bytes(token) for token in ids if not (skip_special and self.is_special(token))]
        return b"".join(parts).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token; empty for a number that no token has."""
        text = self._text(token)
        if text is None:
            return b""
        whole = token in self._special or (token in self._added and self._bytes.byte_level)
        return text.encode() if whole else self._bytes.of(text)

    def is_special(self, token: int) -> bool:
        """Whether a token is marked as special, or has a role such as beginning or end."""
        self._check(token)
        return token in self._special

    def token_id(self, text: str) -> int | None:
        """The token of this text: an added one, else one that spells it."""
        return self._by_bytes.get(text.encode("utf-8", "surrogatepass"))

    @cached_property
    def _by_bytes(self) -> dict[bytes, int]:
        """Tokens by their bytes, added ones before others, the first before later ones."""
        order = sorted(range(self.size), key=lambda token: (token not in self._added, token))
        found: dict[bytes, int] = {}
        for token in order:
            found.setdefault(self.token_bytes(token), token)
        return found

    def _text(self, token: int) -> str | None:
        self._check(token)
        added = self._added.get(token)
        return self._library.id_to_token(token) if added is None else added

    def _check(self, token: int) -> None:
        if not 0 <= token < self.size:
            raise InputError(f"token {token} is not in the vocabulary of {self.size}", remedy="check the ids")


def _size(folder: TokenizerFolder) -> int:
    """One more than the last token's number. FileError for a number of two tokens.

    Much is done for each number, so they may not be far between.
    """
    model = folder.library.model
    for number, token in folder.library.get_added_tokens_decoder().items():
        if model.id_to_token(number) not in {None, token.content}:
            raise malformed(
                folder.path,
                TOKENIZER,
                f"key 'added_tokens': {token.content!r} has the number {number} of another token",
            )
    numbers = folder.library.get_vocab(with_added_tokens=True).values()
    last = max(numbers, default=-1)
    if last > 2 * len(numbers) + _SPARE_NUMBERS:
        raise malformed(folder.path, TOKENIZER, f"{len(numbers)} tokens have numbers up to {last}")
    return last + 1


def _add_described(folder: TokenizerFolder) -> None:
    """Bring the tokens of tokenizer_config.json into the library, and mark those with a role as special."""
    library = folder.library
    described = folder.added_tokens()
    already = {token.content for token in library.get_added_tokens_decoder().values() if token.special}
    for _, token in described:
        token.special = token.special or token.content in already
    library.add_tokens([token for _, token in described])
    for number, token in described:
        if library.token_to_id(token.content) != number:
            raise malformed(
                folder.path,
                CONFIG,
                f"key 'added_tokens_decoder.{number}': token {token.content!r} has the number "
                f"{library.token_to_id(token.content)} in {TOKENIZER}",
            )
    special = {token.content for token in library.get_added_tokens_decoder().values() if token.special}
    missing = [text for text in folder.special_texts() if text not in special]
    library.add_tokens(
        [
            AddedToken(text, special=True, normalized=False)
            for text in missing
            if library.token_to_id(text) is not None
        ]
    )


def _role(folder: TokenizerFolder, name: str) -> int | None:
    text = folder.role(name)
    if text is None:
        return None
    number = folder.library.token_to_id(text)
    if number is None:
        raise malformed(folder.path, CONFIG, f"key {name!r}: token {text!r} is not in {TOKENIZER}")
    return number
