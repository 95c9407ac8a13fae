"""Compare GGUF tokenizers with llama.cpp: whole vocabularies, and every pre-tokenizer name.

    .venv/bin/python scripts/check_tokenizers.py vocabularies llama.cpp/models
    .venv/bin/python scripts/check_tokenizers.py record PROGRAM tests/files/data/tokenizer_names.json

The first takes the ggml-vocab-*.gguf of llama.cpp's repository with the texts and ids beside them, and
says for how many texts the ids are the same. The second writes small vocabularies whose merges go across
anything a rule may cut at, once for each name of a pre-tokenizer, and one each of the other kinds of
tokenizer; has llama.cpp's llama-tokenize (PROGRAM) encode the texts below; and records vocabularies, texts
and ids, to which tests/files/test_tokenizer_names.py holds our own. The outcome of the first is in
docs/tokenizers.md.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FivefoldError
from fivefold.core.vocabulary import Vocabulary
from fivefold.files import gguf_vocabulary, open_gguf, write_gguf
from fivefold.files.tokenizer_pre import PRE_TOKENIZERS

SEPARATOR = "\n__ggml_vocab_test__\n"
PARTS = [
    *"aabBzZ019  \n\r\t.,!?(/_-$~`|<>'", "é", "É", "ß", "ǅ", "ʰ", "ª", "中", "文", "々", "ひ", "カ", "한",
    "ㄱ", "ㄅ", "न", "म", "\u093f", "\u0301", "½", "²", "１", "４", "Ⅷ", "\u00a0", "\u2003", "\u3000",
    "\u200b", "\u0085", "🚀", "\ufe0f", "…", "、", "。", "：", "—", "'s", "'LL", "'Re", "\r\n", "  ", "    ",
    "ع", "،", "۔", "𐐀", "𐐨", "Ა", "€", "12", "345", "123456", "〇", "！", "ﾟ", "ก", "IMGIMGABZ",
    "<sentinel:12>", "ࠀ", "ƻ", "µ",
]  # fmt: skip
"""What the texts are made of: one or two characters of every class that a rule tells from others."""
OWN = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
TRIALS, LENGTH, TOKENS = 5000, 20, 600
PLAIN_TEXTS = [
    "",
    " ",
    "Aa'LL bA's",
    "zéÉ 中文한 न\u093f",
    "  1234567 12,345½\n\n",
    "a🚀\ufe0f\u0301…\u3000b",
]
KEYS = {
    "general.architecture": "llama", "llama.context_length": 128, "llama.embedding_length": 8,
    "llama.block_count": 1, "llama.feed_forward_length": 8, "llama.attention.head_count": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
}  # fmt: skip


def vocabularies(folder: Path) -> int:
    """Compare every vocabulary of a folder; the number of texts with other ids."""
    different = 0
    for path in sorted(folder.glob("ggml-vocab-*.gguf")):
        given, expected = Path(f"{path}.inp"), Path(f"{path}.out")
        if not given.exists():
            continue
        vocabulary = gguf_vocabulary(open_gguf(path))
        with given.open(encoding="utf-8", newline="") as file:
            texts = file.read().split(SEPARATOR)
        rows = [[int(number) for number in line.split()] for line in expected.read_text().split("\n")]
        wrong = [
            text
            for text, ids in zip(texts, rows, strict=False)
            if vocabulary.encode(text, add_bos=False) != ids
        ]
        different += len(wrong)
        print(
            f"{path.name}: {len(texts) - len(wrong)} of {len(texts)} texts have the same ids",
            *map(repr, wrong),
        )
    return different


def texts(kinds: dict[str, dict[str, Any]]) -> list[str]:
    """The texts to encode, the same in every run: each tells rules apart that those before do not."""
    chosen = random.Random(7)
    rules = {rule.patterns: name for name, rule in PRE_TOKENIZERS.items() if rule.byte_level}
    readers = {name: made(metadata(kinds["bytes"], name)) for name in rules.values()}
    alike, found = [list(readers)], list(PLAIN_TEXTS)
    for _ in range(TRIALS):
        text = "".join(chosen.choices(PARTS, k=chosen.randint(1, LENGTH)))
        finer: list[list[str]] = []
        for group in alike:
            by_ids: dict[tuple[int, ...], list[str]] = {}
            for name in group:
                by_ids.setdefault(tuple(readers[name].encode(text, add_bos=False)), []).append(name)
            finer.extend(by_ids.values())
        if len(finer) > len(alike) or len(found) < len(PLAIN_TEXTS) + 8:
            alike = finer
            found.append(text)
    print("not told apart:", *(group for group in alike if len(group) > 1))
    return found


def made(keys: dict[str, Any]) -> Vocabulary:
    """Our own tokenizer of these keys."""
    named = {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    return gguf_vocabulary(Checkpoint(Path("small.gguf"), "gguf", named, {}))


def corpus() -> list[str]:
    """What the small vocabularies are trained on."""
    chosen = random.Random(11)
    return ["".join(chosen.choices(PARTS, k=24)) for _ in range(3000)]


def trained(kind: str) -> dict[str, Any]:
    """A BPE vocabulary trained on texts that no rule has cut.

    `kind` is "bytes", or characters: "marked" with ▁ for spaces, "plain" without spaces.
    """
    library = Tokenizer(models.BPE())
    alphabet, own, given = sorted(pre_tokenizers.ByteLevel.alphabet()), [], corpus()
    if kind == "bytes":
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    else:
        given = [text.replace(" ", "▁" if kind == "marked" else "") for text in given]
        alphabet, own = [], OWN
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENS + len(own), initial_alphabet=alphabet, special_tokens=own, show_progress=False
    )
    library.train_from_iterator(given, trainer)
    model = json.loads(library.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return {"tokens": sorted(model["vocab"], key=model["vocab"].__getitem__), "merges": merges}


def word_pieces() -> list[str]:
    """A WordPiece vocabulary as GGUF files have it."""
    library = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    own = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=TOKENS, special_tokens=own, show_progress=False)
    library.train_from_iterator(corpus(), trainer)
    tokens = sorted(library.get_vocab(), key=library.get_vocab().__getitem__)
    return [
        token if token in own else token[2:] if token.startswith("##") else f"▁{token}" for token in tokens
    ]


def metadata(vocabulary: dict[str, Any], name: str) -> dict[str, Any]:
    """The keys of a file with a BPE vocabulary that is cut by the rule of this name."""
    return {
        "model": "whitespace" if name == "whitespace" else "gpt2",
        "pre": name,
        **vocabulary,
        "token_type": types(vocabulary["tokens"]),
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def types(tokens: Sequence[str]) -> list[int]:
    """Types of tokens that begin with OWN, or have none of it."""
    return (
        [2, 3, 3, *[6] * 256, *[1] * (len(tokens) - len(OWN))] if tokens[:3] == OWN[:3] else [1] * len(tokens)
    )


def others() -> Iterator[dict[str, Any]]:
    """The keys of files with tokenizers that have no pre-tokenizer."""
    tokens = [token for token in trained("marked")["tokens"] if token not in {"▁▁▁", "\r\n"}]
    chosen = random.Random(13)
    scored = {
        "tokens": tokens,
        "token_type": types(tokens),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }
    ranks = [float(-index) for index in range(len(tokens))]
    for prefix in (True, False):
        yield {"model": "llama", **scored, "scores": ranks, "add_space_prefix": prefix}
    pieces = [*OWN[:3], *tokens[len(OWN) :]]  # llama.cpp has no byte tokens here
    yield {
        "model": "t5",
        **scored,
        "tokens": pieces,
        "token_type": [2, 3, 3, *[1] * (len(pieces) - 3)],
        "scores": [round(-len(token) - 4 * chosen.random(), 3) for token in pieces],
        "add_space_prefix": True,
        "remove_extra_whitespaces": True,
    }
    pieces = word_pieces()
    for lowercase in (True, False):
        yield {
            "model": "bert",
            "tokens": pieces,
            "token_type": [3, 2, 3, 3, *[1] * (len(pieces) - 4)],
            "bos_token_id": 2,
            "unknown_token_id": 1,
            "seperator_token_id": 3,
            "padding_token_id": 0,
            "normalizer.lowercase": lowercase,
        }


def write(path: Path, keys: dict[str, Any]) -> None:
    """A file with these `tokenizer.ggml.` keys, and what else llama.cpp asks for."""
    kinds = {"token_type": np.int32, "scores": np.float32}
    named = {
        f"tokenizer.ggml.{key}": np.array(value, kinds[key]) if key in kinds else value
        for key, value in keys.items()
    }
    write_gguf(path, {**KEYS, **named}, [])


def encoded(program: str, model: Path, text: str, *options: str) -> list[int]:
    """Ids of a text by llama.cpp."""
    command = [program, "-m", str(model), "--stdin", "--ids", "--no-escape", "--no-parse-special", *options]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
    return [int(number) for number in json.loads(done.stdout.splitlines()[-1])]


def names(
    program: str, kinds: dict[str, dict[str, Any]], given: Sequence[str], path: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """For every name: the vocabulary used, whether texts begin with `bos`, and the ids of all texts."""
    for name, rule in PRE_TOKENIZERS.items():
        kind = "bytes" if rule.byte_level else "marked" if rule.marks_spaces else "plain"
        write(path, metadata(kinds[kind], name))
        begins = encoded(program, path, "a")[:1] == [1]
        ids = [encoded(program, path, text, "--no-bos") for text in given]
        yield name, {"vocabulary": kind, "add_bos": begins, "ids": ids}
        print(name, flush=True)


def record(program: str, target: Path) -> None:
    """Write what llama.cpp makes of every name; names with the same ids stand together."""
    kinds = {kind: trained(kind) for kind in ("bytes", "marked", "plain")}
    given = texts(kinds)
    groups: dict[str, dict[str, Any]] = {}
    more: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.gguf"
        for name, found in names(program, kinds, given, path):
            groups.setdefault(json.dumps(found), {"names": [], **found})["names"].append(name)
        for keys in others():
            write(path, keys)
            more.append({"keys": keys, "ids": [encoded(program, path, text, "--no-bos") for text in given]})
    shown = subprocess.run([program, "--version"], capture_output=True, check=True, text=True)
    data = {
        "command": "scripts/check_tokenizers.py record",
        "version": (shown.stdout + shown.stderr).splitlines()[0],
        "texts": given,
        "vocabularies": kinds,
        "groups": list(groups.values()),
        "others": more,
    }
    lines = [
        f" {json.dumps(key)}: {json.dumps(value, separators=(',', ':'), ensure_ascii=False)}"
        for key, value in data.items()
    ]
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main(arguments: Sequence[str]) -> int:
    """Do what the command line asks for."""
    match arguments:
        case ["vocabularies", folder]:
            return 1 if vocabularies(Path(folder)) else 0
        case ["record", program, target]:
            record(program, Path(target))
            return 0
    print(__doc__)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FivefoldError as error:
        sys.exit(str(error))
