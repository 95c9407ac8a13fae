"""One streamed request over a raw connection, noted as cheaply as can be.

While the load runs, only the time of each event and its bytes are kept; what they say is read afterwards, so
that the generator takes little from the server that it shares its processors with.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from .plan import PATHS, Plan
from .record import Record
from .stream import EventParser, ProtocolError, ResponseParser

PART = 65536


class Exchange:
    """A request under way or ended: its record, and the events that `digest` has still to read."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.events: list[tuple[float, bytes]] = []

    @property
    def began(self) -> bool:
        """Whether any event has come; the first one may still be without text."""
        return len(self.events) > 1

    def digest(self) -> Record:
        """Read the events: which brought text, how many tokens there were, whether the server failed."""
        record = self.record
        for at, data in self.events:
            if data == b"[DONE]":
                record.finished = True
                continue
            try:
                event = json.loads(data)
                self._read(event, at)
            except (ValueError, LookupError, TypeError, AttributeError):
                record.error = record.error or f"an event is not of this protocol: {data[:80]!r}"
        self.events.clear()
        if not record.counted:
            record.tokens = len(record.chunks)
        if record.finished and not record.chunks and not record.error:
            record.error = "the answer was empty"
        return record

    def _read(self, event: dict[str, Any], at: float) -> None:
        record = self.record
        if event.get("error"):
            failure = event["error"]
            told = failure.get("message") if isinstance(failure, dict) else failure
            record.error = record.error or f"the server failed: {told}"
            return
        if any(map(_has_text, event.get("choices") or [])):
            record.chunks.append(at)
        usage = event.get("usage")
        if usage:
            record.tokens = int(usage["completion_tokens"])
            record.prompt_tokens = int(usage["prompt_tokens"])
            record.counted = True


def _has_text(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return bool(
        choice.get("text")
        or delta.get("content")
        or delta.get("reasoning")
        or delta.get("reasoning_content")
        or delta.get("tool_calls")
    )


class Client:
    """Sends requests of one plan; `clock` gives seconds since the load began."""

    def __init__(self, plan: Plan, clock: Callable[[], float]) -> None:
        address = urlsplit(plan.base)
        self._host = address.hostname or "127.0.0.1"
        self._port = address.port or 80
        self._clock = clock
        self._timeout = plan.timeout
        key = f"Authorization: Bearer {plan.key}\r\n" if plan.key else ""
        path = address.path.rstrip("/") + PATHS[plan.endpoint]
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
            f"Accept: text/event-stream\r\nConnection: close\r\n{key}Content-Length: "
        ).encode("latin-1")

    async def ask(self, exchange: Exchange, body: bytes) -> None:
        """Send one request and note its answer; what goes wrong is noted too, and not raised."""
        record = exchange.record
        try:
            async with asyncio.timeout(self._timeout):
                await self._exchange(exchange, body)
        except TimeoutError:
            record.error = f"no end within {self._timeout:g} s"
        except (OSError, ProtocolError, asyncio.IncompleteReadError) as error:
            record.error = str(error) or type(error).__name__
        record.ended = self._clock()

    async def _exchange(self, exchange: Exchange, body: bytes) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(self._head + str(len(body)).encode() + b"\r\n\r\n" + body)
            await self._receive(exchange, reader)
        finally:
            writer.close()

    async def _receive(self, exchange: Exchange, reader: asyncio.StreamReader) -> None:
        response, parser = ResponseParser(), EventParser()
        refusal = bytearray()
        while not response.ended:
            data = await reader.read(PART)
            now = self._clock()
            if not data:
                response.close()
                break
            part = response.feed(data)
            if response.status == 200:
                exchange.events += [(now, event) for event in parser.feed(part)]
            else:
                refusal += part
        if response.status != 200:
            exchange.record.error = f"HTTP status {response.status}: {_told(bytes(refusal))}"
        elif not exchange.events or exchange.events[-1][1] != b"[DONE]":
            exchange.record.error = "the stream ended without [DONE]"


def _told(body: bytes) -> str:
    """What a refusal says."""
    try:
        return str(json.loads(body)["error"]["message"])[:200]
    except (ValueError, LookupError, TypeError):
        return body[:80].decode(errors="replace")


def clock_from_now() -> Callable[[], float]:
    """Seconds since this call."""
    began = time.perf_counter()
    return lambda: time.perf_counter() - began
