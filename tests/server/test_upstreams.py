"""Engines elsewhere: what is sent to them, what comes back and when, what a client is told when they fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from socket_engine import EVENTS, Engine, Handler, broken, chunk, event, in_turn, whole

from fivefold.engine import LoadOptions
from fivefold.server import Maker, ModelConfig, Models, ServerConfig, make_app
from fivefold.server import upstream as upstream_module

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
BODY: dict[str, Any] = {"model": "front", "messages": [{"role": "user", "content": "é"}], "unknown": 1.50}
ANSWER = {
    "id": "x",
    "model": "back",
    "big": 12345678901234567890,
    "choices": [{"message": {"content": "hi"}}],
}


def contents(reply: Any) -> list[str]:
    return [one["choices"][0]["delta"]["content"] for one in reply.chunks if "choices" in one]


@pytest.fixture
def front(run_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server with an engine behind it, made by the test; its event loop runs the engine too."""
    monkeypatch.setattr(upstream_module, "FIRST_PAUSE", 0.01)
    with contextlib.ExitStack() as stack:

        def begin(**keys: Any) -> tuple[Any, Engine]:
            given = {
                "upstream_model": "back",
                "upstream_check": 3600.0,
                "upstream_connect_timeout": 20.0,
                **keys,
            }
            loop = asyncio.new_event_loop()
            engine = Engine()
            engine.answer = whole(ANSWER)
            loop.run_until_complete(engine.start())
            address = f"http://127.0.0.1:{engine.port}/v1"
            config = ServerConfig((ModelConfig(name="front", aliases=("alias",), upstream=address, **given),))
            maker = Maker(Path, LoadOptions(), lambda: 5.0, lambda: 1 << 20)
            with monkeypatch.context() as patch:
                patch.setattr(asyncio, "new_event_loop", lambda: loop)
                process = stack.enter_context(run_app(make_app(Models.prepared(config, maker))))
            stack.callback(lambda: process.run(engine.stop()))
            return process, engine

        yield begin


def test_the_name_is_changed_both_ways_and_nothing_else(front: Any) -> None:
    process, engine = front()
    reply = process.ask(CHAT, BODY)
    assert reply.status == 200
    assert reply.json == {**ANSWER, "model": "front"}
    ((first, _, body),) = engine.requests
    assert first == "POST /v1/chat/completions HTTP/1.1"
    assert body == {**BODY, "model": "back"}
    process.ask(TEXT, {"prompt": "a", "model": "alias"})
    assert engine.requests[-1][0] == "POST /v1/completions HTTP/1.1"
    assert process.ask(TEXT, {"prompt": "a"}).json["model"] == "front", "a request that names none"
    assert engine.requests[-1][2] == {"prompt": "a", "model": "back"}


def test_only_what_is_needed_of_the_head_is_sent(front: Any) -> None:
    process, engine = front(upstream_key="sk-upstream")
    headers = {
        "authorization": "Bearer clients-secret", "x-api-key": "clients-secret", "cookie": "a=b",
        "x-forwarded-for": "10.0.0.1", "openai-organization": "org", "accept-encoding": "gzip", "x-odd": "1",
        "user-agent": "clients", "content-type": "text/plain",
    }  # fmt: skip
    assert process.ask(CHAT, BODY, headers=headers).status == 200
    sent = engine.requests[0][1]
    assert sent.pop("authorization") == "Bearer sk-upstream"
    assert sent.pop("user-agent").startswith("fivefold/")
    assert sent.pop("content-type") == "application/json"
    assert sent.pop("accept-encoding") == "identity"
    assert set(sent) == {"host", "accept", "content-length", "connection"}
    assert not any("secret" in value for value in sent.values())


def test_without_a_key_none_is_sent(front: Any) -> None:
    process, engine = front()
    process.ask(CHAT, BODY, headers={"authorization": "Bearer clients-secret"})
    assert "authorization" not in engine.requests[0][1]


def test_a_streams_chunks_reach_the_client_before_the_next_is_sent(front: Any) -> None:
    """The engine sends the next only when the client has the one before."""
    process, engine = front()
    read: asyncio.Queue[str] = asyncio.Queue()

    async def gated(_: Engine, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS)
        for number in range(20):
            data = event(f"part {number}")
            writer.write(chunk(data[:9]))
            writer.write(chunk(data[9:]))
            await writer.drain()
            assert f"part {number}" in await asyncio.wait_for(read.get(), 60)
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    engine.answer = gated

    async def ask() -> list[Any]:
        sent: list[Any] = []
        incoming = [{"type": "http.request", "body": json.dumps({**BODY, "stream": True}).encode()}]

        async def receive() -> Any:
            return incoming.pop(0) if incoming else await asyncio.get_running_loop().create_future()

        async def send(message: Any) -> None:
            sent.append(message)
            body = message.get("body", b"")
            if b"part" in body:
                read.put_nowait(body.decode())

        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], "query_string": b""}
        await process.app(scope, receive, send)
        return sent

    start, *rest = process.run(ask())
    assert (b"content-type", b"text/event-stream") in start["headers"]
    data = b"".join(message["body"] for message in rest)
    assert data.count(b'"model":"front"') == 20
    assert b"back" not in data
    assert data.endswith(b"data: [DONE]\n\n")
    assert data.count(b"[DONE]") == 1


