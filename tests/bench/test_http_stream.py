"""HTTP responses and server-sent events, cut at every byte."""

from __future__ import annotations

import pytest

from fivefold.bench.load.stream import EventParser, ProtocolError, ResponseParser

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = (
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n1;name=value\r\n \r\n0A\r\nworld, you\r\n0\r\nTrailer: x\r\n\r\n"
)
COUNTED = HEAD + b"Content-Length: 16\r\n\r\nhello world, you"
OPEN = HEAD + b"\r\nhello world, you"
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED


def read(parser: ResponseParser, parts: list[bytes]) -> bytes:
    body = b"".join(parser.feed(part) for part in parts)
    parser.close()
    return body


@pytest.mark.parametrize("response", [CHUNKED, COUNTED, OPEN, CONTINUED])
def test_a_body_is_the_same_wherever_its_bytes_are_cut(response: bytes) -> None:
    for cut in range(len(response) + 1):
        assert read(ResponseParser(), [response[:cut], response[cut:]]) == b"hello world, you"
    parser = ResponseParser()
    assert read(parser, [response[at : at + 1] for at in range(len(response))]) == b"hello world, you"
    assert (parser.status, parser.headers["content-type"]) == (200, "text/event-stream")


@pytest.mark.parametrize("response", [CHUNKED, COUNTED, CONTINUED])
def test_a_response_that_is_cut_short_is_told(response: bytes) -> None:
    for cut in range(len(response)):
        parser = ResponseParser()
        parser.feed(response[:cut])
        assert not parser.ended
        with pytest.raises(ProtocolError):
            parser.close()


def test_nothing_follows_a_response_that_has_ended() -> None:
    parser = ResponseParser()
    assert parser.feed(COUNTED) == b"hello world, you"
    assert parser.ended
    empty = ResponseParser()
    assert empty.feed(HEAD + b"Content-Length: 0\r\n\r\n") == b""
    assert empty.ended


@pytest.mark.parametrize(
    "bad",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"SSH-2.0 200 x\r\n\r\n",
        HEAD + b"Content-Length: ten\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n",
        b"x" * 70000,
    ],
)
def test_bytes_that_are_no_response_are_refused(bad: bytes) -> None:
    with pytest.raises(ProtocolError):
        ResponseParser().feed(bad)


EVENTS = "\n\n".join(
    ['data: {"a": 1}', ": comment", "event: x\ndata: wörd", "data:two\ndata: lines", "data: [DONE]", ""]
).encode()
DATA = [b'{"a": 1}', "wörd".encode(), b"two\nlines", b"[DONE]"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_events_are_the_same_wherever_they_are_cut(end: bytes) -> None:
    stream = EVENTS.replace(b"\n", end)
    for cut in range(len(stream) + 1):
        parser = EventParser()
        assert parser.feed(stream[:cut]) + parser.feed(stream[cut:]) == DATA
    parser = EventParser()
    found = [event for at in range(len(stream)) for event in parser.feed(stream[at : at + 1])]
    assert found == DATA


def test_an_event_without_its_end_is_not_told() -> None:
    parser = EventParser()
    assert parser.feed(b"data: half") == []
    assert parser.feed(b"") == []
    assert parser.feed(b"\n\n") == [b"half"]
