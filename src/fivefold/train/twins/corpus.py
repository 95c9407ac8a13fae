"""Records as tokens in a folder: the tokenizer that was made of them, and the three splits.

Training and validation are arrays; validation and test are texts too (JSON lines of what is given and what
was written), which is what twins are compared on. Nothing that trains reads the test.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from fivefold.core.batch import Int32
from fivefold.core.errors import FileError
from fivefold.train.stored import whole_folder

from .records import Record, Split, read_records, shuffled

END, MASK = "<end>", "<mask>"
TOKENIZER, DESCRIBED = "tokenizer.json", "corpus.json"
WORD = r"[ \n]?[^ \n]+|[ \n]"
LEARNED_FROM = 8000
"""Records that the tokenizer is made of: more change it little, and take minutes."""


@dataclass(frozen=True, slots=True)
class Making:
    """How a corpus is made: the seed of the order, the size of the vocabulary, tokens of a record at most
    (with its end token); longer ones are left out."""

    seed: int = 0
    vocabulary: int = 4096
    longest: int = 256


@dataclass(frozen=True, slots=True)
class Tokens:
    """The end token, and the mask."""

    end: int
    mask: int


@dataclass(frozen=True, eq=False)
class Records:
    """Records of one split.

    tokens  (T,) of all of them, each with its end token; `starts` (R + 1,) where each begins.
    given   (R,) tokens of each that are given.
    """

    tokens: Int32
    starts: Int32
    given: Int32

    def __len__(self) -> int:
        return len(self.given)

    @cached_property
    def lengths(self) -> Int32:
        """(R,) tokens of each."""
        return np.diff(self.starts)

    def __getitem__(self, number: int) -> Int32:
        return self.tokens[self.starts[number] : self.starts[number + 1]]


def make_corpus(source: Path, folder: Path, making: Making) -> dict[str, object]:
    """Make the folder of a list of control records, and say what is in it; FileError or InputError."""
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot be read ({error})", where=str(source),
                        remedy="make it with: apt-cache dumpavail") from None  # fmt: skip
    splits = shuffled(read_records(text, str(source)), making.seed)
    tokenizer = _tokenizer(splits["training"][:LEARNED_FROM], making.vocabulary)
    described: dict[str, object] = {
        "sha256": hashlib.sha256(text.encode()).hexdigest(), **asdict(making), "splits": {}
    }  # fmt: skip
    counts: dict[str, dict[str, int]] = {}
    with whole_folder(folder, "corpus") as hidden:
        tokenizer.save(str(hidden / TOKENIZER))
        for split, records in splits.items():
            kept, encoded = _encoded(tokenizer, records, making.longest)
            counts[split] = {
                "records": len(kept), "too_long": len(records) - len(kept), "tokens": len(encoded.tokens),
                "given": int(encoded.given.sum()), "written_bytes": sum(len(one.written) for one in kept),
            }  # fmt: skip
            if split != "test":
                np.savez(hidden / f"{split}.npz", tokens=encoded.tokens.astype(np.uint16),
                         starts=encoded.starts, given=encoded.given)  # fmt: skip
            if split != "training":
                (hidden / f"{split}.jsonl").write_text("".join(map(_line, kept)), encoding="utf-8")
        described["splits"] = counts
        (hidden / DESCRIBED).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return described


def read_split(folder: Path, split: Split) -> Records:
    """The arrays of training or validation; FileError if they are not there or cannot be read."""
    path = folder / f"{split}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = Records(*(stored[name].astype(np.int32) for name in ("tokens", "starts", "given")))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FileError(f"no records can be read ({error})", where=str(path),
                        remedy="make them: fivefold train records") from None  # fmt: skip
    if not len(found) or len(found.starts) != len(found) + 1 or found.starts[-1] != len(found.tokens):
        raise FileError(f"{len(found)} records do not fit their tokens", where=str(path),
                        remedy="make them again: fivefold train records")  # fmt: skip
    return found


def read_tokenizer(folder: Path) -> Tokenizer:
    """The corpus's tokenizer; FileError if there is none."""
    path = folder / TOKENIZER
    if not path.is_file():
        raise FileError("the tokenizer is missing", where=str(path), remedy="make it: fivefold train records")
    return Tokenizer.from_file(str(path))


def special_tokens(tokenizer: Tokenizer, where: str = "") -> Tokens:
    """The tokens with a meaning; FileError if the tokenizer has none of that name."""
    end, mask = (tokenizer.token_to_id(text) for text in (END, MASK))
    if end is None or mask is None:
        raise FileError(f"the tokenizer has no {END} or no {MASK}", where=where,
                        remedy="make the corpus: fivefold train records")  # fmt: skip
    return Tokens(end, mask)


def _tokenizer(records: Sequence[Record], vocabulary: int) -> Tokenizer:
    """BPE over bytes within what lies between spaces and ends of lines.

    Names, addresses and numbers of versions are not cut at their marks, as ordinary text would be: the many
    tokens that would be nothing but a dot or a dash are so easy that they would flatter whoever guesses.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORD), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(text, special=True, normalized=False) for text in (END, MASK)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator((part for one in records for part in (one.given, one.written)), trainer)
    return tokenizer


def _encoded(tokenizer: Tokenizer, records: Sequence[Record], longest: int) -> tuple[list[Record], Records]:
    """The records that are not too long, and their tokens."""
    end = special_tokens(tokenizer).end
    kept: list[Record] = []
    parts: list[list[int]] = []
    given: list[int] = []
    for record, (known, more) in zip(records, _pairs(tokenizer, records), strict=True):
        if len(known) + len(more) < longest:
            kept.append(record)
            parts.append([*known, *more, end])
            given.append(len(known))
    starts = np.cumsum([0, *map(len, parts)]).astype(np.int32)
    tokens = np.array([token for part in parts for token in part], np.int32)
    return kept, Records(tokens, starts, np.array(given, np.int32))


def _pairs(tokenizer: Tokenizer, records: Sequence[Record]) -> Iterator[tuple[list[int], list[int]]]:
    """Tokens of what is given and of what is written: apart, since that is how they are asked for."""
    known = tokenizer.encode_batch_fast([record.given for record in records])
    more = tokenizer.encode_batch_fast([record.written for record in records])
    for one, other in zip(known, more, strict=True):
        yield one.ids, other.ids


def _line(record: Record) -> str:
    return json.dumps({"source": record.source, "given": record.given, "written": record.written}) + "\n"