def test_lines_of_any_form_are_passed_on(front: Any) -> None:
    process, engine = front()
    text = (
        b": ping\r\n\r\ndata:" + json.dumps({"model": "back", "choices": [], "x": "data: [DONE]"}).encode()
        + b"\r\n\r\nevent: odd\ndata: no json\n\ndata: 7\n\ndata: [DONE]\n\ndata: never\n\n"
    )  # fmt: skip

    async def bytes_alone(_: Engine, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS)
        for byte in text:
            writer.write(chunk(bytes([byte])))
        writer.write(b"0\r\n\r\n")

    engine.answer = bytes_alone
    reply = process.ask(CHAT, {**BODY, "stream": True})
    assert reply.body.decode() == (
        ': ping\n\ndata: {"model":"front","choices":[],"x":"data: [DONE]"}\n\nevent: odd\ndata: no json\n\n'
        "data: 7\n\ndata: [DONE]\n\n"
    )


def test_a_client_that_leaves_ends_the_request_at_the_engine(front: Any) -> None:
    process, engine = front()

    async def endless(_: Engine, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + chunk(event("a")))
        while True:
            writer.write(chunk(event("more")))
            await writer.drain()
            await asyncio.sleep(0.01)

    async def silent(_: Engine, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)

    async def leave(stream: bool) -> None:
        with contextlib.suppress(ValueError, AssertionError, IndexError):  # of an answer, none or half came
            await process.answer(CHAT, {**BODY, "stream": stream}, leaves=0.2)
        await asyncio.wait_for(engine.closed.wait(), 60)

    for handler, stream in ((endless, True), (silent, True), (silent, False)):
        engine.answer, engine.closed = handler, asyncio.Event()
        process.run(leave(stream))
        assert engine.closed.is_set()
    engine.answer = whole(ANSWER)
    assert process.ask(CHAT, BODY).status == 200


@pytest.mark.parametrize(
    "failure", [broken(), whole({}, 503), whole({}, 502), whole({}, 504), broken(EVENTS)]
)
def test_another_try_while_nothing_has_come(front: Any, failure: Handler) -> None:
    process, engine = front(upstream_retries=2)
    engine.answer = in_turn(failure, failure, whole(ANSWER))
    assert process.ask(CHAT, BODY).status == 200
    assert len(engine.requests) == 3
    engine.answer = in_turn(failure, failure, failure)
    assert process.ask(CHAT, BODY).status >= 502
    assert len(engine.requests) == 6


