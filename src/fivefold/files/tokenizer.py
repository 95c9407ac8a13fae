"""Tokenizers from GGUF metadata: one spelling for each `tokenizer.ggml.model` that is known.

    gpt2             BPE over bytes, or over characters for some of the rules in `tokenizer_pre`
    gemma4           BPE over characters
    whitespace       BPE over characters, white space dropped
    llama            SentencePiece's BPE
    t5               SentencePiece's unigram model
    bert             WordPiece

The others that llama.cpp knows (rwkv, plamo2, hybriddna, none) are refused by name, like any other.
"""

from __future__ import annotations

from dataclasses import replace

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.vocabulary import Vocabulary
from fivefold.files.tokenizer_bpe import ByteLevelSpelling, CharacterSpelling, read_merging
from fivefold.files.tokenizer_keys import TokenizerKeys
from fivefold.files.tokenizer_pre import PRE_TOKENIZERS
from fivefold.files.tokenizer_sentencepiece import SentencePieceSpelling
from fivefold.files.tokenizer_table import GgufVocabulary, read_table
from fivefold.files.tokenizer_unigram import UnigramSpelling
from fivefold.files.tokenizer_wordpiece import WordPieceSpelling


def gguf_vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    """The tokenizer of an opened GGUF file.

    Raises UnsupportedError for a tokenizer model or pre-tokenizer that is not known, and FileError
    for a missing or malformed key; both name the file and the key.
    """
    keys = TokenizerKeys(checkpoint)
    model = keys.text("model")
    read = _MODELS.get(model)
    if read is None:
        raise keys.unsupported("model", f"tokenizer model {model!r} is not known, only {', '.join(_MODELS)}")
    return read(keys)


def _bpe(keys: TokenizerKeys) -> Vocabulary:
    model = keys.text("model")
    name = "gemma4" if model == "gemma4" else keys.text("pre", "default") or "default"
    rule = PRE_TOKENIZERS.get(name)
    if rule is None:
        raise keys.unsupported("pre", f"pre-tokenizer {name!r} is not known")
    rule = replace(rule, drops_spaces=model == "whitespace")
    table = read_table(keys, {}, add_bos=rule.add_bos, always_bos=rule.always_bos)
    merging = read_merging(keys, table, rule)
    if rule.byte_level:
        return GgufVocabulary(table, ByteLevelSpelling(merging, rule))
    lowercase = model == "whitespace" and keys.flag("normalizer.lowercase", name != "whitespace")
    return GgufVocabulary(table, CharacterSpelling(table, merging, rule, lowercase=lowercase))


def _sentencepiece(keys: TokenizerKeys) -> Vocabulary:
    table = read_table(keys, {"bos": 1, "eos": 2, "unknown": 0}, add_bos=True)
    return GgufVocabulary(table, SentencePieceSpelling(keys, table))


def _unigram(keys: TokenizerKeys) -> Vocabulary:
    table = read_table(keys, {"eos": 1, "unknown": 2}, add_bos=False)
    return GgufVocabulary(table, UnigramSpelling(keys, table))


def _wordpiece(keys: TokenizerKeys) -> Vocabulary:
    table = read_table(keys, {"bos": 101, "unknown": 100}, add_bos=True)
    return GgufVocabulary(table, WordPieceSpelling(keys, table))


_MODELS = {
    "gpt2": _bpe,
    "gemma4": _bpe,
    "whitespace": _bpe,
    "llama": _sentencepiece,
    "t5": _unigram,
    "bert": _wordpiece,
}
