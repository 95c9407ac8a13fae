"""Hugging Face folders: which tokens have a role, what is refused, and in what words."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import Sequence, TemplateProcessing

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, InputError, UnsupportedError
from fivefold.core.vocabulary import Vocabulary
from fivefold.files.tokenizer_json import huggingface_vocabulary

LETTERS = [*pre_tokenizers.ByteLevel.alphabet()]


def byte_level(*special: str) -> Tokenizer:
    """All bytes, one merge, and special tokens after them."""
    vocab = {text: number for number, text in enumerate([*LETTERS, "ab"])}
    library = Tokenizer(models.BPE(vocab, [("a", "b")]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([*special])
    return library


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Vocabulary]:
    """Opens a folder with a tokenizer and other files, given as `tokenizer_config={...}`."""

    def open_folder(tokenizer: Tokenizer | str, config: Any = None, **files: Any) -> Vocabulary:
        text = tokenizer if isinstance(tokenizer, str) else tokenizer.to_str()
        (tmp_path / "tokenizer.json").write_text(text)
        for name, value in files.items():
            written = value if isinstance(value, str) else json.dumps(value)
            (tmp_path / f"{name}.json").write_text(written)
        return huggingface_vocabulary(Checkpoint(tmp_path, "huggingface", config or {}, {}))

    return open_folder


Open = Callable[..., Vocabulary]


def test_roles_come_from_the_configuration(opened: Open) -> None:
    vocabulary = opened(
        byte_level("<s>", "</s>", "<|end|>"),
        tokenizer_config={"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}},
        generation_config={"eos_token_id": [259, 258]},
    )
    assert vocabulary.size == 260
    assert (vocabulary.bos, vocabulary.add_bos) == (257, False)
    assert vocabulary.end_tokens == (258, 259)
    assert vocabulary.encode("a", add_bos=True) == [257, *vocabulary.encode("a")]
    assert vocabulary.token_id("<|end|>") == 259
    assert vocabulary.token_id("ab") == 256
    assert vocabulary.token_id("abc") is None
    with pytest.raises(InputError, match="260"):
        vocabulary.token_bytes(260)


def test_roles_come_from_older_files_as_well(opened: Open) -> None:
    library = byte_level("<s>")
    library.add_tokens(["</s>"])
    vocabulary = opened(
        library,
        {"eos_token_id": 258},
        special_tokens_map={"bos_token": {"content": "<s>"}, "eos_token": "</s>"},
    )
    assert (vocabulary.bos, vocabulary.end_tokens) == (257, (258,))
    assert vocabulary.is_special(258)
    assert 258 not in vocabulary.encode("</s>")
    assert vocabulary.encode("</s>", special=True) == [258]


def test_the_model_may_say_what_the_tokenizer_does_not(opened: Open) -> None:
    vocabulary = opened(
        byte_level("<s>", "</s>"), {"text_config": {"bos_token_id": 257, "eos_token_id": [258]}}
    )
    assert (vocabulary.bos, vocabulary.end_tokens) == (257, (258,))
    none = opened(byte_level("<s>"), {"bos_token_id": 257}, tokenizer_config={"bos_token": None})
    assert none.bos is None
    with pytest.raises(InputError, match="begin"):
        none.encode("a", add_bos=True)


@pytest.mark.parametrize(("asked", "begins"), [(None, True), (True, True), (False, False)])
def test_the_template_says_whether_texts_begin_with_bos(
    opened: Open, asked: bool | None, begins: bool
) -> None:
    library = byte_level("<s>", "</s>")
    template = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 257), ("</s>", 258)])
    library.post_processor = Sequence([template])
    vocabulary = opened(library, tokenizer_config={"bos_token": "<s>", "add_bos_token": asked})
    assert vocabulary.add_bos is begins
    assert vocabulary.encode("ab") == ([257, 256] if begins else [256])


def test_a_template_may_end_texts_only(opened: Open) -> None:
    library = byte_level("<s>")
    library.post_processor = TemplateProcessing(single="$A <s>", special_tokens=[("<s>", 257)])
    assert not opened(library, tokenizer_config={"bos_token": "<s>", "eos_token": "<s>"}).add_bos


def test_described_tokens_are_added(opened: Open) -> None:
    described = {
        "257": {"content": "<s>", "special": True},
        "258": {"content": "<tool>", "special": False, "rstrip": True},
        "259": {"content": "<end>", "special": True},
    }
    vocabulary = opened(byte_level("<s>", "<tool>"), tokenizer_config={"added_tokens_decoder": described})
    assert vocabulary.size == 260
    assert [vocabulary.is_special(token) for token in (257, 258, 259)] == [True, True, True]
    assert vocabulary.encode("<tool>  ab<end>", special=True) == [258, 256, 259]
    assert 258 not in vocabulary.encode("<tool>")


def test_length_limits_of_the_file_do_not_count(opened: Open) -> None:
    library = byte_level("<pad>")
    library.enable_truncation(4)
    library.enable_padding(length=8)
    assert len(opened(library).encode("cdefghijk")) == 9


def test_tokens_of_the_model_that_are_special_are_not_spelled(opened: Open) -> None:
    """A unigram piece of score 0 and a word that is a token as it stands: both are in real files."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), ("<", -3.0), ("/", -3.0), ("s", -3.0), (">", -3.0)]
    library = Tokenizer(models.Unigram(pieces, 0, False))
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    library.decoder = decoders.Metaspace(prepend_scheme="never")
    library.add_special_tokens(["<unk>", "</s>"])
    library.add_tokens(["<user>"])
    vocabulary = opened(library)
    assert vocabulary.encode("</s>") == [3, 4, 5, 6]
    assert vocabulary.encode("</s>s", special=True) == [1, 5]
    assert vocabulary.encode("<user>") == [7]
    words = {text: number for number, text in enumerate([*LETTERS, "</s>", "ab"])}
    whole = Tokenizer(models.BPE(words, [("a", "b")], ignore_merges=True))
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    whole.decoder = decoders.ByteLevel()
    whole.add_special_tokens(["</s>"])
    whole.add_tokens(["<user>"])
    vocabulary = opened(whole)
    assert vocabulary.encode("</s>", special=True) == [256]
    assert 256 not in vocabulary.encode("</s>")
    assert vocabulary.encode("ab<user>") == [257, 258]
    assert vocabulary.decode(vocabulary.encode("</s>")) == "</s>"


