"""One HTTP/1.1 connection: uvicorn's, with bounds that a server in the open needs.

Request heads that come too slowly or grow too large, and readers that stop reading in the middle of an
answer, end the connection: they would hold it for ever. What cannot be read as HTTP is answered in
OpenAI's form.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .errors import bad_request

HEAD_SECONDS = 30.0
STALL_SECONDS = 60.0
MOST_HEAD_BYTES = 64 << 10


class Connection(HttpToolsProtocol):
    """A connection that gives up on the other side in the end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come; its request's head is awaited."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        super().connection_lost(exc)
        self._stop_timers()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request; a head that never ends is given up."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._await_head()
        super().data_received(data)
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES:
            self.send_400_response("the request's head is too large")

    def on_headers_complete(self) -> None:
        """The head is there; the body has a time limit of its own."""
        self._in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is whole: what comes now, if anything, is the next one's head."""
        super().on_message_complete()
        self._in_head = True

    def pause_writing(self) -> None:
        """The client does not read; it has some time to go on."""
        super().pause_writing()
        self._stall_timer = asyncio.get_running_loop().call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What cannot be understood at all. Into an answer that has begun no other can be written."""
        if self._answering and self.cycle.response_started:
            self.transport.close()
            return
        body = bad_request(msg).body()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    @property
    def _answering(self) -> bool:
        """Whether a request is being answered."""
        cycle = getattr(self, "cycle", None)
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._head_too_late)

    def _head_too_late(self) -> None:
        if self._answering:
            self._await_head()  # the next request's head has begun, and the one before is being answered
        elif not self.transport.is_closing():
            self.transport.close()

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
