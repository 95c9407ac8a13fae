"""Encoding text in which special tokens are not meant: their texts are text like any other.

The library can be told not to cut special tokens out of a text. That is enough where the model itself
does not know them. Many tokenizer.json have them among the tokens of the model as well, which may then
spell them out of ordinary text: a word that is a token as it stands, a unigram piece of score 0. When
that happens the model is built again without them, once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from functools import cached_property
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE, Model, Unigram, WordLevel, WordPiece

from fivefold.files.tokenizer_bytes import byte_of
from fivefold.files.tokenizer_json_files import TOKENIZER, TokenizerFolder, malformed


class OrdinaryTokenizer:
    """The tokenizer of a folder without its special tokens. Threads may share it."""

    def __init__(self, folder: TokenizerFolder, special: Set[str]) -> None:
        """FileError if the library would number added tokens in another way."""
        self._folder = folder
        self._special = special
        self._added = sorted(folder.library.get_added_tokens_decoder().items())
        model = folder.library.model
        self._shared = self._on(model, [token for _, token in self._added])
        unknown = getattr(model, "unk_token", None)  # unigram models do not tell
        known = {
            text: model.token_to_id(text) for text in special if text != unknown and byte_of(text) is None
        }
        self._known = {text: number for text, number in known.items() if number is not None}
        self._numbers = frozenset(self._known.values())

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        ids: list[int] = self._shared.encode(text, add_special_tokens=False).ids
        if self._numbers.isdisjoint(ids) or self._hidden.isdisjoint(self._numbers.intersection(ids)):
            return ids
        return list(self._without.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _data(self) -> Mapping[str, Any]:
        """The model as data: much of it, so looked at only when it must be."""
        data: Mapping[str, Any] = json.loads(self._folder.library.to_str())["model"]
        return data

    @cached_property
    def _hidden(self) -> Set[int]:
        """The numbers that ordinary text must not have: not so the sign for what cannot be spelled."""
        return self._numbers - {self._data.get("unk_id")}

    @cached_property
    def _without(self) -> Tokenizer:
        """The tokenizer on a model without special tokens."""
        texts = {text for text, number in self._known.items() if number in self._hidden}
        if isinstance(self._data["vocab"], list):
            listed = [token for _, token in self._added if token.content not in texts]
            return self._on(_rebuilt(self._data, texts, {}), listed)
        # A smaller vocabulary numbers added tokens anew, unless it has them already.
        own = {token.content: number for number, token in self._added if token.content not in self._special}
        listed = [token for _, token in self._added if token.content in own]
        return self._on(_rebuilt(self._data, texts, own), listed)

    def _on(self, model: Model, added: list[AddedToken]) -> Tokenizer:
        """A tokenizer like the folder's on another model."""
        made = Tokenizer(model)
        if self._folder.library.normalizer is not None:
            made.normalizer = self._folder.library.normalizer
        if self._folder.library.pre_tokenizer is not None:
            made.pre_tokenizer = self._folder.library.pre_tokenizer
        made.encode_special_tokens = True
        made.add_tokens(added)
        for number, token in self._added:
            if token.content not in self._special and made.token_to_id(token.content) != number:
                raise malformed(
                    self._folder.path,
                    TOKENIZER,
                    f"key 'added_tokens': token {token.content!r} cannot have the number {number}",
                )
        return made


def _rebuilt(data: Mapping[str, Any], hidden: Set[str], own: Mapping[str, int]) -> Model:
    """The model without the hidden tokens, but with `own`. Older files do not name its kind."""
    if isinstance(data["vocab"], list):
        # A piece without text is never found, and keeps the numbers of the others.
        pieces = [("" if text in hidden else text, score) for text, score in data["vocab"]]
        return Unigram(pieces, data.get("unk_id"), data.get("byte_fallback", False))
    vocab = {text: number for text, number in data["vocab"].items() if text not in hidden} | dict(own)
    if "max_input_chars_per_word" in data:
        return WordPiece(
            vocab,
            unk_token=data["unk_token"],
            max_input_chars_per_word=data["max_input_chars_per_word"],
            continuing_subword_prefix=data["continuing_subword_prefix"],
        )
    return _bpe(data, vocab, hidden) if "merges" in data else WordLevel(vocab, unk_token=data["unk_token"])


def _bpe(data: Mapping[str, Any], vocab: dict[str, int], hidden: Set[str]) -> BPE:
    prefix = data.get("continuing_subword_prefix") or ""
    merges: list[tuple[str, str]] = []
    for merge in data["merges"]:
        first, second = merge.split(" ") if isinstance(merge, str) else merge
        if hidden.isdisjoint((first, second, first + second[len(prefix) :])):
            merges.append((first, second))
    named = ("unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    flags = ("fuse_unk", "byte_fallback", "ignore_merges")
    # The library takes no None for what is not there.
    given = {name: data[name] for name in (*named, *flags) if data.get(name) is not None}
    return BPE(vocab, merges, **given)
