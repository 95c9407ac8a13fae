"""A server with OpenAI's protocol that says what a test wants, cut where a test wants.

Run by its path it is a program that takes what llama-server is started with and uses `--port` of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

END = b"\r\n"


@dataclass
class Behaviour:
    """`mode`: whole, chunked, cut (in pieces of random sizes), refuse, fail, drop, silent or garbage."""

    mode: str = "chunked"
    pause: float = 0.0
    usage: bool = True
    tokens_a_chunk: int = 1
    stop_after: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    left_early: int = 0


@contextlib.asynccontextmanager
async def serving(behaviour: Behaviour) -> AsyncIterator[str]:
    """The address of a server that runs while the block does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await _answer(behaviour, reader, writer)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.close()
        await asyncio.sleep(0.05)


async def _answer(behaviour: Behaviour, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(END + END)).decode()
    behaviour.heads.append(head)
    if head.startswith("GET"):
        known = head.startswith(("GET /v1/models ", "GET /health "))
        listed = json.dumps({"data": [{"id": "fake-model"}]} if known else {}).encode()
        writer.write(_plain(200 if known else 404, listed))
        return
    size = next(
        int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length")
    )
    body = json.loads(await reader.readexactly(size))
    behaviour.bodies.append(body)
    if behaviour.mode == "refuse":
        writer.write(_plain(503, b'{"error": {"message": "no room", "code": 503}}'))
    elif behaviour.mode == "garbage":
        writer.write(b"this is not HTTP\r\n\r\n")
    elif behaviour.mode == "silent":
        await reader.read()
        behaviour.left_early += 1
    else:
        await _stream(behaviour, body, head, writer)


async def _stream(
    behaviour: Behaviour, body: dict[str, Any], head: str, writer: asyncio.StreamWriter
) -> None:
    chunked = behaviour.mode != "whole"
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
    writer.write(b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Connection: close\r\n\r\n")
    cuts = random.Random(1)
    for event in events(behaviour, body, "/chat/" in head.split("\r\n", 1)[0]):
        data = b": a comment\n\ndata: " + event + b"\n\n"
        if chunked:
            data = f"{len(data):x}".encode() + END + data + END
        await asyncio.sleep(behaviour.pause)
        if writer.is_closing():
            behaviour.left_early += 1
            return
        while data:
            size = cuts.randrange(1, 12) if behaviour.mode == "cut" else len(data)
            writer.write(data[:size])
            data = data[size:]
            if behaviour.mode == "cut":
                await asyncio.sleep(0)
        if behaviour.mode == "drop":
            return
    if chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


def events(behaviour: Behaviour, body: dict[str, Any], chat: bool) -> list[bytes]:
    """The events of one answer: of a chat first the role, then text, the usage, and the end."""
    asked = behaviour.stop_after or body["max_tokens"]
    found: list[dict[str, Any]] = (
        [{"choices": [{"delta": {"role": "assistant", "content": ""}}]}] if chat else []
    )
    for _ in range(0, asked, behaviour.tokens_a_chunk):
        text = "wörd "
        found.append({"choices": [{"delta": {"content": text}} if chat else {"text": text}]})
    if behaviour.mode == "fail":
        found = [*found[:2], {"error": {"message": "the step failed"}}]
    elif behaviour.usage:
        prompt = body["messages"][0]["content"] if chat else body["prompt"]
        usage = {"completion_tokens": asked, "prompt_tokens": len(prompt.split())}
        found.append({"choices": [], "usage": usage})
    return [json.dumps(event, ensure_ascii=False).encode() for event in found] + [b"[DONE]"]


def _plain(status: int, body: bytes) -> bytes:
    return f"HTTP/1.1 {status} Some\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def main(port: int) -> None:
    """Serve at a port until the process is ended."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await _answer(Behaviour(pause=0.001), reader, writer)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[sys.argv.index("--port") + 1])))
