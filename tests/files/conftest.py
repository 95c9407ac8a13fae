"""What the tests of files share: hand-made GGUF and safetensors bytes, a small model, a web server here."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.core.checkpoint import Tensor
from fivefold.files import write_gguf


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def entry(name: str | bytes, dimensions: Sequence[int], kind: int, offset: int) -> bytes:
    sizes = struct.pack(f"<{len(dimensions)}Q", *dimensions)
    return text(name) + struct.pack("<I", len(dimensions)) + sizes + struct.pack("<IQ", kind, offset)


def whole(pairs: Sequence[bytes], entries: Sequence[bytes], data: bytes = b"", version: int = 3) -> bytes:
    """A GGUF file put together by hand from the specification, with alignment 32."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(entries), len(pairs)) + b"".join([*pairs, *entries])
    return head + bytes(-len(head) % 32) + data


def safetensors(header: bytes | Mapping[str, Any], data: bytes = b"") -> bytes:
    """A safetensors file put together by hand from the description of the format."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data


@dataclass(frozen=True)
class Raw:
    """The builders above, for tests to take as one fixture."""

    text: Callable[[str | bytes], bytes] = text
    pair: Callable[[str | bytes, int, bytes], bytes] = pair
    entry: Callable[[str | bytes, Sequence[int], int, int], bytes] = entry
    whole: Callable[..., bytes] = whole
    safetensors: Callable[..., bytes] = safetensors


@pytest.fixture(scope="session")
def raw() -> Raw:
    return Raw()


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid model file of some 300 kB whose tensor is noise, so that zip cannot shrink it."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    noise = np.random.default_rng(7).integers(0, 256, 4 * 75_000, dtype=np.uint8)
    write_gguf(path, {"general.architecture": "llama"}, [Tensor("noise", "i32", (75_000,), noise)])
    return path


@dataclass
class Web:
    """A web server on this machine: what it serves, how it fails, and what it was asked.

    `cut` holds after how many bytes of a body each coming answer breaks off; `refuse` names the
    user agents that get status 403; `redirect` sends a path elsewhere.
    """

    address: str = ""
    bodies: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    redirect: dict[str, str] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    refuse: str = "nobody"
    ranges: bool = True
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def gets(self, agent: str) -> list[dict[str, str]]:
        """The headers of all GET requests of one user agent."""
        return [
            headers
            for method, _, headers in self.asked
            if method == "GET" and headers.get("user-agent", "").startswith(agent)
        ]


class Answer(BaseHTTPRequestHandler):
    web: Web

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.web.asked.append((self.command, path, headers))
        if headers.get("user-agent", "").startswith(self.web.refuse):
            return self.head(403, {}, 0)
        if path in self.web.redirect:
            return self.head(302, {**self.web.headers.get(path, {}), "Location": self.web.redirect[path]}, 0)
        if path not in self.web.bodies:
            return self.head(404, {}, 0)
        data, status, extra = self.web.bodies[path], 200, dict(self.web.headers.get(path, {}))
        start = headers.get("range", "").removeprefix("bytes=").removesuffix("-")
        if start.isdecimal() and self.web.ranges:
            if int(start) >= len(data):
                return self.head(416, {}, 0)
            extra["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data, status = data[int(start) :], 206
        self.head(status, extra, len(data))
        if body:
            self.wfile.write(data[: self.web.cut.pop(0)] if self.web.cut else data)
        return None

    def head(self, status: int, extra: dict[str, str], length: int) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": "text/html", **extra, "Content-Length": str(length)}.items():
            self.send_header(key, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Web]]:
    """Starts web servers on free ports of 127.0.0.1, past any proxy; stops them after the test."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    servers: list[ThreadingHTTPServer] = []

    def start() -> Web:
        web = Web()
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("WebAnswer", (Answer,), {"web": web}))
        server.daemon_threads = True
        servers.append(server)
        web.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return web

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
