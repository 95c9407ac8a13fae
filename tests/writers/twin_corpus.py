"""A made-up list of packages, and a tiny corpus of it."""

from __future__ import annotations

from pathlib import Path
from random import Random

from fivefold.train.twins.corpus import Making, make_corpus

WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "islet", "kelp", "lotus")


def _listed() -> str:
    random = Random(5)
    found = []
    for number in range(120):
        source = f"{random.choice(WORDS)}{number}"
        for kind in ("dev", "doc")[: random.randint(1, 2)]:
            name, version = f"lib{source}-{kind}", f"{random.randint(0, 9)}.{random.randint(0, 30)}-1"
            found.append(
                f"Package: {name}\nSource: {source}\nVersion: {version}\n"
                f"Maintainer: {random.choice(WORDS).title()} Team <{random.choice(WORDS)}@example.org>\n"
                f"Architecture: {'all' if kind == 'doc' else 'amd64'}\n"
                f"Depends: {', '.join(random.sample(WORDS, random.randint(1, 4)))}\n"
                f"Description: {' '.join(random.sample(WORDS, 3))}\nSection: lib{kind}\n"
                f"Filename: pool/main/{source[0]}/{source}/{name}_{version}.deb\nSize: {number}\n"
            )
    return "\n".join(found)


LISTED = _listed()


def make_tiny_corpus(folder: Path) -> Path:
    """A corpus of 300 tokens in `folder` / corpus."""
    source = folder / "list.txt"
    source.write_text(LISTED)
    make_corpus(source, folder / "corpus", Making(vocabulary=300, longest=200))
    return folder / "corpus"
