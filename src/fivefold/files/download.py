"""Fetching one file over HTTP, so that a broken connection costs only what had not come yet.

What arrives is written to a `.part` file; the next call, in this process or a later one, asks the
server for the rest. The SHA-256 decides in the end: a file that fails it is thrown away. A file of
which no SHA-256 is known is never continued, since nothing would tell that both halves belong
together. Where to fetch from is for the callers to know.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from fivefold.core.errors import FivefoldError

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how many bytes of it are done, and of how many (None: not known)."""

CHUNK = 1 << 18
ATTEMPTS = 4
RETRY_SECONDS = 0.5
TIMEOUT_SECONDS = 60.0
ROOM_TO_SPARE = 16 << 20


class UnreachableError(FivefoldError):
    """The server gave nothing: no connection, or an answer that is not the file."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on a server: its address, and what is known about it beforehand.

    `sha256` is empty and `size` None when unknown. `headers` go to the address's own host only.
    """

    url: str
    size: int | None = None
    sha256: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and takes a caller's credentials to no other host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            request.remove_header("Authorization")
        return request


def check_room(folder: Path, needed: int) -> None:
    """FivefoldError unless the disk of `folder` has room for `needed` bytes and a little more."""
    free = shutil.disk_usage(folder).free
    if free < needed + ROOM_TO_SPARE:
        raise FivefoldError(
            f"{(needed + ROOM_TO_SPARE) / 1e6:.0f} MB are needed and the disk has {free / 1e6:.0f} MB left",
            where=str(folder),
            remedy="make room on this disk, or keep models on another one",
        )


def no_room(error: OSError, folder: Path) -> FivefoldError:
    """The error for people when writing into `folder` failed."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return FivefoldError(
        "the disk is full" if full else f"cannot be written ({error.strerror or error})",
        where=str(folder),
        remedy="make room and pull again: what came is kept" if full else "check the folder's permissions",
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(remote: Remote, target: Path, progress: Progress) -> None:
    """Fetch a file to `target`, continuing `target`.part when there is one; verified when it returns.

    Raises UnreachableError when no byte came, FivefoldError when the connection kept breaking (the
    part is kept), when the content is not what was promised (the part is discarded), or when the
    disk is full.
    """
    part = target.with_name(target.name + ".part")
    if not remote.sha256 or (remote.size is not None and _size(part) > remote.size):
        part.unlink(missing_ok=True)
    stuck = 0
    while not part.exists() or remote.size is None or _size(part) != remote.size:
        before = _size(part)
        failure = _attempt(remote, part, target.name, progress)
        if failure is None:
            break
        came = _size(part)
        stuck = 0 if came > before else stuck + 1
        if stuck == ATTEMPTS or _is_final(failure, came):
            raise _broken(remote, came, failure)
        time.sleep(RETRY_SECONDS * stuck)
    _verify(remote, part)
    part.replace(target)


def _size(path: Path) -> int:
    """Bytes of a file, 0 when there is none."""
    return path.stat().st_size if path.exists() else 0


def _attempt(remote: Remote, part: Path, name: str, progress: Progress) -> Exception | None:
    """Ask once for what is missing. None when the file is whole, else why it is not."""
    try:
        return None if _continue(remote, part, name, progress) else OSError("the connection was closed early")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)  # the part does not belong to this file
        return error
    except (OSError, http.client.HTTPException) as error:
        return error


def _is_final(failure: Exception, came: int) -> bool:
    """Whether asking again is of no use: the server said no, or there is no server."""
    if isinstance(failure, urllib.error.HTTPError):
        passing = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
        kept = (*passing, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        return failure.code < HTTPStatus.INTERNAL_SERVER_ERROR and failure.code not in kept
    return came == 0 and isinstance(failure, urllib.error.URLError)


def _continue(remote: Remote, part: Path, name: str, progress: Progress) -> bool:
    """One request for what is missing, written to the part. True when the file is whole."""
    done = _size(part)
    headers = {"Accept-Encoding": "identity", "User-Agent": "fivefold", **remote.headers}
    if done:
        headers["Range"] = f"bytes={done}-"
    request = urllib.request.Request(remote.url, headers=headers)
    opener = urllib.request.build_opener(_Redirects)
    with closing(opener.open(request, timeout=TIMEOUT_SECONDS)) as response:
        if done and not str(response.headers.get("Content-Range", "")).startswith(f"bytes {done}-"):
            done = 0  # the server sends all of it again
        length = response.headers.get("Content-Length", "")
        total = remote.size or (done + int(length) if length.isdecimal() else None)
        with _opened(part, "ab" if done else "wb") as file:
            progress(f"downloading {name}", done, total)
            while chunk := response.read1(CHUNK):
                _write(file, chunk, part.parent)
                done += len(chunk)
                if total is not None and done > total:
                    break
                progress(f"downloading {name}", done, total)
    return total is None or done >= total


def _opened(part: Path, mode: str) -> IO[bytes]:
    try:
        return part.open(mode)
    except OSError as error:
        raise no_room(error, part.parent) from None


def _write(file: IO[bytes], chunk: bytes, folder: Path) -> None:
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise no_room(error, folder) from None


def _verify(remote: Remote, part: Path) -> None:
    """Throw the part away and raise FivefoldError unless it is what was promised."""
    size = part.stat().st_size
    what = ""
    if remote.size is not None and size != remote.size:
        what = f"{size} bytes came and {remote.size} were promised"
    elif remote.sha256 and (found := file_sha256(part)) != remote.sha256:
        what = f"its SHA-256 is {found} and should be {remote.sha256}"
    if what:
        part.unlink()
        raise FivefoldError(
            f"{what}; it was discarded",
            where=_address(remote.url),
            remedy="pull again, or through another network if it happens twice",
        )


def _broken(remote: Remote, came: int, failure: Exception) -> FivefoldError:
    said = str(getattr(failure, "reason", failure)) or type(failure).__name__
    if isinstance(failure, urllib.error.HTTPError):
        said = f"status {failure.code} {said}".strip()
    if came:
        return FivefoldError(
            f"the download broke off after {came / 1e6:.1f} MB ({said})",
            where=_address(remote.url),
            remedy="pull again: it goes on from there",
        )
    return UnreachableError(
        f"cannot be fetched ({said})", where=_address(remote.url), remedy="check the network and the proxy"
    )


def _address(url: str) -> str:
    """An address without what may be secret: user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
