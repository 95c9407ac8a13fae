"""HTTP/1.1 responses and server-sent events, from bytes that may be cut anywhere. No sockets here.

Just what a load generator meets: a status, headers, a body that is chunked, counted, or ends with the
connection; in the body, events whose `data:` lines are JSON.
"""

from __future__ import annotations

MOST_LINE = 65536


class ProtocolError(Exception):
    """The server's bytes are not HTTP."""


class ResponseParser:
    """Bytes of one response in, bytes of its body out."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self._buffer = bytearray()
        self._in_head = True
        self._chunked = False
        self._left: int | None = None  # of the body or of a chunk; None: until the connection ends
        self._after_chunk = False
        self._in_trailer = False

    def feed(self, data: bytes) -> bytes:
        """What is new of the body. ProtocolError when the bytes make no sense."""
        self._buffer += data
        if self._in_head and not self._read_head():
            return b""
        return self._read_chunks() if self._chunked else self._read_plain()

    def close(self) -> None:
        """The connection has ended. ProtocolError if the response has not."""
        if self.ended or (not self._in_head and not self._chunked and self._left is None):
            self.ended = True
            return
        raise ProtocolError("the connection ended before the response did")

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MOST_LINE:
                raise ProtocolError("the headers have no end")
            return False
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        words = lines[0].split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise ProtocolError(f"no HTTP response: {lines[0][:60]!r}")
        self.status = int(words[1])
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        if self.status == 100:
            self.headers.clear()
            return self._read_head()
        self._in_head = False
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        if not self._chunked and "content-length" in self.headers:
            self._left = _number(self.headers["content-length"], 10)
            self.ended = self._left == 0
        return True

    def _read_plain(self) -> bytes:
        taken = len(self._buffer) if self._left is None else min(self._left, len(self._buffer))
        body = bytes(self._buffer[:taken])
        del self._buffer[:taken]
        if self._left is not None:
            self._left -= taken
            self.ended = self._left == 0
        return body

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while not self.ended:
            if self._left:
                part = self._buffer[: self._left]
                body += part
                self._left -= len(part)
                del self._buffer[: len(part)]
                if self._left:
                    break
                self._after_chunk = True
                continue
            end = self._buffer.find(b"\r\n")
            if end < 0:
                if len(self._buffer) > MOST_LINE:
                    raise ProtocolError("a chunk has no size")
                break
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            self._read_chunk_line(line)
        return bytes(body)

    def _read_chunk_line(self, line: bytes) -> None:
        """A line between chunks: the end of the last one, a size, or one after the last chunk."""
        if self._after_chunk:
            if line:
                raise ProtocolError("a chunk is longer than its size")
            self._after_chunk = False
        elif self._in_trailer:
            self.ended = not line
        else:
            self._left = _number(line.split(b";")[0].decode("latin-1"), 16)
            self._in_trailer = self._left == 0


class EventParser:
    """Bytes of a body in, the data of whole events out."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, body: bytes) -> list[bytes]:
        """The data of the events that are now complete; comments and other fields are left out."""
        if not body:
            return []
        *whole, self._buffer = (self._buffer + body).replace(b"\r\n", b"\n").split(b"\n\n")
        return [data for event in whole if (data := _data(event)) is not None]


def _data(event: bytes) -> bytes | None:
    lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def _number(text: str, base: int) -> int:
    try:
        number = int(text.strip(), base)
    except ValueError:
        number = -1
    if number < 0:
        raise ProtocolError(f"{text[:40]!r} is no size")
    return number