def test_numbers_without_a_token_have_no_text(opened: Open) -> None:
    library = Tokenizer(models.WordLevel({"a": 0, "b": 5, "[UNK]": 6}, "[UNK]"))
    vocabulary = opened(library)
    assert vocabulary.size == 7
    assert vocabulary.token_bytes(3) == b""
    assert not vocabulary.is_special(3)


def test_decoders_are_taken_token_by_token(opened: Open) -> None:
    library = Tokenizer(models.BPE({"_a": 0, "<0xC3>": 1, "<0xA9>": 2, "x9": 3, "~": 4}, []))
    library.decoder = decoders.Sequence(
        [
            decoders.Replace("_", " "), decoders.ByteFallback(), decoders.Replace(Regex("[0-9]"), "#"),
            decoders.Strip("~", 1, 0), decoders.Fuse(), decoders.Strip(" ", 1, 0),
        ]
    )  # fmt: skip
    vocabulary = opened(library)
    assert [vocabulary.token_bytes(token) for token in range(5)] == [b" a", b"\xc3", b"\xa9", b"x#", b""]
    assert vocabulary.decode([0, 1, 2, 3]) == " aé" + "x#"
    assert library.decode([0, 1, 2, 3]) == "aé" + "x#"


def test_an_unknown_decoder_is_refused_by_name(opened: Open) -> None:
    library = byte_level()
    library.decoder = decoders.CTC()
    with pytest.raises(UnsupportedError, match=r"tokenizer\.json: key 'decoder': the kind 'CTC'"):
        opened(library)


