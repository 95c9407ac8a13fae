"""The answer of an upstream engine on its way to a client: unbuffered, under the name that was asked for.

Of a stream each line is passed on as soon as it is whole, before the next is waited for; of a whole answer
only the name is changed, and no number is written anew. A client that goes away ends the request at the
engine. What goes wrong after a stream has begun is an event of it, as with models of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
from starlette.types import Receive, Send

from .body import gone
from .errors import ApiError
from .upstream import MOST_ERROR_BYTES, Incoming, Upstream

MOST_LINE = 32 << 20
MOST_BODY = 64 << 20
DRAIN_SECONDS = 1.0
_DONE = b"data: [DONE]\n\n"
_TOO_LONG = ("exceed_context_size_error", "maximum context length")
"""What llama-server and vLLM say of a prompt that does not fit, to which clients answer by a code."""

_JSON = "application/json"
_EVENTS = "text/event-stream"
_Raw = dict[str, msgspec.Raw]


async def relay(upstream: Upstream, path: str, raw: bytes, receive: Receive, send: Send) -> None:
    """Answer a request, whose body is a JSON object, by the engine behind a name."""
    most = upstream.config.max_sequences + upstream.config.max_queue
    if upstream.running >= most:
        message = f"{most} requests are under way with the engine behind {upstream.config.name!r}"
        raise ApiError(503, message, code="overloaded", headers={"retry-after": "1"})
    work = asyncio.ensure_future(_answer(upstream, path, _renamed(raw, upstream.model), send))
    leaving = asyncio.ensure_future(gone(receive))
    upstream.tasks.add(work)
    upstream.running += 1
    try:
        await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        work.cancel()
        await asyncio.wait((work,))
        upstream.running -= 1
        upstream.tasks.discard(work)
    if work.cancelled():
        if upstream.stopping:
            raise ApiError(503, "the server is stopping", headers={"retry-after": "5"})
        return  # nobody reads an answer any more
    work.result()


def _renamed(raw: bytes, name: str) -> bytes:
    """A JSON object with another model's name; everything else byte for byte."""
    body = msgspec.json.decode(raw, type=_Raw)
    body["model"] = msgspec.Raw(msgspec.json.encode(name))
    return msgspec.json.encode(body)


async def _answer(upstream: Upstream, path: str, body: bytes, send: Send) -> None:
    """Ask the engine and send what it says."""
    incoming = await upstream.ask(path, body)
    name = upstream.config.name
    try:
        status = incoming.response.status_code
        if status != 200 or incoming.response.headers.get("content-encoding", "identity") != "identity":
            raise await _refused(incoming, name)
        if incoming.kind == _EVENTS:
            await _stream(incoming, name, upstream, send)
        else:
            await _whole(incoming, name, send)
    finally:
        with contextlib.suppress(httpx2.TransportError):
            await incoming.response.aclose()


