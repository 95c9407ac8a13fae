"""Bytes on sockets: what a client that no library holds back can send, and how tokens arrive one by one."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
from typing import Any

import pytest

from fivefold.server import body as body_module
from fivefold.server import connection as connection_module

GOOD = {"prompt": "hello", "max_tokens": 4, "ignore_eos": True}


def request(body: bytes | dict[str, Any], path: str = "/v1/completions", extra: str = "") -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n{extra}\r\n"
    return head.encode() + raw


def read_reply(reader: Any) -> tuple[int, dict[str, str], bytes]:
    """One whole answer: status, headers, body, whose length is told or whose chunks are."""
    status = int(reader.readline().split()[1])
    headers: dict[str, str] = {}
    while line := reader.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") != "chunked":
        return status, headers, reader.read(int(headers["content-length"]))
    body = b""
    while size := int(reader.readline(), 16):
        body += reader.read(size)
        assert reader.readline() == b"\r\n"
    assert reader.readline() == b"\r\n"
    return status, headers, body


def answered(server: Any) -> None:
    """A good request is answered."""
    with server.connect() as connection, connection.makefile("rb") as reader:
        connection.sendall(request(GOOD))
        status, _, body = read_reply(reader)
        assert status == 200
        assert json.loads(body)["usage"]["completion_tokens"] == 4


def error_of(status: int, body: bytes) -> dict[str, Any]:
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert status >= 400
    return dict(error)


def refusal(server: Any, data: bytes) -> tuple[int, dict[str, Any]]:
    """The error that these bytes are answered with; the connection then ends."""
    with server.connect() as connection, connection.makefile("rb") as reader:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        status, _, body = read_reply(reader)
        with contextlib.suppress(ConnectionError):
            assert reader.read() == b""
    answered(server)
    return status, error_of(status, body)


def slow_steps(server: Any, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let every step take so long, so that what happens during one can be watched."""
    runner = server.served[0].engine.loaded.runner
    before = runner.run

    def run(*given: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return before(*given, **options)

    monkeypatch.setattr(runner, "run", run)


def test_tokens_arrive_one_by_one(tiny_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model takes its next step only when the client has the token of the last, so none is held back."""
    runner = tiny_server.served[0].engine.loaded.runner
    before, allowed = runner.run, threading.Semaphore(1)

    def run(*given: Any, **options: Any) -> Any:
        assert allowed.acquire(timeout=30), "the client has not got the token before"
        return before(*given, **options)

    monkeypatch.setattr(runner, "run", run)
    body = {"prompt": "hello", "max_tokens": 20, "stream": True, "return_token_ids": True, "ignore_eos": True}
    counts: list[int] = []
    with tiny_server.connect() as connection, connection.makefile("rb") as reader:
        connection.sendall(request(body))
        while reader.readline().strip():
            pass
        while size := int(reader.readline(), 16):
            data = reader.read(size)
            reader.readline()
            if data != b"data: [DONE]\n\n":
                counts.append(len(json.loads(data.removeprefix(b"data: "))["choices"][0]["token_ids"]))
                allowed.release()
    assert counts == [1] * 20


def test_curl_reads_a_stream(tiny_server: Any) -> None:
    """`curl -N` as the documents show it, with curl's own content type."""
    body = json.dumps({"messages": [{"role": "user", "content": "a"}], "stream": True, "max_tokens": 5})
    command = ["curl", "-sN", f"{tiny_server.url}/chat/completions", "-d", body]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    events = told.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    first = json.loads(events[0].removeprefix("data: "))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    last = json.loads(events[-2].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] in ("length", "stop")


def test_a_connection_answers_several_requests(tiny_server: Any) -> None:
    """One after the other and sent at once, whole and streamed, good and bad."""
    with tiny_server.connect() as connection, connection.makefile("rb") as reader:
        for _ in range(3):
            connection.sendall(request(GOOD))
            assert read_reply(reader)[0] == 200
        connection.sendall(
            request({**GOOD, "stream": True}) + request(b"{") + request(GOOD, "/no") + request(GOOD)
        )
        assert [read_reply(reader)[0] for _ in range(4)] == [200, 400, 404, 200]


@pytest.mark.parametrize("told", [True, False], ids=["with its length", "in chunks"])
def test_a_body_of_a_hundred_megabytes(tiny_server: Any, told: bool) -> None:
    """Refused when its length says so, or when the bound is passed; the rest is not read."""
    million = b"x" * (1 << 20)
    sent = 0
    with tiny_server.connect() as connection, connection.makefile("rb") as reader:
        head = "content-length: 104857600" if told else "transfer-encoding: chunked"
        connection.sendall(f"POST /v1/completions HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(million if told else b"100000\r\n" + million + b"\r\n")
                sent += 1
        status, headers, body = read_reply(reader)
    assert status == 413
    assert error_of(status, body)["code"] == "body_too_large"
    assert "32 MiB" in error_of(status, body)["message"]
    assert headers["connection"] == "close"
    bound = 0 if told else 32
    assert sent <= bound + 20, f"{sent} MiB were taken"  # what kernels hold for a socket comes on top
    answered(tiny_server)


def test_a_length_that_is_none(tiny_server: Any) -> None:
    for length in ("-1", "1e3", "abc", "9" * 30, "9" * 5000, "1, 2"):
        data = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode()
        status, _ = refusal(tiny_server, data)
        assert status in (400, 413), length


def test_expect_100_continue(tiny_server: Any) -> None:
    """Go on, says the server where it wants the body; where it does not, it says no at once."""
    raw = json.dumps(GOOD).encode()
    with tiny_server.connect() as connection, connection.makefile("rb") as reader:
        head = request(raw, extra="expect: 100-continue\r\n")[: -len(raw)]
        connection.sendall(head)
        assert reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert reader.readline() == b"\r\n"
        connection.sendall(raw)
        assert read_reply(reader)[0] == 200
    with tiny_server.connect() as connection, connection.makefile("rb") as reader:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n"
            b"expect: 100-continue\r\n\r\n"
        )
        assert read_reply(reader)[0] == 413


def test_a_body_that_comes_too_slowly(tiny_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "MOST_SECONDS", 0.3)
    with tiny_server.connect() as connection, connection.makefile("rb") as reader:
        connection.sendall(request(b"{" + b" " * 1000)[:-990])
        for _ in range(3):
            time.sleep(0.02)
            connection.sendall(b" ")
        status, headers, body = read_reply(reader)
        assert status == 408
        assert error_of(status, body)["type"] == "timeout_error"
        assert headers["connection"] == "close"
        assert reader.read() == b""
    answered(tiny_server)


@pytest.mark.parametrize("start", [b"", b"P", b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-a: "])
@pytest.mark.parametrize("before", [False, True], ids=["first", "after another"])
def test_a_head_that_does_not_end(
    tiny_server: Any, monkeypatch: pytest.MonkeyPatch, start: bytes, before: bool
) -> None:
    """The connection is closed, also when a request was answered on it before."""
    monkeypatch.setattr(connection_module, "HEAD_SECONDS", 0.2)
    with tiny_server.connect(10) as connection, connection.makefile("rb") as reader:
        if before:
            connection.sendall(request(GOOD))
            assert read_reply(reader)[0] == 200
        connection.sendall(start or (b"\r\n" if before else b""))
        assert reader.read() == b""
    answered(tiny_server)


def test_the_head_of_the_next_request_does_not_end_an_answer(
    tiny_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HEAD_SECONDS", 0.05)
    slow_steps(tiny_server, monkeypatch, 0.01)
    with tiny_server.connect() as connection, connection.makefile("rb") as reader:
        connection.sendall(request({**GOOD, "max_tokens": 30}))
        time.sleep(0.02)
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\n")
        status, _, body = read_reply(reader)
        assert status == 200
        assert json.loads(body)["usage"]["completion_tokens"] == 30
        assert reader.read() == b""


def test_a_head_without_end_is_refused(tiny_server: Any) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n"
    status, error = refusal(tiny_server, head + b"x-a: " + b"a" * 200_000)
    assert status == 400
    assert "head" in error["message"]
    status, _ = refusal(tiny_server, head + b"x-a: b\r\n" * 20_000)
    assert status == 400


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100, b"garbage\r\n\r\n", b"\x00" * 1000,
        b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost x\r\n\r\n",
    ],
    ids=lambda data: repr(data[:20]),
)  # fmt: skip
def test_garbage_is_a_400_in_json(tiny_server: Any, garbage: bytes) -> None:
    status, error = refusal(tiny_server, garbage)
    assert status == 400
    assert error["type"] == "invalid_request_error"


def test_garbage_after_a_request(tiny_server: Any) -> None:
    """The good request may be lost with its connection; what comes back is whole answers in JSON."""
    with tiny_server.connect() as connection, connection.makefile("rb") as reader:
        connection.sendall(request(GOOD) + b"\x00garbage\r\n\r\n")
        statuses = [read_reply(reader)[0]]
        if statuses == [200]:
            statuses.append(read_reply(reader)[0])
        assert statuses[-1] == 400
        assert reader.read() == b""
    answered(tiny_server)


def test_garbage_into_a_stream_only_ends_it(tiny_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No second answer is written into the first."""
    slow_steps(tiny_server, monkeypatch, 0.01)
    with tiny_server.connect() as connection, connection.makefile("rb") as reader:
        connection.sendall(request({**GOOD, "max_tokens": 60, "stream": True}))
        assert reader.readline().startswith(b"HTTP/1.1 200")
        connection.sendall(b"\x00garbage\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"HTTP/1.1 400" not in reader.read()
    monkeypatch.undo()
    tiny_server.wait_idle()
    answered(tiny_server)


def test_many_connections_that_say_nothing(tiny_server: Any) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(tiny_server.connect())
        answered(tiny_server)


def test_connections_that_are_cut_anywhere(tiny_server: Any) -> None:
    """A request may end after any of its bytes, politely or with a reset."""
    data = request({**GOOD, "stream": True})
    for end in [*range(0, len(data), 9), len(data)]:
        with tiny_server.connect() as connection:
            connection.sendall(data[:end])
            if end % 2:
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    tiny_server.wait_idle()
    answered(tiny_server)
