"""Clients that leave or do not read: what they asked for ends, its pages are free, and others go on."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fivefold.server import connection as connection_module

ENDLESS = {"prompt": "hello", "max_tokens": 90, "ignore_eos": True}


@pytest.fixture
def server(
    make_tiny: Callable[..., Any], run_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A server whose steps are slow enough for a client to leave in the middle."""
    served = make_tiny()
    runner = served.engine.loaded.runner
    before = runner.run

    def run(*given: Any, **options: Any) -> Any:
        time.sleep(0.01)
        return before(*given, **options)

    monkeypatch.setattr(runner, "run", run)
    with run_server(served) as started:
        yield started


def send(server: Any, body: dict[str, Any], path: str = "/v1/completions") -> socket.socket:
    raw = json.dumps(body).encode()
    connection: socket.socket = server.connect()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n\r\n"
    connection.sendall(head.encode() + raw)
    return connection


def metric(server: Any, name: str) -> float:
    text = urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30).read().decode()
    return sum(float(value) for value in re.findall(rf"^vllm:{name}{{[^}}]*}} (\S+)$", text, re.MULTILINE))


def answered(server: Any) -> None:
    with send(server, {**ENDLESS, "max_tokens": 3}) as connection, connection.makefile("rb") as reader:
        assert reader.readline().startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("count", [1, 4])
def test_a_client_that_leaves_cancels_what_it_asked_for(server: Any, stream: bool, count: int) -> None:
    body = {**ENDLESS, "n": count, "seed": 1, "stream": stream}
    connection = send(server, body)
    server.wait(lambda: metric(server, "num_requests_running") == count)
    if stream:
        assert connection.recv(10)
    before = server.figures().output_tokens
    connection.close()
    server.wait(lambda: metric(server, "num_requests_running") == 0)
    server.wait_idle()
    assert server.figures().output_tokens - before < 80 * count, "it was written to its end"
    answered(server)


def test_a_client_that_leaves_while_it_waits_in_the_queue(
    make_tiny: Callable[..., Any], run_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = make_tiny(max_sequences=1)
    runner = served.engine.loaded.runner
    before = runner.run

    def run(*given: Any, **options: Any) -> Any:
        time.sleep(0.02)
        return before(*given, **options)

    monkeypatch.setattr(runner, "run", run)
    with run_server(served) as server, send(server, {**ENDLESS, "stream": True}) as first:
        assert first.recv(10)
        waiting = [send(server, ENDLESS) for _ in range(3)]
        server.wait(lambda: metric(server, "num_requests_waiting") == 3)
        for connection in waiting:
            connection.close()
        server.wait(lambda: metric(server, "num_requests_waiting") == 0)
        assert metric(server, "num_requests_running") == 1
        with first.makefile("rb") as reader:
            data = reader.readline()
            while not data.startswith(b"data: [DONE]"):
                data = reader.readline()
                assert data
        server.wait_idle()


def test_a_storm_of_leaving_clients(server: Any) -> None:
    for number in range(60):
        body = {**ENDLESS, "prompt": [number, 5, 6], "stream": number % 2 == 0, "n": 1 + number % 3}
        connection = send(server, body)
        if number % 4 == 0:
            time.sleep(0.005)
        connection.close()
    server.wait_idle()
    figures = server.figures()
    assert figures.cache.free + figures.cache.kept == figures.cache.capacity
    answered(server)


def big_stream(server: Any) -> socket.socket:
    """A stream of far more bytes than kernels hold for a socket, to a client that takes few."""
    raw = json.dumps({"prompt": ["hello"] * 4, "n": 4, "max_tokens": 80, "ignore_eos": True, "stream": True,
                      "logprobs": 20, "seed": 1}).encode()  # fmt: skip
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n\r\n"
    connection.sendall(head.encode() + raw)
    return connection


def test_a_reader_that_stops_reading_holds_nobody(
    make_tiny: Callable[..., Any], run_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are answered meanwhile; in the end the connection is given up."""
    stopped, lost = threading.Event(), threading.Event()
    kind = connection_module.Connection
    pausing, losing = kind.pause_writing, kind.connection_lost
    paused: list[Any] = []

    def pause_writing(self: Any) -> None:
        paused.append(self)
        pausing(self)
        stopped.set()

    def connection_lost(self: Any, error: Exception | None) -> None:
        losing(self, error)
        if self in paused:
            lost.set()

    monkeypatch.setattr(kind, "pause_writing", pause_writing)
    monkeypatch.setattr(kind, "connection_lost", connection_lost)
    monkeypatch.setattr(connection_module, "STALL_SECONDS", 1.0)
    with run_server(make_tiny(), send_buffer=16_384) as server, big_stream(server) as connection:
        assert stopped.wait(30), "the stream was taken whole"
        for _ in range(5):
            answered(server)
        server.wait_idle()
        assert lost.wait(30), "the connection is still held"
        data = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(1 << 16):
                data += part
        assert b"[DONE]" not in data
        answered(server)


def test_a_reader_that_is_only_slow_gets_all(
    make_tiny: Callable[..., Any], run_server: Callable[..., Any]
) -> None:
    with run_server(make_tiny(), send_buffer=16_384) as server, big_stream(server) as connection:
        time.sleep(0.5)
        connection.settimeout(60)
        data = bytearray()
        while not data.endswith(b"0\r\n\r\n"):
            part = connection.recv(1 << 16)
            assert part
            data += part
    assert data.count(b'"finish_reason":"length"') == 16
    assert b"data: [DONE]\n\n" in data


def test_an_overloaded_server_says_when_to_come_again(
    make_tiny: Callable[..., Any], run_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = make_tiny(max_sequences=1, max_queue=1)
    runner = served.engine.loaded.runner
    before = runner.run

    def run(*given: Any, **options: Any) -> Any:
        time.sleep(0.01)
        return before(*given, **options)

    monkeypatch.setattr(runner, "run", run)
    with run_server(served) as server, contextlib.ExitStack() as stack:
        running = stack.enter_context(send(server, ENDLESS))
        server.wait(lambda: server.figures().running == 1)
        waiting = stack.enter_context(send(server, ENDLESS))
        server.wait(lambda: server.figures().waiting == 1)
        for stream in (False, True):
            third = stack.enter_context(send(server, {**ENDLESS, "stream": stream}))
            answer = third.recv(10_000).decode()
            assert answer.startswith("HTTP/1.1 503 ")
            assert re.search(r"\r\nretry-after: [1-9]\d*\r\n", answer)
            assert json.loads(answer.split("\r\n\r\n")[1])["error"]["type"] == "overloaded_error"
        for connection in (running, waiting):
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