async def _whole(incoming: Incoming, name: str, send: Send) -> None:
    """A JSON answer, once it is complete."""
    try:
        told = _renamed(await _read(incoming, MOST_BODY), name)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ApiError(502, f"the engine behind {name!r} gave no JSON", code="upstream_failed") from None
    except httpx2.TimeoutException:
        message = f"the engine behind {name!r} stopped in the middle of its answer"
        raise ApiError(504, message, code="upstream_timeout") from None
    except httpx2.TransportError:
        message = f"the engine behind {name!r} broke the connection"
        raise ApiError(502, message, code="upstream_failed") from None
    headers = [(b"content-type", _JSON.encode()), (b"content-length", str(len(told)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": told})


async def _read(incoming: Incoming, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in incoming.parts():
        size += len(part)
        if size > most:
            raise ApiError(502, "the engine's answer is too large", code="upstream_failed")
        parts.append(part)
    return b"".join(parts)


async def _stream(incoming: Incoming, name: str, upstream: Upstream, send: Send) -> None:
    """A stream, line by line; it always ends with the mark of the end."""
    headers = {"content-type": _EVENTS, "cache-control": "no-cache", "x-accel-buffering": "no"}
    sent = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": sent})
    lines = _lines(incoming, name)
    error: ApiError | None = None
    try:
        async for whole, ended in lines:
            if whole:
                await send({"type": "http.response.body", "body": whole, "more_body": True})
            if ended:
                break
    except asyncio.CancelledError:
        if not upstream.stopping:
            raise
        error = ApiError(503, "the server is stopping")
    except ApiError as failure:
        error = failure
    except httpx2.TimeoutException:
        error = ApiError(504, f"the engine behind {name!r} stopped in the middle", code="upstream_timeout")
    except httpx2.TransportError:
        error = ApiError(502, f"the engine behind {name!r} broke the connection", code="upstream_failed")
    await send({"type": "http.response.body", "body": _DONE if error is None else _event(error)})
    with contextlib.suppress(httpx2.TransportError, TimeoutError, ApiError):
        async with asyncio.timeout(DRAIN_SECONDS):  # so that the connection can be used again
            async for _ in lines:
                pass


def _event(error: ApiError) -> bytes:
    return b"data: " + error.body() + b"\n\n" + _DONE


async def _lines(incoming: Incoming, name: str) -> AsyncIterator[tuple[bytes, bool]]:
    """The lines of a stream before its mark, as many at a time as have become whole; then the mark."""
    held: list[bytes] = []
    size = 0
    async for part in incoming.parts():
        head, newline, tail = part.rpartition(b"\n")
        if newline:
            lines = b"".join([*held, head]).split(b"\n")
            held, size = [], 0
            told = [_line(line.rstrip(b"\r"), name) for line in lines]
            ended = None in told
            yield b"".join([line for line in told[: told.index(None) if ended else None] if line]), ended
        held.append(tail)
        size += len(tail)
        if size > MOST_LINE:
            raise ApiError(502, "a line of the engine's answer is too long", code="upstream_failed")


def _line(line: bytes, name: str) -> bytes | None:
    """One line of a stream; the name of the model in it is the client's. None for the mark of the end."""
    if not line.startswith(b"data:"):
        return line + b"\n"
    told = line[5:].strip()
    if told == b"[DONE]":
        return None
    try:
        chunk = msgspec.json.decode(told, type=_Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line + b"\n"
    if "model" in chunk:
        chunk["model"] = msgspec.Raw(msgspec.json.encode(name))
        told = msgspec.json.encode(chunk)
    return b"data: " + told + b"\n"


async def _refused(incoming: Incoming, name: str) -> ApiError:
    """What a client is told of an engine's error: its own mistakes as they are, the server's as such."""
    status = incoming.response.status_code
    try:
        error = _error(await _read(incoming, MOST_ERROR_BYTES))
    except (httpx2.TransportError, ApiError):
        error = {}
    told = error.get("message")
    what = f": {told[:400]}" if isinstance(told, str) and told else ""
    behind = f"the engine behind {name!r}"
    if status in (401, 403):
        return ApiError(502, f"{behind} refuses this server's key", code="upstream_key",
                        headers={"x-should-retry": "false"})  # fmt: skip
    if status == 404:
        return ApiError(502, f"{behind} does not know the model or the path{what}", code="upstream_not_found",
                        headers={"x-should-retry": "false"})  # fmt: skip
    again = incoming.response.headers.get("retry-after", "")
    headers = {"retry-after": again} if again.isdecimal() else {}
    if 400 <= status < 500:
        param = error.get("param")
        return ApiError(
            status, told if isinstance(told, str) and told else f"{behind} refuses the request",
            param=param if isinstance(param, str) else None, code=_code(error), headers=headers,
        )  # fmt: skip
    passed = status if status in (503, 504) else 502
    if passed == 503:
        headers = {"retry-after": "5", **headers}
    return ApiError(passed, f"{behind} answered with status {status}{what}", code="upstream_failed",
                    headers=headers)  # fmt: skip


def _code(error: dict[str, Any]) -> str | None:
    """OpenAI's code of an engine's error; llama-server and vLLM have the status there and say it in words."""
    code, told = error.get("code"), f"{error.get('type')}: {error.get('message')}"
    if isinstance(code, str):
        return code
    return "context_length_exceeded" if any(mark in told for mark in _TOO_LONG) else None


def _error(body: bytes) -> dict[str, Any]:
    """The object `error` of a body, or one with a message alone, as some engines have it."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    error = told.get("error", told)
    return error if isinstance(error, dict) else {"message": error}
