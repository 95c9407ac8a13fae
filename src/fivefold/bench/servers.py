"""Servers that a measurement starts: on a free port of this machine, awaited until healthy, ended with it.

All are loaded before the first round and stay idle while another is measured.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from fivefold.core.errors import FivefoldError, InputError

from .last_words import LastWords

HOST = "127.0.0.1"
STARTING = 300.0
"""Seconds that a server may take to load its model."""
ENDING = 20.0
"""Seconds that it may take to end; ours lets running requests finish for ten."""


class Server:
    """A server with OpenAI's protocol: at an address that the user gave, or started by us."""

    def __init__(self, name: str, base: str, model: str = "", process: Process | None = None) -> None:
        self.name = name
        self.base = base
        self.process = process
        self._model = model

    def model(self, key: str = "") -> str:
        """The name its model goes by: the user's word, or the first that it lists itself."""
        if not self._model:
            status, body = get(self.base, "/v1/models", key)
            try:
                self._model = str(json.loads(body)["data"][0]["id"])
            except (ValueError, LookupError, TypeError):
                raise FivefoldError(
                    f"{self.name} lists no model (HTTP status {status})", where=f"{self.base}/v1/models",
                    remedy=f"give its name: --peer-model {self.name}=NAME",
                ) from None  # fmt: skip
        return self._model


class Process:
    """A server's process. What it writes is kept for its last words."""

    def __init__(self, command: Sequence[str], base: str) -> None:
        self._command = command
        self._base = base
        self._words = LastWords()
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._words.file, stderr=subprocess.STDOUT
            )
        except OSError as error:
            self._words.close()
            raise FivefoldError(
                f"cannot be run ({error.strerror})", where=command[0], remedy="check that it is a program"
            ) from None

    def wait_until_healthy(self, patience: float = STARTING) -> None:
        """Until `/health` answers 200. FivefoldError with its last words if it ends or takes too long."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise self.failure(f"ended with status {self._process.returncode}")
            with contextlib.suppress(FivefoldError):
                if get(self._base, "/health")[0] == 200:
                    return
            time.sleep(0.1)
        raise self.failure(f"was not ready after {patience:g} s")

    def failure(self, what: str) -> FivefoldError:
        """An error that ends with the last line of the server's output."""
        name = Path(self._command[0]).name
        return FivefoldError(
            f"{name} {what}: {self._words.last()}", where=self._base, remedy="try smaller sizes"
        )

    def check(self) -> None:
        """FivefoldError if it has ended."""
        if self._process.poll() is not None:
            raise self.failure(f"ended with status {self._process.returncode}")

    @property
    def number(self) -> int:
        """The process's number."""
        return self._process.pid

    def close(self) -> None:
        """Ask it to end; if it does not in time, end it."""
        self._process.terminate()
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()


@contextlib.contextmanager
def ended_with_us() -> Iterator[None]:
    """Inside, a request to terminate is an interrupt, so that what was started is ended too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def free_base() -> tuple[str, int]:
    """An address on this machine with a port that is free now, and the port."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    return f"http://{HOST}:{port}", port


def check_base(text: str, option: str) -> str:
    """A server's address without `/v1`. InputError if it is none, or nobody listens there."""
    base = text.rstrip("/").removesuffix("/v1")
    address = urlsplit(base)
    try:
        good = address.scheme == "http" and address.hostname is not None and (address.port or 80) > 0
    except ValueError:
        good = False
    if not good:
        raise InputError(
            f"{text!r} is no address", where=option, remedy="give one like http://127.0.0.1:8000"
        )
    try:
        socket.create_connection((address.hostname or "", address.port or 80), 5).close()
    except OSError as error:
        raise InputError(
            f"nobody answers ({error.strerror or error})", where=text, remedy="start the server first"
        ) from None
    return base


def get(base: str, path: str, key: str = "") -> tuple[int, bytes]:
    """Status and body of a GET. FivefoldError if there is no answer."""
    address = urlsplit(base)
    connection = http.client.HTTPConnection(address.hostname or HOST, address.port or 80, timeout=10)
    headers: dict[str, Any] = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        connection.request("GET", address.path + path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise FivefoldError(f"no answer ({error})", where=base + path, remedy="check the server") from None
    finally:
        connection.close()
