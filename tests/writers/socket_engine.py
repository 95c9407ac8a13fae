"""An engine that a server has behind a name: plain sockets, each byte by the test's own hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

Handler = Callable[["Engine", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Engine:
    """An engine that speaks plain sockets, so that a test decides of every byte and when it comes."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.checks = 0
        self.status_of_models = 200
        self.answer: Handler = whole({})
        self.closed = asyncio.Event()
        self.port = 0
        self._server: Any = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")[:-2]
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if first.startswith("GET"):
                    self.checks += 1
                    writer.write(
                        f"HTTP/1.1 {self.status_of_models} x\r\ncontent-length: 2\r\n\r\n{{}}".encode()
                    )
                    continue
                self.requests.append((first, headers, json.loads(body)))
                await self.answer(self, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.set()
        finally:
            writer.close()
            self._tasks.discard(task)


def whole(value: Any, status: int = 200, extra: str = "") -> Handler:
    async def answer(_: Engine, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        head = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        writer.write(f"{head}{extra}\r\n".encode() + body)

    return answer


def broken(after: bytes = b"") -> Handler:
    async def answer(_: Engine, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(after)
        await writer.drain()
        writer.close()

    return answer


def in_turn(*answers: Handler) -> Handler:
    left = list(answers)

    async def answer(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await left.pop(0)(engine, reader, writer)

    return answer


EVENTS = (
    b"HTTP/1.1 200 x\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(text: str) -> bytes:
    return (
        b"data: "
        + json.dumps({"model": "back", "choices": [{"delta": {"content": text}}]}).encode()
        + b"\n\n"
    )