def test_no_other_try_once_something_has_come(front: Any) -> None:
    process, engine = front()
    engine.answer = broken(EVENTS + chunk(event("a")))
    reply = process.ask(CHAT, {**BODY, "stream": True})
    assert contents(reply) == ["a"]
    assert reply.chunks[-1]["error"]["code"] == "upstream_failed"
    engine.answer = broken(b"HTTP/1.1 200 x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
    assert process.ask(CHAT, BODY).error["code"] == "upstream_failed"
    assert len(engine.requests) == 2


@pytest.mark.parametrize(
    ("handler", "status", "code"),
    [
        (whole({"error": {"message": "too hot", "param": "temperature", "code": "x"}}, 400), 400, "x"),
        (whole({"error": {"code": 400, "message": "request (9 tokens) exceeds", "n_ctx": 8,
                          "type": "exceed_context_size_error"}}, 400), 400, "context_length_exceeded"),
        (whole({"object": "error", "message": "This model's maximum context length is 8 tokens.",
                "type": "BadRequestError", "param": None, "code": 400}, 400), 400, "context_length_exceeded"),
        (whole({"error": {"message": "slowly", "code": 5}}, 429, "retry-after: 7\r\n"), 429, None),
        (whole({"detail": "odd"}, 422), 422, None),
        (whole(b"<html>", 413), 413, None),
        (whole({"error": {"message": "wrong key sk-upstream"}}, 401), 502, "upstream_key"),
        (whole({}, 403), 502, "upstream_key"),
        (whole({"error": "no such model"}, 404), 502, "upstream_not_found"),
        (whole({"error": {"message": "on fire"}}, 500), 502, "upstream_failed"),
        (whole({"error": {"message": "busy"}}, 503, "retry-after: 9\r\n"), 503, "upstream_failed"),
        (whole({}, 302, "location: http://elsewhere/\r\n"), 502, "upstream_failed"),
        (whole(b"no json"), 502, "upstream_failed"),
        (whole([1, 2]), 502, "upstream_failed"),
        (whole(b"\x1f\x8b", 200, "content-encoding: gzip\r\n"), 502, "upstream_failed"),
        (broken(), 502, "upstream_failed"),
        (broken(b"nonsense\r\n\r\n"), 502, "upstream_failed"),
    ],
)  # fmt: skip
def test_errors_are_in_openais_form(front: Any, handler: Handler, status: int, code: str | None) -> None:
    process, engine = front(upstream_key="sk-upstream", upstream_retries=0)
    engine.answer = handler
    for stream in (False, True):
        reply = process.ask(CHAT, {**BODY, "stream": stream})
        assert reply.status == status
        assert reply.error["code"] == code
        assert "sk-upstream" not in reply.error["message"]
        assert str(engine.port) not in reply.error["message"]
    if status == 429:
        assert reply.headers["retry-after"] == "7"
    if status == 503:
        assert reply.headers["retry-after"] == "9"
    if "temperature" in reply.body.decode():
        assert (reply.error["param"], reply.error["message"]) == ("temperature", "too hot")


def test_an_engine_that_says_nothing_is_given_up(front: Any) -> None:
    process, engine = front(upstream_timeout=1.0)

    async def silent(_: Engine, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)

    async def stops(_: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + chunk(event("a")))
        await reader.readexactly(1)

    engine.answer = silent
    reply = process.ask(CHAT, BODY)
    assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")
    assert len(engine.requests) == 1, "another try would take as long"
    engine.answer = stops
    chunks = process.ask(CHAT, {**BODY, "stream": True}).chunks
    assert chunks[-1]["error"]["type"] == "timeout_error"


def test_an_engine_that_is_not_there(front: Any, caplog: pytest.LogCaptureFixture) -> None:
    process, engine = front(upstream_check=0.2, upstream_retries=1)
    assert process.ask("/health").status == 200
    port = engine.port
    process.run(engine.stop())
    reply = process.ask(CHAT, BODY)
    if reply.status == 502:  # the connection that was open is found dead first
        reply = process.ask(CHAT, BODY)
    assert (reply.status, reply.error["code"]) == (503, "upstream_unreachable")
    assert int(reply.headers["retry-after"]) >= 1
    assert process.ask("/health").status == 503
    assert process.ask("/v1/models").json["data"][0]["state"] == "down"
    assert 'fivefold:upstream_up{engine="0",model_name="front"} 0.0' in process.ask("/metrics").body.decode()
    process.run(engine.start(port))
    for _ in range(200):
        if process.ask("/health").status == 200:
            break
        process.run(asyncio.sleep(0.05))
    assert process.ask(CHAT, BODY).status == 200
    assert "cannot be used" in caplog.text
    assert "answers again" in caplog.text


def test_an_engine_that_refuses_the_key_is_not_healthy(front: Any) -> None:
    process, engine = front(upstream_check=0.05)
    for status, healthy in ((401, 503), (200, 200), (500, 503), (404, 200)):
        engine.status_of_models = status
        for _ in range(400):
            if process.ask("/health").status == healthy:
                break
            process.run(asyncio.sleep(0.02))
        assert process.ask("/health").status == healthy


def test_an_answer_that_refuses_the_key_or_says_nothing_makes_no_engine_healthy(front: Any) -> None:
    """As llama-server does it: 401 with a wrong key, 503 for everything while its model is loaded."""
    process, engine = front(upstream_retries=0)
    assert process.ask("/health").status == 200
    engine.answer = whole({"error": {"message": "Invalid API Key", "code": 401}}, 401)
    assert process.ask(CHAT, BODY).error["code"] == "upstream_key"
    assert process.ask("/health").status == 503
    engine.answer = whole(
        {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, 503
    )
    reply = process.ask(CHAT, BODY)
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    assert "Loading model" in reply.error["message"]
    assert process.ask("/health").status == 503
    engine.answer = whole(ANSWER)
    assert process.ask(CHAT, BODY).status == 200
    assert process.ask("/health").status == 200


def test_the_list_has_engines_elsewhere_too(front: Any) -> None:
    process, _engine = front()
    (told,) = process.ask("/v1/models").json["data"]
    assert (told["id"], told["root"], told["state"], told["created"]) == ("front", "back", "up", 5)
    process.ask(CHAT, BODY)
    text = process.ask("/metrics").body.decode()
    assert 'fivefold:upstream_answers_total{engine="0",model_name="front",status="200"} 1.0' in text
    assert process.ask(CHAT, {**BODY, "model": "back"}).status == 404, "its own name is not offered"


def test_bodies_are_bounded_before_they_are_passed_on(front: Any) -> None:
    process, engine = front()
    for body in (b"", b"[]", b"{", b'{"model": 5}', b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}"):
        assert process.ask(CHAT, body, "POST").status == 400
    assert engine.requests == []


def test_requests_under_way_are_bounded(front: Any) -> None:
    process, engine = front(max_sequences=1, max_queue=1)
    gate = asyncio.Event()

    async def gated(_: Engine, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await whole(ANSWER)(_, __, writer)

    engine.answer = gated

    async def three() -> list[Any]:
        first = [asyncio.ensure_future(process.answer(CHAT, BODY)) for _ in range(2)]
        await asyncio.sleep(0.01)
        third = await process.answer(CHAT, BODY)
        gate.set()
        return [*await asyncio.gather(*first), third]

    *good, refused = process.run(three())
    assert [reply.status for reply in good] == [200, 200]
    assert (refused.status, refused.error["code"]) == (503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert process.ask(CHAT, BODY).status == 200
