"""The tokenizer against the `tokenizers` library put together as the model's own, and llama.cpp."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits
from tokenizers.pre_tokenizers import Sequence as InTurn

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, InputError, UnsupportedError
from fivefold.core.vocabulary import Vocabulary
from fivefold.files.gguf import open_gguf
from fivefold.files.tokenizer import gguf_vocabulary
from fivefold.files.tokenizer_bytes import BYTE_CHARACTERS, bytes_of, characters_of
from fivefold.files.tokenizer_pre import PRE_TOKENIZERS

RECORDED = json.loads((Path(__file__).parent / "data" / "tokenizer_llama_cpp.json").read_text())
TEXTS = [case["text"] for case in RECORDED["texts"]]
PREFIX = "tokenizer.ggml."


@pytest.fixture(scope="module")
def checkpoint(default_model: Path) -> Checkpoint:
    return open_gguf(default_model)


@pytest.fixture(scope="module")
def vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    return gguf_vocabulary(checkpoint)


@pytest.fixture(scope="module")
def spelled(checkpoint: Checkpoint) -> set[int]:
    """The bytes that have a token of their own."""
    tokens = set(checkpoint.metadata[PREFIX + "tokens"])
    return {byte for byte, character in enumerate(BYTE_CHARACTERS) if character in tokens}


@pytest.fixture(scope="module")
def library(checkpoint: Checkpoint) -> Tokenizer:
    """SmolLM2's tokenizer.json, from the same tokens and merges."""
    keys = checkpoint.metadata
    tokens = keys[PREFIX + "tokens"]
    merges = [tuple(text.split(" ")) for text in keys[PREFIX + "merges"]]
    tokenizer = Tokenizer(BPE({text: index for index, text in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = InTurn([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    control = [text for text, kind in zip(tokens, keys[PREFIX + "token_type"], strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in control])
    return tokenizer


@pytest.fixture(scope="module")
def plain_library(library: Tokenizer) -> Tokenizer:
    """The same without special tokens."""
    tokenizer = Tokenizer(library.model)
    tokenizer.pre_tokenizer = library.pre_tokenizer
    return tokenizer


@pytest.mark.model
@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_the_models_own_tokenizer(
    vocabulary: Vocabulary, library: Tokenizer, plain_library: Tokenizer, text: str
) -> None:
    assert vocabulary.encode(text, special=True) == library.encode(text).ids
    assert vocabulary.encode(text) == plain_library.encode(text).ids


@pytest.mark.model
@pytest.mark.parametrize("case", RECORDED["texts"], ids=range(len(TEXTS)))
def test_ids_are_those_of_llama_cpp(vocabulary: Vocabulary, case: dict[str, Any]) -> None:
    assert vocabulary.encode(case["text"]) == case["ids"]
    assert vocabulary.encode(case["text"], special=True) == case["special"]
    assert vocabulary.encode(case["text"].encode()) == case["ids"]


@pytest.mark.model
@pytest.mark.parametrize("case", RECORDED["invalid"], ids=range(len(RECORDED["invalid"])))
def test_invalid_bytes_give_the_ids_of_llama_cpp(vocabulary: Vocabulary, case: dict[str, Any]) -> None:
    assert vocabulary.encode(bytes.fromhex(case["hex"]), special=True) == case["ids"]


@pytest.mark.model
def test_what_lies_above_unicode_is_replaced(vocabulary: Vocabulary) -> None:
    """llama.cpp ends with an uncaught exception on these bytes."""
    assert vocabulary.encode(b"a\xf4\x90\x80\x80b") == vocabulary.encode("a" + "\ufffd" * 4 + "b")


@pytest.mark.model
@given(text=st.text(st.characters(exclude_categories=()), max_size=40))
def test_text_survives_and_is_never_special(vocabulary: Vocabulary, spelled: set[int], text: str) -> None:
    """Bytes that the vocabulary has no token for are dropped, as both peers do; SmolLM2 lacks some."""
    written = text.encode("utf-8", "surrogatepass")
    data = bytes(byte for byte in written if byte in spelled)
    ids = vocabulary.encode(text)
    assert not any(vocabulary.is_special(token) for token in ids)
    assert b"".join(vocabulary.token_bytes(token) for token in ids) == data
    assert vocabulary.decode(ids) == data.decode("utf-8", "replace")


@pytest.mark.model
@given(data=st.binary(max_size=40))
def test_any_bytes_are_accepted(vocabulary: Vocabulary, data: bytes) -> None:
    ids = vocabulary.encode(data, special=True)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        assert all(0 <= token < vocabulary.size for token in ids)
    else:
        assert ids == vocabulary.encode(text, special=True)


@pytest.mark.model
def test_special_tokens_are_special_only_on_demand(vocabulary: Vocabulary) -> None:
    start = vocabulary.token_id("<|im_start|>")
    assert start == vocabulary.bos == 1
    assert vocabulary.end_tokens == (2,)
    assert vocabulary.encode("<|im_start|>", special=True) == [start]
    assert start not in vocabulary.encode("<|im_start|>")
    assert vocabulary.is_special(start)
    assert vocabulary.decode([start]) == ""
    assert vocabulary.decode([start], skip_special=False) == "<|im_start|>"


@pytest.mark.model
def test_begin_is_added_as_asked(vocabulary: Vocabulary) -> None:
    assert not vocabulary.add_bos
    assert vocabulary.encode("", add_bos=True) == [1]
    assert vocabulary.encode("a", add_bos=True) == [1, *vocabulary.encode("a")]


@pytest.mark.model
def test_single_tokens(vocabulary: Vocabulary) -> None:
    the = vocabulary.token_id(" the")
    assert the is not None
    assert vocabulary.encode(" the") == [the]
    assert vocabulary.token_bytes(the) == b" the"
    assert vocabulary.token_id("no such token at all") is None
    for bad in (-1, vocabulary.size):
        with pytest.raises(InputError, match=str(bad)):
            vocabulary.decode([bad])


@pytest.mark.model
@pytest.mark.parametrize("text", [" " * 100_000 + "x", "a" * 100_000, "\n" * 100_000, "<|im_end|>" * 10_000])
def test_long_runs_survive(vocabulary: Vocabulary, text: str) -> None:
    """Quadratic work on them would take minutes."""
    for special in (False, True):
        assert vocabulary.decode(vocabulary.encode(text, special=special), skip_special=False) == text


def made(**changes: Any) -> Checkpoint:
    """A small vocabulary: the byte alphabet, some merges, a control, a user-defined and an unused token."""
    tokens = [*BYTE_CHARACTERS, "ab", "abc", "12", "123", "<c>", "<user>", "<unused>", "Ġab"]
    keys: dict[str, Any] = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_type": [1] * 260 + [3, 4, 5, 1],
        "merges": ["a b", "ab c", "1 2", "12 3", "Ġ ab"],
        "eos_token_id": 260,
    }
    keys.update(changes)
    named = {PREFIX + key: value for key, value in keys.items() if value is not None}
    return Checkpoint(Path("made.gguf"), "gguf", named, {})


def pieces(vocabulary: Vocabulary, text: str, **how: bool) -> list[bytes]:
    return [vocabulary.token_bytes(token) for token in vocabulary.encode(text, **how)]


def test_user_defined_tokens_are_always_whole() -> None:
    vocabulary = gguf_vocabulary(made())
    assert pieces(vocabulary, "ab<user>c") == [b"ab", b"<user>", b"c"]
    assert pieces(vocabulary, "<c>") == [b"<", b"c", b">"]
    assert pieces(vocabulary, "<c>", special=True) == [b"<c>"]
    assert vocabulary.decode([261, 262, 256]) == "<user>ab"


def test_whole_words_never_become_control_tokens() -> None:
    """The rule of llama-bpe takes a word that is a token as it stands."""
    keys = made(pre="llama-bpe", bos_token_id=260)
    tokens = [*keys.metadata[PREFIX + "tokens"]]
    tokens[260] = "secret"
    vocabulary = gguf_vocabulary(made(pre="llama-bpe", bos_token_id=260, tokens=tokens))
    assert vocabulary.add_bos
    assert 260 not in vocabulary.encode("secret", add_bos=False)
    assert vocabulary.encode("secret", special=True) == [260, 260]


def test_digits_are_cut_as_the_rule_says() -> None:
    assert pieces(gguf_vocabulary(made(pre="smollm")), "123") == [b"1", b"2", b"3"]
    assert pieces(gguf_vocabulary(made(pre="qwen2")), "123") == [b"1", b"2", b"3"]
    assert pieces(gguf_vocabulary(made(pre="gpt-2")), "123") == [b"123"]
    assert pieces(gguf_vocabulary(made(pre="gpt-4o")), "123123") == [b"123", b"123"]


@pytest.mark.parametrize("name", [name for name, rule in PRE_TOKENIZERS.items() if rule.byte_level])
def test_every_rule_keeps_every_byte(name: str) -> None:
    vocabulary = gguf_vocabulary(made(pre=name, bos_token_id=260))
    for text in TEXTS:
        ids = vocabulary.encode(text, add_bos=False)
        assert b"".join(vocabulary.token_bytes(token) for token in ids) == text.encode()


def test_an_unnamed_rule_is_the_default_one() -> None:
    text = "12345 ab, 'abc'"
    for absent in (None, ""):
        assert gguf_vocabulary(made(pre=absent)).encode(text) == gguf_vocabulary(made(pre="default")).encode(
            text
        )


@pytest.mark.parametrize(
    ("key", "value"),
    [("model", name) for name in ("rwkv", "plamo2", "hybriddna", "none", "no_vocab", "sentencepiece")]
    + [("pre", "unheard-of")],
)
def test_an_unknown_tokenizer_is_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(UnsupportedError, match=value) as caught:
        gguf_vocabulary(made(**{key: value}))
    assert PREFIX + key in str(caught.value)
    assert "made.gguf" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", None),
        ("model", 3),
        ("tokens", None),
        ("tokens", []),
        ("tokens", ["a", "a"]),
        ("tokens", "abc"),
        ("merges", None),
        ("merges", ["ab"]),
        ("merges", [" a"]),
        ("merges", ["a "]),
        ("merges", ["zz yy"]),
        ("token_type", [1]),
        ("token_type", [9] * 264),
        ("token_type", ["x"] * 264),
        ("eos_token_id", 264),
        ("eos_token_id", -1),
        ("eos_token_id", True),
        ("eos_token_id", "2"),
        ("bos_token_id", 1.5),
        ("add_bos_token", 1),
        ("tokens", [1]),
    ],
)
def test_a_bad_key_is_named(key: str, value: Any) -> None:
    with pytest.raises(FileError, match=PREFIX + key) as caught:
        gguf_vocabulary(made(**{key: value}))
    assert str(caught.value).startswith("made.gguf: ")
    assert "\n" not in str(caught.value)


def test_a_begin_that_is_promised_must_be_there() -> None:
    with pytest.raises(FileError, match="bos_token_id"):
        gguf_vocabulary(made(add_bos_token=True))
    with pytest.raises(InputError, match="begin"):
        gguf_vocabulary(made()).encode("a", add_bos=True)


def test_end_tokens_stand_once_in_order() -> None:
    keys = made(eot_token_id=1, eom_token_id=260)
    assert gguf_vocabulary(keys).end_tokens == (260, 1)
    assert gguf_vocabulary(dataclasses.replace(made(eos_token_id=None))).end_tokens == ()


@given(data=st.binary())
def test_the_byte_alphabet_is_a_bijection(data: bytes) -> None:
    assert bytes_of(characters_of(data)) == data
    assert len(set(BYTE_CHARACTERS)) == 256


@pytest.mark.parametrize(
    ("names", "ends"),
    [
        (["<|im_end|>", "<|eom_id|>"], ["<c>", "<|im_end|>", "<|eom_id|>"]),
        (["<|end|>", "<|user|>"], ["<c>", "<|end|>"]),
        # A harmony message ends with the first, the answer with the others.
        (["<|end|>", "<|return|>", "<|call|>"], ["<c>", "<|return|>", "<|call|>"]),
    ],
)
def test_ends_of_turns_are_known_by_their_text(names: list[str], ends: list[str]) -> None:
    keys = made().metadata
    tokens = [*keys[PREFIX + "tokens"], *names, "<EOT>"]
    types = [*keys[PREFIX + "token_type"], *[3] * len(names), 1]
    vocabulary = gguf_vocabulary(made(tokens=tokens, token_type=types))
    assert [tokens[token] for token in vocabulary.end_tokens] == ends


def test_merges_do_not_spell_special_tokens() -> None:
    """llama.cpp would make the token of the text."""
    keys = made().metadata
    merges = [*keys[PREFIX + "merges"], "< c", "<c >", "<c> a"]
    tokens = [*keys[PREFIX + "tokens"], "<c", "<c>a"]
    types = [*keys[PREFIX + "token_type"], 1, 1]
    vocabulary = gguf_vocabulary(made(pre="superbpe", tokens=tokens, token_type=types, merges=merges))
    assert pieces(vocabulary, "<c>a") == [b"<c", b">", b"a"]
    assert pieces(vocabulary, "<c>a", special=True) == [b"<c>", b"a"]


def test_some_tokens_take_white_space_with_them() -> None:
    """As their authors' tokenizers have it; the file does not say, so llama.cpp goes by names."""
    phi = made(**{"eos_token_id": None})
    metadata = {**phi.metadata, "general.name": "Phi 3 mini", PREFIX + "token_type": [1] * 260 + [3, 4, 5, 1]}
    plain = gguf_vocabulary(dataclasses.replace(phi, metadata=metadata))
    assert pieces(plain, "a <c>\n b", special=True) == [b"a", b" ", b"<c>", b"\n", b" ", b"b"]
    metadata["general.name"] = "Phi-3-mini-4k"
    after = gguf_vocabulary(dataclasses.replace(phi, metadata=metadata))
    assert pieces(after, "a <c>\n b<user> \n", special=True) == [b"a", b" ", b"<c>", b"b", b"<user>"]
    tokens = [*metadata[PREFIX + "tokens"][:260], "<mask>", "<user>", "<unused>", "Ġab"]
    jina = gguf_vocabulary(made(pre="jina-v2-code", tokens=tokens))
    assert pieces(jina, "a \n<mask> b", special=True) == [b"a", b"<mask>", b" ", b"b"]


def test_thousands_of_special_tokens_do_not_slow_a_text_down() -> None:
    keys = made().metadata
    names = [f"<|reserved_{number}|>" for number in range(5000)]
    vocabulary = gguf_vocabulary(
        made(
            tokens=[*keys[PREFIX + "tokens"], *names],
            token_type=[*keys[PREFIX + "token_type"], *[3] * len(names)],
        )
    )
    text = "ab<c>" * 20_000 + names[17] + names[1] + names[11]
    ids = vocabulary.encode(text, special=True)
    assert len(ids) == 40_003
    assert vocabulary.decode(ids, skip_special=False) == text
