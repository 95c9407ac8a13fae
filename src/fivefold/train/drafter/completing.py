"""Records that a twin is to complete, as prompts for its drafter to learn from.

They are those of its corpus, as they are given there, in their order. What is held out are the records of the
validation; the test is not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fivefold.core.errors import FileError, InputError
from fivefold.exercises import Side
from fivefold.train.twins.corpus import DESCRIBED, TOKENIZER, Records, read_split

from .asking import drawn
from .writing import Prompt

RECORD = "record"
"""The kind of these prompts."""


@dataclass(frozen=True, slots=True)
class Completing:
    """How records are asked for.

    corpus               the digest of its description; `longest`: tokens that are given of a record, at most.
    sampled, temperature  as in `Asking`.
    """

    corpus: str
    longest: int
    seed: int = 0
    sampled: float = 0.25
    temperature: float = 0.7


class Corpus:
    """The records of both sides in `folder`; FileError as `read_split` says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: Mapping[Side, Records] = {
            "training": read_split(folder, "training"), "held_out": read_split(folder, "validation")
        }  # fmt: skip

    def asking(self, seed: int = 0, sampled: float = 0.25, temperature: float = 0.7) -> Completing:
        """How they are asked for, with what tells this corpus from others."""
        described = _bytes(self._folder / DESCRIBED)
        longest = max(int(one.given.max()) for one in self._records.values())
        return Completing(hashlib.sha256(described).hexdigest(), longest, seed, sampled, temperature)

    def require_fit(self, model: Path, counts: Mapping[Side, int]) -> None:
        """InputError unless the model in that folder has the corpus's tokenizer, and each side so many
        records."""
        own = model / TOKENIZER
        if not own.is_file() or own.read_bytes() != _bytes(self._folder / TOKENIZER):
            raise InputError("the model has another tokenizer than the corpus", where=str(model),
                             remedy="give the corpus that it was trained on: --records")  # fmt: skip
        for side, count in counts.items():
            if count > len(self._records[side]):
                raise InputError(
                    f"{count} records are asked for, and there are {len(self._records[side])} ({side})",
                    where=str(self._folder), remedy="ask for fewer: --conversations, --held-out",
                )  # fmt: skip

    def prompt(self, asking: Completing, side: Side, number: int) -> Prompt:
        """Prompt number `number` of a side."""
        records = self._records[side]
        _, heat, seed = drawn(asking.seed, side, number, asking.sampled, asking.temperature)
        given = records[number][: int(records.given[number])]
        return Prompt(tuple(given.tolist()), RECORD, heat, seed)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot be read ({error.strerror or error})", where=str(path),
                        remedy="make the corpus: fivefold train records") from None  # fmt: skip
