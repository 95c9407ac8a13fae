"""25 tokenizers of all kinds, trained here: as folders and as GGUF files, against the library."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import RobertaProcessing, TemplateProcessing

from fivefold.chat.detokenizer import StreamDecoder
from fivefold.core.checkpoint import Checkpoint
from fivefold.core.vocabulary import Vocabulary
from fivefold.files import gguf_vocabulary, open_gguf, write_gguf
from fivefold.files.tokenizer_json import huggingface_vocabulary

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and then it's gone. They've seen 12 of 345 dogs in 1999!",
    "def merge(left: list[int], right: list[int]) -> list[int]:\n    return sorted(left + right)  # fine\n",
    "Größe, naïve café, Ελληνικά, кириллица, İstanbul; e\u0301 is not é. ÀÉÎ ÄPFEL",
    "日本語のテキスト。中文字符，没有空格。한국어 문장입니다.", "नमस्ते दुनिया، مرحبا بالعالم ۔ ਪੰਜਾਬੀ",
    "🚀 emoji 👍🏽 and 😶\u200d🌫️ joined", "tabs\tand\r\nlines\n\n\n   spaces    x = {'a': [1, 2.50, 1e-7]}",
    "HELLO World, I'M hErE; don't SHOUT'LL", "aaaaaaaa hahaha ---- ==== 1234567890",
]  # fmt: skip
TEXTS = [
    *CORPUS, "", " ", "  ", "\n", "\t \n", "a", " a", "a ", "Hello", " Hello  world ", "x" * 300,
    " " * 70 + "y", "<s>", "a<s>b</s> c", "<|end|>\n<|end|>", "say [MASK] or [UNK]", "<tool> a <tool>b",
    "½ ² Ⅷ １２３ 𝟜", "\u00a0nbsp\u2003em\u3000wide\u200bzero\ufeff", "\x00\x07\x1f\x7f\u0085",
    "<0x41><0x0A>", "▁a ▁▁b", "12345 123456 1234567,89", "𐐀𐐨 ǅ ʰ ª ß ẞ", "\ufffd", "quick quickly",
    "e\u0301\u0323 a\u0308o\u0304 \u0301", "'s 'S 'Re it's' ''ll", "https://example.org/a?b=c&d=%20",
    "ﬁ ﷺ ㍿ ①", "中" * 200, "ab\u0301" * 60, "if(x){return y;}//z", "👨\u200d👩",
]  # fmt: skip
OWN = ["<s>", "</s>", "<|end|>"]
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CODER = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"]
QWEN = LLAMA_3.replace("{1,3}", "")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@dataclass
class Made:
    """One tokenizer: the library's, what goes beside it, and its keys as GGUF if it can be one.

    `alike` says for which texts llama.cpp's rules, which GGUF files go by, are those of the original.
    """

    library: Tokenizer
    gguf: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=lambda: {"bos_token": "<s>", "eos_token": "</s>"})
    alike: Callable[[str], bool] = lambda text: True


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level(cut: list[Any], pre: str | None = None, inside: bool = False, **made: Any) -> Made:
    """BPE over bytes; `inside` has special tokens in the model's own vocabulary, as older files have."""
    library = Tokenizer(models.BPE(ignore_merges=made.pop("ignore_merges", False)))
    library.normalizer = made.pop("normalizer", normalizers.Sequence([]))
    if cut[-1] is not None:
        cut = [*cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    library.pre_tokenizer = pre_tokenizers.Sequence([step for step in cut if step is not None])
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=OWN if inside else [], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    library.train_from_iterator(CORPUS * 3, trainer)
    library.add_special_tokens(OWN)
    library.add_tokens(made.pop("added", []))
    return Made(library, None if pre is None else {"model": "gpt2", "pre": pre}, **made)


def gpt_2_cut() -> list[Any]:
    return [pre_tokenizers.ByteLevel(add_prefix_space=False), None]


def roberta() -> Made:
    made = byte_level([pre_tokenizers.ByteLevel(add_prefix_space=True), None])
    made.library.post_processor = RobertaProcessing(("</s>", 801), ("<s>", 800))
    return made


def llama_3() -> Made:
    made = byte_level([split(LLAMA_3)], "llama-bpe", ignore_merges=True)
    made.library.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 800)])
    return made


