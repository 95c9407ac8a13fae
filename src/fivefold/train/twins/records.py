"""Records of Debian's packages, as text to learn: what is given of a package, and what a model is to write.

The source is a list of control records as `apt-cache dumpavail` prints it (Debian policy, chapter 5).
Package, source, version and description are given; the other fields below are written, in the order of such
lists. Sizes and digests are left out, since nobody can know them. Whole source packages are held out, by a
digest of their names, so that no sibling of a record that is asked about was learned from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from fivefold.core.errors import FileError

Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = ("training", "validation", "test")

GIVEN = ("Package", "Source", "Version", "Description")
WRITTEN = ("Maintainer", "Architecture", "Multi-Arch", "Depends", "Recommends", "Suggests", "Homepage", "Tag",
           "Section", "Priority", "Filename")  # fmt: skip

PARTS = 50
"""Source packages fall into so many parts: the first is for validation, the second for the test."""


@dataclass(frozen=True, slots=True)
class Record:
    """One package: its source, and two texts of lines `Field: value`, of what is given and what is written.

    Each line but the first begins with the end of the one before, and nothing stands behind the last.
    """

    source: str
    given: str
    written: str

    @property
    def split(self) -> Split:
        """Where the record belongs, by its source alone."""
        part = int.from_bytes(hashlib.sha256(self.source.encode()).digest()[:4], "big") % PARTS
        return SPLITS[(1, 2)[part]] if part < 2 else SPLITS[0]


def read_records(text: str, where: str = "") -> list[Record]:
    """The records of a list, one a package, by their names; FileError if there are none."""
    found: dict[str, Record] = {}
    for paragraph in text.split("\n\n"):
        fields = _fields(paragraph)
        if all(fields.get(name) for name in ("Package", "Version", "Description", "Filename")):
            found.setdefault(fields["Package"], _record(fields))
    if not found:
        raise FileError("no records of packages are in it", where=where,
                        remedy="make it with: apt-cache dumpavail")  # fmt: skip
    return [found[name] for name in sorted(found)]


def shuffled(records: Sequence[Record], seed: int) -> dict[Split, list[Record]]:
    """The records of each split in an order drawn from the seed."""
    splits: dict[Split, list[Record]] = {split: [] for split in SPLITS}
    for record in records:
        splits[record.split].append(record)
    for split, held in splits.items():
        Random(f"{split} {seed}").shuffle(held)
    return splits


def _fields(paragraph: str) -> Mapping[str, str]:
    return dict(_lines(paragraph))


def _lines(paragraph: str) -> Iterator[tuple[str, str]]:
    """Names and values; a value that goes on over several lines becomes one line."""
    for line in re.sub(r"\n[ \t]+", " ", paragraph).splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name, value.strip()


def _record(fields: Mapping[str, str]) -> Record:
    """A record of these fields; a package without a source is its own."""
    source = fields.get("Source", fields["Package"]).partition(" ")[0]
    known = {**fields, "Source": source}

    def lines(names: Sequence[str]) -> str:
        return "\n".join(f"{name}: {known[name]}" for name in names if known.get(name))

    return Record(source, lines(GIVEN), "\n" + lines(WRITTEN))
