"""Packages as files: fetched with the ordinary clients of their index, checked, and opened.

Debian's packages come by `apt-get download`, Python's by `pip download`, each with the exact version of the
catalogue. What came is accepted by its SHA-256 and kept, so that the next call needs no network. A package
is read in place: nothing is installed, nothing of it is run by this module (`pip` may run an sdist's build
script to learn its name).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from fivefold.core.errors import FileError, FivefoldError

from .catalogue import Package

WAIT_SECONDS = 600
_AR, _ZIP, _GZIP = b"!<arch>\n", b"PK", b"\x1f\x8b"


def fetched(package: Package, folder: Path) -> bytes:
    """The package's file, from `folder` if it is there already; else fetched, checked, and kept there.

    FileError if what came is another file than the catalogue says, FivefoldError if nothing came.
    """
    kept = folder / f"{package.name}-{package.sha256[:16]}"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        content = _download(package)
        found = hashlib.sha256(content).hexdigest()
        if found != package.sha256:
            raise FileError(
                f"the download has sha256 {found}, not {package.sha256}",
                where=f"{package.name} {package.version}",
                remedy="fetch it again, or write the new version and sha256 into the catalogue",
            )
        part = kept.with_suffix(".part")
        part.write_bytes(content)
        part.replace(kept)
    return kept.read_bytes()


def _download(package: Package) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        command = _command(package, place)
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS
        )
        found = sorted(Path(place).iterdir())
        if done.returncode or len(found) != 1:
            raise FivefoldError(
                f"{' '.join(command[:4])} brought nothing: {done.stderr.strip()[-200:]}",
                where=f"{package.name} {package.version}",
                remedy=f"lay the file beside the others by hand, named {package.name}-{package.sha256[:16]}",
            )
        return found[0].read_bytes()


def _command(package: Package, place: str) -> list[str]:
    if package.index == "debian":
        return ["apt-get", "-q", "download", f"{package.name}={package.version}"]
    kind = ["--no-binary", ":all:"]
    if package.index == "pypi-wheel":
        kind = ["--only-binary", ":all:", "--platform", "any", "--implementation", "py", "--abi", "none"]
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place),
        *(*kind, f"{package.name}=={package.version}"),
    ]


def members(content: bytes, where: str) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file of a wheel, an sdist or a Debian package, packed files unpacked.

    The first folder of an sdist, which has the version in its name, is not part of the path.
    """
    if content[:2] == _ZIP:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name, archive.read(name)
        return
    of_debian = content[:8] == _AR
    with tarfile.open(fileobj=io.BytesIO(_data_part(content, where) if of_debian else content)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                path = member.name.removeprefix("./") if of_debian else member.name.partition("/")[2]
                inner = file.read()
                yield path, gzip.decompress(inner) if inner[:2] == _GZIP and of_debian else inner


def _data_part(archive: bytes, where: str) -> bytes:
    """The data.tar.* of a Debian package, which is an ar archive: heads of 60 bytes at even offsets."""
    at = 8
    while at + 60 <= len(archive):
        name, size = archive[at : at + 16].strip(), int(archive[at + 48 : at + 58])
        if name.startswith(b"data.tar"):
            return archive[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise FileError("a Debian package without data.tar", where=where, remedy="fetch it again")