def falcon() -> Made:
    cut = [pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
           pre_tokenizers.Digits(individual_digits=False), split("[0-9][0-9][0-9]"), None]  # fmt: skip
    return byte_level(cut, None)


def character_bpe(fallback: bool) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Tokens of a SentencePiece-like model in the order of their scores, and merges made of that."""
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    own = ["<unk>", "<s>", "</s>", *(BYTES if fallback else [])]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=own, show_progress=False)
    library.train_from_iterator([line for text in CORPUS * 3 for line in text.splitlines()], trainer)
    vocab = library.get_vocab()
    pairs = [(text[:at], text[at:]) for text in vocab if text not in own for at in range(1, len(text))]
    known = [pair for pair in pairs if pair[0] in vocab and pair[1] in vocab]
    return vocab, sorted(known, key=lambda pair: (vocab["".join(pair)], len(pair[0])))


def llama_2(fallback: bool) -> Made:
    vocab, merges = character_bpe(fallback)
    library = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=fallback))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    library.add_special_tokens(["<unk>", "<s>", "</s>"])
    return Made(library, {"model": "llama"})


def gemma() -> Made:
    vocab, merges = character_bpe(True)
    library = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    library.normalizer = normalizers.Replace(" ", "▁")
    library.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    library.add_special_tokens(["<unk>", "<s>", "</s>"])
    return Made(library, {"model": "gpt2", "pre": "gemma4"})


def unigram(scheme: str, normalizer: Any, fallback: bool, **made: Any) -> Made:
    library = Tokenizer(models.Unigram())
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    library.normalizer = normalizer
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=["<unk>", *OWN], unk_token="<unk>", show_progress=False
    )
    library.train_from_iterator(CORPUS * 3, trainer)
    # Scores as a GGUF file can hold them, so that sums are equal where they are equal there.
    pieces = [
        (text, float(np.float32(score))) for text, score in json.loads(library.to_str())["model"]["vocab"]
    ]
    known = {text for text, _ in pieces}
    pieces += [(byte, -100.0) for byte in BYTES if fallback and byte not in known]
    library.model = models.Unigram(pieces, 0, fallback)
    steps = [decoders.ByteFallback()] if fallback else []
    library.decoder = decoders.Sequence([*steps, decoders.Metaspace(prepend_scheme=scheme)])
    library.add_special_tokens(["<unk>", *OWN])
    return Made(library, **made)


def plain_words(text: str) -> bool:
    """Whether no part begins with a space, nor looks like the token of a byte.

    The library adds no space to one, where SentencePiece does, and takes the other for that token.
    """
    return re.search("(^|>)[ ▁]|<0x", text) is None


def bert(lowercase: bool) -> Made:
    library = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=lowercase)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece(cleanup=False)
    own = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    library.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=600, special_tokens=own, show_progress=False)
    )
    library.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = {"cls_token": "[CLS]", "unk_token": "[UNK]", "mask_token": {"content": "[MASK]"}}
    keys = {"model": "bert", "normalizer.lowercase": lowercase}
    return Made(library, keys, config, decomposes_alike)


def decomposes_alike(text: str) -> bool:
    """Whether llama.cpp's way to drop accents is BERT's: no Hangul, no spacing marks, no word of 100."""
    marks = any(unicodedata.category(letter) == "Mc" for letter in text)
    return not marks and not any("가" <= letter <= "힣" for letter in text) and len(text) < 100


def word_end() -> Made:
    library = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    library.normalizer = normalizers.Lowercase()
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    library.decoder = decoders.BPEDecoder("</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>", *OWN], end_of_word_suffix="</w>", show_progress=False
    )
    library.train_from_iterator(CORPUS, trainer)
    return Made(library)


def words() -> Made:
    library = Tokenizer(models.WordLevel(unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.train_from_iterator(
        CORPUS, trainers.WordLevelTrainer(special_tokens=["<unk>", *OWN], show_progress=False)
    )
    return Made(library)


def picky() -> Made:
    added = [
        AddedToken("<tool>", lstrip=True, rstrip=True), AddedToken("quick", single_word=True),
        AddedToken("lazy dog", normalized=True), AddedToken("    ", normalized=False),
    ]  # fmt: skip
    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(), normalizers.Lowercase()])
    return byte_level(gpt_2_cut(), normalizer=normalizer, added=added, inside=True)


def composed(text: str) -> bool:
    return unicodedata.is_normalized("NFC", text)


def cased_in_ascii(text: str) -> bool:
    return not any(
        unicodedata.category(letter) in {"Lu", "Lt", "Lm", "Mn", "Mc"} and letter > "\x7f" for letter in text
    )


UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
GPT_4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MAKERS: dict[str, Callable[[], Made]] = {
    "gpt-2": lambda: byte_level(gpt_2_cut(), "gpt-2", inside=True),
    "gpt-2-spaces": lambda: byte_level(gpt_2_cut(), "olmo", added=["  ", "    ", "<tool>"]),
    "roberta": roberta,
    "smollm": lambda: byte_level([pre_tokenizers.Digits(True), *gpt_2_cut()], "smollm", inside=True),
    "llama-3": llama_3,
    "qwen2": lambda: byte_level(
        [split(QWEN)], "qwen2", normalizer=normalizers.NFC(), alike=composed
    ),
    "qwen2-inside": lambda: byte_level([split(QWEN)], "qwen2", inside=True),
    "deepseek-v3": lambda: byte_level(
        [split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK)], "deepseek-v3"
    ),
    "deepseek-coder": lambda: byte_level(
        list(map(split, CODER)), "deepseek-coder", alike=lambda text: not set("\u2003\u3000") & set(text),
    ),
    "falcon": falcon,
    "bloom": lambda: byte_level([split(r" ?[^(\s|[.,!?…。，、।۔،])]+")], "bloom"),
    "superbpe": lambda: byte_level([split(r"\p{N}+"), split(r"(?=(\d{3})+(?!\d))")], "superbpe"),
    "gpt-4o": lambda: byte_level([split(GPT_4O)], "gpt-4o", alike=cased_in_ascii),
    "llama-2": lambda: llama_2(True),
    "llama-2-unknown": lambda: llama_2(False),
    "gemma": gemma,
    "unigram": lambda: unigram("always", None, False, gguf={"model": "t5"}, alike=plain_words),
    "unigram-bytes": lambda: unigram("always", None, True, gguf={"model": "t5"}, alike=plain_words),
    "unigram-never": lambda: unigram("never", normalizers.NFKC(), True),
    "unigram-first": lambda: unigram("first", normalizers.Nmt(), False),
    "bert": lambda: bert(True),
    "bert-cased": lambda: bert(False),
    "word-end": word_end,
    "words": words,
    "picky": picky,
}  # fmt: skip


@dataclass
class Case:
    made: Made
    folder: Vocabulary
    gguf: Vocabulary | None


@pytest.fixture(scope="module", params=MAKERS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    made = MAKERS[request.param]()
    folder = tmp_path_factory.mktemp("tokenizer")
    made.library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(made.config))
    vocabulary = huggingface_vocabulary(Checkpoint(folder, "huggingface", {}, {}))
    if made.gguf is None:
        return Case(made, vocabulary, None)
    write_gguf(folder / "vocabulary.gguf", {**gguf_keys(made), "general.architecture": "llama"}, [])
    return Case(made, vocabulary, gguf_vocabulary(open_gguf(folder / "vocabulary.gguf")))


def gguf_keys(made: Made) -> dict[str, Any]:
    """The tokenizer as a converter would write it."""
    library, model = made.library, json.loads(made.library.to_str())["model"]
    by_text = library.get_vocab(with_added_tokens=True)
    tokens = sorted(by_text, key=by_text.__getitem__)
    added = {token.content: token for token in library.get_added_tokens_decoder().values()}
    unknown = model.get("unk_token") or ("<unk>" if model.get("unk_id") is not None else None)
    types = [
        2
        if text == unknown
        else (3 if added[text].special else 4)
        if text in added
        else 6
        if text in BYTES
        else 1
        for text in tokens
    ]
    keys = {**(made.gguf or {}), "token_type": np.array(types, np.int32), "add_bos_token": False}
    if model["type"] == "BPE":
        keys["merges"] = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        keys["scores"] = -np.arange(len(tokens), dtype=np.float32)
    if model["type"] == "Unigram":
        keys["scores"] = np.array(
            [*(score for _, score in model["vocab"]), *[0.0] * 9][: len(tokens)], np.float32
        )
        keys["add_space_prefix"] = True
    if model["type"] == "WordPiece":
        marked = [text[2:] if text.startswith("##") else "▁" + text for text in tokens]
        tokens = [text if kind != 1 else mark for text, kind, mark in zip(tokens, types, marked, strict=True)]
    roles = {"bos": "<s>", "eos": "</s>", "unknown": unknown}
    keys |= {f"{role}_token_id": by_text[text] for role, text in roles.items() if text in by_text}
    return {f"tokenizer.ggml.{key}": value for key, value in {**keys, "tokens": tokens}.items()}


def test_ids_are_those_of_the_library(case: Case) -> None:
    for text in TEXTS:
        expected = case.made.library.encode(text, add_special_tokens=False).ids
        assert case.folder.encode(text, special=True, add_bos=False) == expected, text


def test_special_tokens_in_text_are_text(case: Case) -> None:
    special = [token for token in range(case.folder.size) if case.folder.is_special(token)]
    written = [case.folder.decode([token], skip_special=False) for token in special]
    unknown = {case.folder.token_id("<unk>"), case.folder.token_id("[UNK]")}
    for vocabulary in filter(None, (case.folder, case.gguf)):
        for text in [*TEXTS, *written, *(f"a{one}{one} b" for one in written)]:
            ids = vocabulary.encode(text, add_bos=False)
            assert not any(vocabulary.is_special(token) for token in ids if token not in unknown), text
            if not any(one in text for one in written):
                assert ids == vocabulary.encode(text, special=True, add_bos=False)


def test_a_gguf_file_gives_the_same_ids(case: Case) -> None:
    if case.gguf is None:
        pytest.skip("GGUF has no such tokenizer")
    for text in filter(case.made.alike, TEXTS):
        for special in (False, True):
            expected = case.folder.encode(text, special=special, add_bos=False)
            assert case.gguf.encode(text, special=special, add_bos=False) == expected, text


def test_text_is_that_of_the_library(case: Case) -> None:
    """But for the space at either end, which the library takes off a whole text."""
    library, vocabulary = case.made.library, case.folder
    ends = vocabulary.encode("a", add_bos=False)
    for text in TEXTS:
        ids = [*ends, *vocabulary.encode(text, special=True, add_bos=False), *ends]
        assert vocabulary.decode(ids).strip(" ") == library.decode(ids).strip(" "), text
        if not any(vocabulary.is_special(token) for token in ids):
            assert vocabulary.decode(ids, skip_special=False) == vocabulary.decode(ids)


def test_text_that_comes_piece_by_piece_is_the_same(case: Case) -> None:
    for vocabulary in filter(None, (case.folder, case.gguf)):
        for text in TEXTS:
            ids = vocabulary.encode(text, special=True, add_bos=False)
            stream = StreamDecoder(vocabulary)
            assert "".join([*map(stream.push, ids), stream.finish()]) == vocabulary.decode(ids)


def test_bytes_that_are_not_text_read_as_replacements(case: Case) -> None:
    for data, text in ((b"a\xff\xfeb", "a\ufffd\ufffdb"), (b"\x80", "\ufffd"), (b"caf\xc3", "caf\ufffd")):
        for vocabulary in filter(None, (case.folder, case.gguf)):
            assert vocabulary.encode(data, add_bos=False) == vocabulary.encode(text, add_bos=False)
            assert vocabulary.decode(vocabulary.encode("a\ud800", add_bos=False)).strip(" ").startswith("a")
