"""GGUF vocabularies of the kinds "llama" and "t5" against SentencePiece itself, on models trained here."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from fivefold.chat.detokenizer import StreamDecoder
from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError
from fivefold.core.vocabulary import Vocabulary
from fivefold.files.tokenizer import gguf_vocabulary
from fivefold.files.tokenizer_charsmap import CharacterMap
from fivefold.files.tokenizer_sentencepiece import merged

WORDS = [
    "hello", "world", "naïve", "the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "ｆｕｌｌ",
    "ﬁne", "日本語", "中文字符", "…", "½", "123", "foo_bar", "don't", "haha", "hahaha", "aaaa", "====",
    "e\u0301te\u0301", "Ωmega", "ﾊﾞ", "한국어", "नमस्ते", "🚀",
]  # fmt: skip
PARTS = [
    *WORDS, *[" "] * 20, "  ", "\t", "\n", "\u3000", "Ａ", "①", "㍿", "x", "Z", "<s>", "</s>", "<unk>", "q",
    "\u0301", "ﬀ", "e", "a", "A", "▁", "\u200b", "\u00ad", "\x07", "가", "ᄀ", "ᅡ", "ﾞ", "Ⅷ", "ñ", "n\u0303",
    "\u0085", "\x1f", "\ufeff", "\ufffd", "<0x41>",
]  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """How a model is trained."""

    model: str
    fallback: bool = True
    prefix: bool = True
    across_words: bool = False
    rule: str = "identity"
    joins: bool = False


KINDS = [
    Kind("bpe"),
    Kind("bpe", prefix=False),
    Kind("bpe", across_words=True),
    Kind("bpe", fallback=False),
    Kind("bpe", fallback=False, prefix=False, across_words=True),
    Kind("unigram"),
    Kind("unigram", fallback=False),
    Kind("unigram", prefix=False, joins=True),
    Kind("unigram", rule="nmt_nfkc"),
    Kind("unigram", rule="nmt_nfkc", fallback=False, joins=True),
    Kind("unigram", rule="nfkc_cf", joins=True, across_words=True),
]


def parts_of(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: numbers, and the contents of those that have a length."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place, value, shift = place + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while place < len(data):
        tag = number()
        length = {0: 0, 1: 8, 2: 0, 5: 4}[tag & 7]
        value: Any = number() if tag & 7 in {0, 2} else None
        length = value if tag & 7 == 2 else length
        yield tag >> 3, data[place : place + length] if length else value
        place += length


class Trained:
    """A model that SentencePiece trained, and the same as a GGUF vocabulary."""

    def __init__(self, kind: Kind) -> None:
        chosen = random.Random(3)
        corpus = [" ".join(chosen.choices(WORDS, k=12)) for _ in range(1500)]
        corpus += [text.replace(" ", "  ") for text in corpus[:300]]
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus), model_writer=written, minloglevel=2, model_type=kind.model,
            vocab_size=600 if kind.fallback else 360, byte_fallback=kind.fallback, hard_vocab_limit=False,
            character_coverage=1.0 if kind.fallback else 0.99, add_dummy_prefix=kind.prefix,
            normalization_rule_name=kind.rule, remove_extra_whitespaces=kind.joins,
            split_by_whitespace=not kind.across_words, allow_whitespace_only_pieces=True,
        )  # fmt: skip
        self.kind = kind
        self.theirs = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
        normalizer = dict(parts_of(dict(parts_of(written.getvalue()))[3]))
        self.charsmap: bytes = normalizer.get(2, b"")
        self.ours = gguf_vocabulary(self.checkpoint())

    def checkpoint(self, **changes: Any) -> Checkpoint:
        theirs = self.theirs
        size = theirs.get_piece_size()
        keys: dict[str, Any] = {
            "model": "llama" if self.kind.model == "bpe" else "t5",
            "tokens": [theirs.id_to_piece(token) for token in range(size)],
            "scores": np.array([theirs.get_score(token) for token in range(size)], np.float32),
            "token_type": np.array([self.type_of(token) for token in range(size)], np.int32),
            "unknown_token_id": theirs.unk_id(),
            "bos_token_id": theirs.bos_id(),
            "eos_token_id": theirs.eos_id(),
            "add_bos_token": False,
            "add_space_prefix": self.kind.prefix,
            "remove_extra_whitespaces": self.kind.joins,
        }
        if self.kind.model == "unigram" and self.charsmap:
            keys["precompiled_charsmap"] = np.frombuffer(self.charsmap, np.uint8)
        keys.update(changes)
        named = {f"tokenizer.ggml.{key}": value for key, value in keys.items() if value is not None}
        return Checkpoint(Path("made.gguf"), "gguf", named, {})

    def type_of(self, token: int) -> int:
        theirs = self.theirs
        if theirs.is_unknown(token):
            return 2
        return 3 if theirs.is_control(token) else 6 if theirs.is_byte(token) else 1


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "-".join(map(str, vars(kind).values())))
def trained(request: pytest.FixtureRequest) -> Trained:
    return Trained(request.param)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    chosen = random.Random(5)
    made = ["".join(chosen.choices(PARTS, k=chosen.choice([1, 2, 3, 5, 8, 13, 40]))) for _ in range(400)]
    return ["", *PARTS, *made, "hello " * 3000, "aaaa" * 5000, " " * 20_000 + "x", "中文" * 5000]


def test_ids_are_those_of_sentencepiece(trained: Trained, texts: list[str]) -> None:
    for text in texts:
        theirs, ours = trained.theirs.encode(text), trained.ours.encode(text)
        if ours != theirs and trained.kind.model == "unigram":
            # Two ways with the same sum of scores: they add in single precision.
            sums = [sum(trained.theirs.get_score(token) for token in ids) for ids in (ours, theirs)]
            assert abs(sums[0] - sums[1]) < 1e-4 * len(ours), text[:80]
            assert len(text) > 4, text
        else:
            assert ours == theirs, text[:80]


def test_special_tokens_are_cut_out_only_on_demand(trained: Trained) -> None:
    vocabulary, bos = trained.ours, trained.theirs.bos_id()
    assert bos not in vocabulary.encode("a<s>b")
    parts = trained.theirs.encode("hello"), trained.theirs.encode(" world")
    assert vocabulary.encode("hello<s> world", special=True) == [*parts[0], bos, *parts[1]]
    assert vocabulary.bos == bos
    assert vocabulary.end_tokens == (trained.theirs.eos_id(),)


def test_bytes_that_are_not_text_read_as_replacements(trained: Trained) -> None:
    assert trained.ours.encode(b"a\xff\xc3(b") == trained.theirs.encode("a\ufffd\ufffd(b")
    assert all(0 <= token < trained.ours.size for token in trained.ours.encode("a\ud800b"))


def test_text_is_shown_as_it_is_decoded(trained: Trained, texts: list[str]) -> None:
    vocabulary = trained.ours
    for text in texts[:300]:
        ids = vocabulary.encode(text)
        stream = StreamDecoder(vocabulary)
        assert "".join([*map(stream.push, ids), stream.finish()]) == vocabulary.decode(ids)
        if trained.theirs.unk_id() not in ids:
            # SentencePiece drops the space that begins a text: what goes on after another text is compared.
            whole = [*trained.theirs.encode("hello"), *ids]
            assert vocabulary.decode(whole).removeprefix(" ") == trained.theirs.decode(whole)
        if trained.kind.fallback and trained.kind.rule == "identity" and not trained.kind.joins:
            begin = " " if text and trained.kind.prefix else ""
            assert vocabulary.decode(ids) == begin + text.replace("▁", " ")


def naive(word: str, costs: dict[str, float]) -> list[str]:
    """The definition: while neighbours make a token, join the best, the leftmost among equals."""
    parts = list(word)
    while True:
        pairs = [
            (costs[parts[at] + parts[at + 1]], at)
            for at in range(len(parts) - 1)
            if parts[at] + parts[at + 1] in costs
        ]
        if not pairs:
            return parts
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def test_merging_is_by_score_then_from_the_left() -> None:
    chosen = random.Random(17)
    for _ in range(300):
        tokens = {"".join(chosen.choices("ab", k=chosen.randint(1, 5))) for _ in range(12)}
        costs = {token: float(chosen.randint(0, 3)) for token in tokens}
        word = "".join(chosen.choices("abc", k=chosen.randint(1, 25)))
        assert merged(word, costs) == naive(word, costs)


def test_the_charsmap_is_walked_as_sentencepiece_does() -> None:
    trained = Trained(Kind("unigram", rule="nfkc_cf"))
    ours = CharacterMap(trained.charsmap)
    theirs = sentencepiece.SentencePieceNormalizer(
        rule_name="nfkc_cf", add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False
    )
    chosen = random.Random(23)
    points = [*range(1, 0x3400), *range(0xAC00, 0xD7B0), *range(0xF900, 0x10000), *range(0x1D400, 0x1F300)]
    letters = [chr(point) for point in points]
    for letter in letters:
        assert ours.normalize(letter) == theirs.normalize(letter), hex(ord(letter))
    marks = [chr(point) for point in (*range(0x300, 0x345), 0x3099, 0x309A, *range(0x1161, 0x1176))]
    for _ in range(3000):
        text = "".join(chosen.choice(marks if chosen.random() < 0.4 else letters) for _ in range(8))
        assert ours.normalize(text) == theirs.normalize(text), ascii(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scores", None),
        ("scores", [1.0]),
        ("scores", ["x"]),
        ("scores", np.full(3, np.nan, np.float32)),
        ("unknown_token_id", 10**6),
        ("add_space_prefix", 1),
        ("remove_extra_whitespaces", "yes"),
        ("precompiled_charsmap", [1, 2, 3]),
        ("precompiled_charsmap", np.zeros(3, np.uint8)),
        ("precompiled_charsmap", np.full(40, 255, np.uint8)),
        ("precompiled_charsmap", np.frombuffer(b"\x04\0\0\0" + b"\xff" * 4 + b"a\0", np.uint8)),
        ("precompiled_charsmap", np.frombuffer(b"\x04\0\0\0" + b"\0" * 4 + b"a", np.uint8)),
    ],
)
def test_a_bad_key_is_named(key: str, value: Any) -> None:
    keys: dict[str, Any] = {
        "model": "t5", "tokens": ["<unk>", "a", "b"], "token_type": np.array([2, 1, 1]),
        "scores": np.zeros(3, np.float32), "unknown_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    keys[key] = value
    named = {f"tokenizer.ggml.{name}": held for name, held in keys.items() if held is not None}
    with pytest.raises(FileError, match=f"tokenizer.ggml.{key}") as caught:
        gguf_vocabulary(Checkpoint(Path("made.gguf"), "gguf", named, {}))
    assert str(caught.value).startswith("made.gguf: ")


def test_tokens_have_bytes() -> None:
    vocabulary: Vocabulary = Trained(KINDS[0]).ours
    line_end = vocabulary.token_id("\n")
    assert line_end is not None
    assert vocabulary.token_bytes(line_end) == b"\n"
    hello = vocabulary.token_id(" hello")
    assert hello is not None
    assert vocabulary.token_bytes(hello) == b" hello"
    assert vocabulary.token_id("</s>") == vocabulary.end_tokens[0]
    assert vocabulary.token_id("never a token") is None