def test_a_text_without_tokens_is_an_error_of_one_line(opened: Open) -> None:
    library = Tokenizer(models.WordLevel({"a": 0}, "[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(FileError, match="does not take this text"):
        opened(library).encode("b")


def test_there_must_be_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no tokenizer\.json") as caught:
        huggingface_vocabulary(Checkpoint(tmp_path, "huggingface", {}, {}))
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "{}", '{"model": 3}', '{"model": {"type": "BPE"}}', "[" * 100_000]
)
def test_a_malformed_tokenizer_is_named(opened: Open, text: str) -> None:
    with pytest.raises(FileError, match=r"/tokenizer\.json: ") as caught:
        opened(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "key"),
    [
        ("tokenizer_config", "{", "JSON"),
        ("tokenizer_config", "[]", "object"),
        ("tokenizer_config", {"bos_token": 3}, "bos_token"),
        ("tokenizer_config", {"bos_token": ""}, "bos_token"),
        ("tokenizer_config", {"eos_token": "<absent>"}, "eos_token"),
        ("tokenizer_config", {"eos_token": {"text": "<s>"}}, "eos_token"),
        ("tokenizer_config", {"add_bos_token": "yes"}, "add_bos_token"),
        ("tokenizer_config", {"add_bos_token": True}, "bos_token"),
        ("tokenizer_config", {"added_tokens_decoder": []}, ""),
        ("tokenizer_config", {"added_tokens_decoder": [1]}, "added_tokens_decoder"),
        ("tokenizer_config", {"added_tokens_decoder": {"x": {"content": "<s>"}}}, "added_tokens_decoder.x"),
        ("tokenizer_config", {"added_tokens_decoder": {"9": {"content": "<s>"}}}, "added_tokens_decoder.9"),
        ("tokenizer_config", {"added_tokens_decoder": {"9": 1}}, "added_tokens_decoder.9"),
        ("tokenizer_config", {"added_tokens_decoder": {"400": {"content": "<new>"}}}, "decoder.400"),
        (
            "tokenizer_config",
            {"added_tokens_decoder": {"257": {"content": "<s>", "lstrip": 1}}},
            "decoder.257",
        ),
        ("tokenizer_config", {"additional_special_tokens": "<s>"}, "additional_special_tokens"),
        ("tokenizer_config", {"additional_special_tokens": [1]}, "additional_special_tokens"),
        ("special_tokens_map", {"unk_token": []}, "unk_token"),
        ("generation_config", {"eos_token_id": "2"}, "eos_token_id"),
        ("generation_config", {"eos_token_id": [257, True]}, "eos_token_id"),
        ("generation_config", {"eos_token_id": 258}, "eos_token_id"),
        ("generation_config", {"eos_token_id": -1}, "eos_token_id"),
    ],
)
def test_a_bad_key_is_named(opened: Open, file: str, content: Any, key: str) -> None:
    if not key:
        opened(byte_level("<s>"), **{file: content})
        return
    with pytest.raises(FileError, match=key) as caught:
        opened(byte_level("<s>"), **{file: content})
    assert f"{file}.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_merges_must_go_on_as_the_model_says(opened: Open) -> None:
    """The library slices them unchecked, and ends the process inside a character."""
    data = json.loads(byte_level().to_str())
    data["model"]["continuing_subword_prefix"] = "##"
    with pytest.raises(FileError, match=r"model\.merges\.0' does not go on with '##'"):
        opened(json.dumps(data))


@pytest.mark.parametrize(
    ("merge", "said"),
    [
        ("a", "is not a pair of tokens: 'a'"),
        ("a b c", "is not a pair"),
        (["a"], "is not a pair"),
        (["a", "b", "c"], "is not a pair"),
        (["a", ["b"]], "is not a pair"),
        (["a", 5], "is not a pair"),
        ({"a": "b"}, "is not a pair"),
        (None, "is not a pair of tokens: None"),
        (5, "is not a pair"),
        (["a", "no such"], "speaks of 'no such', which is no token"),
        (["x", "z"], "speaks of 'xz', which is no token"),
    ],
    ids=str,
)
@pytest.mark.parametrize("nested", [True, False])
def test_a_malformed_merge_is_named(opened: Open, merge: Any, said: str, nested: bool) -> None:
    """Merges are pairs, or texts with a space between; what else stands there is told by its index."""
    data = json.loads(byte_level().to_str())
    model = data["model"]
    assert len(model["merges"]) > 0
    if not nested:
        model["merges"] = [" ".join(pair) for pair in model["merges"]]
    place = len(model["merges"])
    model["merges"].append(merge)
    with pytest.raises(FileError, match="merges") as caught:
        opened(json.dumps(data))
    assert f"tokenizer.json: key 'model.merges.{place}' {said}" in str(caught.value)


def test_broken_files_give_errors_and_nothing_else(opened: Open) -> None:
    """A tokenizer.json with any value replaced, dropped or doubled opens, or says in one line why not."""
    library = byte_level("<s>", "</s>")
    library.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex("x+"), "y")])
    library.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 257)])
    library.add_tokens([AddedToken("<tool>", lstrip=True)])
    chosen = random.Random(29)
    refused = 0
    for _ in range(300):
        data = json.loads(library.to_str())
        broken(data, chosen)
        try:
            opened(json.dumps(data)).encode("abc <s> x", special=True)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50


def broken(data: Any, chosen: random.Random) -> None:
    """Change one place of nested lists and objects."""
    while True:
        keys = list(data) if isinstance(data, dict) else list(range(len(data)))
        key = chosen.choice(keys)
        inner = data[key]
        if isinstance(inner, dict | list) and inner and chosen.random() < 0.7:
            data = inner
            continue
        data[key] = chosen.choice([None, -1, 2**40, "", "x", [], {}, [inner], True, 0.5, "\ud800"])
        return
