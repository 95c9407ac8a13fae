"""What goes wrong in the middle: a stream tells it as an event and ends all the same."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fivefold.core.errors import FivefoldError
from fivefold.server import make_app

TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    TEXT: {"prompt": "hello", "max_tokens": 40, "ignore_eos": True},
    CHAT: {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 40, "ignore_eos": True},
}


@pytest.fixture
def app(make_tiny: Callable[..., Any], run_app: Callable[..., Any]) -> Iterator[Any]:
    """An application whose served model the test may break."""
    served = make_tiny()
    with run_app(make_app([served])) as process:
        process.served = served
        yield process


def break_after(app: Any, monkeypatch: pytest.MonkeyPatch, steps: int, error: Exception) -> None:
    """Let the runner fail from its `steps`th run on."""
    runner = app.served.engine.loaded.runner
    before, done = runner.run, [0]

    def run(*given: Any, **options: Any) -> Any:
        done[0] += 1
        if done[0] > steps:
            raise error
        time.sleep(0.005)  # so that the loop reads each step's events before the next
        return before(*given, **options)

    monkeypatch.setattr(runner, "run", run)


def lives(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once nothing fails any more, requests are answered and no page is lost."""
    monkeypatch.undo()
    assert app.ask(TEXT, BODIES[TEXT]).json["usage"]["completion_tokens"] == 40
    figures = app.served.engine.figures()
    assert figures.running + figures.waiting + figures.cache.used == 0


@pytest.mark.parametrize("path", [TEXT, CHAT])
@pytest.mark.parametrize("count", [1, 3])
def test_an_error_in_a_stream_is_an_event(
    app: Any, monkeypatch: pytest.MonkeyPatch, path: str, count: int
) -> None:
    break_after(app, monkeypatch, 12, ZeroDivisionError("the floor is gone"))
    *before, last = app.ask(path, {**BODIES[path], "stream": True, "n": count}).chunks
    assert len(before) > 5
    assert all("error" not in chunk for chunk in before)
    assert set(last) == {"error"}
    assert last["error"]["type"] == "server_error"
    assert "a fault of the engine" in last["error"]["message"]
    assert "floor" not in last["error"]["message"], "what is inside is for the log"
    lives(app, monkeypatch)


@pytest.mark.parametrize("path", [TEXT, CHAT])
def test_an_error_before_a_whole_answer_is_a_500(
    app: Any, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    break_after(app, monkeypatch, 5, FivefoldError("no paper", remedy="buy some"))
    reply = app.ask(path, BODIES[path])
    assert reply.status == 500
    assert reply.error["message"] == "no paper; buy some"
    lives(app, monkeypatch)


def test_a_fault_of_the_server_tells_nothing_of_its_inside(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fivefold.server.answers import CompletionChoice

    def push(*_: Any) -> Any:
        raise RuntimeError("secret at 0x7f00")

    monkeypatch.setattr(CompletionChoice, "push", push)
    for stream in (False, True):
        reply = app.ask(TEXT, {**BODIES[TEXT], "stream": stream})
        assert b"secret" not in reply.body
        error = reply.chunks[-1]["error"] if stream else reply.error
        assert (error["code"], error["type"]) == ("internal_error", "server_error")
        assert reply.status == (200 if stream else 500)
    lives(app, monkeypatch)


@pytest.mark.parametrize("call", ["run", "attach"])
def test_a_fault_beneath_the_engine_tells_nothing_of_its_inside_and_ends(
    app: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    """Before anything runs too: a request that could not even begin used to wait for ever."""

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("secret at 0x7f00")

    with monkeypatch.context() as patch:
        patch.setattr(app.served.engine.loaded.runner, call, fail)
        reply = app.ask(TEXT, BODIES[TEXT])
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert "secret at 0x7f00" in caplog.text
    lives(app, monkeypatch)


def test_a_server_with_places_takes_more_at_once_than_may_wait(
    make_tiny: Callable[..., Any], run_app: Callable[..., Any]
) -> None:
    served = make_tiny(max_sequences=8, max_queue=1)
    with run_app(make_app([served])) as app:

        async def several() -> list[Any]:
            return list(await asyncio.gather(*[app.answer(TEXT, BODIES[TEXT]) for _ in range(8)]))

        assert [reply.status for reply in app.run(several())] == [200] * 8


def test_a_full_queue_is_a_503_that_says_when(
    make_tiny: Callable[..., Any], run_app: Callable[..., Any]
) -> None:
    """With one place to run and one to wait, a third has to come again; nobody else is hurt."""
    served = make_tiny(max_sequences=1, max_queue=1)
    with run_app(make_app([served])) as app:

        async def several() -> list[Any]:
            asks = [app.answer(TEXT, BODIES[TEXT]) for _ in range(12)]
            return list(await asyncio.gather(*asks))

        replies = app.run(several())
        good = [reply for reply in replies if reply.status == 200]
        full = [reply for reply in replies if reply.status != 200]
        assert good
        assert full
        for reply in full:
            assert reply.status == 503
            assert int(reply.headers["retry-after"]) >= 1
            assert (reply.error["type"], reply.error["code"]) == ("overloaded_error", "overloaded")
        assert all(reply.json["usage"]["completion_tokens"] == 40 for reply in good)
        assert app.ask(TEXT, BODIES[TEXT]).status == 200


def test_more_answers_than_there_will_ever_be_places(
    make_tiny: Callable[..., Any], run_app: Callable[..., Any]
) -> None:
    """To come again later would not help, so this is no 503."""
    served = make_tiny(max_sequences=2, max_queue=2)
    served.config = dataclasses.replace(served.config, max_sequences=2, max_queue=2)
    with run_app(make_app([served])) as app:
        reply = app.ask(TEXT, {"prompt": ["a"] * 3, "n": 2})
        assert reply.status == 400
        assert reply.error["param"] == "n"
        assert app.ask(TEXT, {"prompt": "a", "n": 2}).status == 200


def test_a_refused_choice_takes_the_others_back(
    make_tiny: Callable[..., Any], run_app: Callable[..., Any]
) -> None:
    """All choices of a request run, or none does."""
    served = make_tiny(max_sequences=1, max_queue=1)
    with run_app(make_app([served])) as app:
        body = {**BODIES[TEXT], "n": 16, "max_tokens": 80}
        assert app.ask(TEXT, body).status == 503
        while served.engine.figures().running + served.engine.figures().waiting:
            app.run(asyncio.sleep(0.01))  # what was taken back ends with the next step
        assert app.ask(TEXT, BODIES[TEXT]).status == 200
        figures = served.engine.figures()
        assert figures.running + figures.waiting + figures.cache.used == 0


def test_the_events_of_an_error_are_json(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    break_after(app, monkeypatch, 3, FivefoldError('a "quoted"\nline\u2028'))
    reply = app.ask(TEXT, {**BODIES[TEXT], "stream": True})
    assert json.loads(reply.body.split(b"\n\n")[-3].removeprefix(b"data: "))["error"]["param"] is None
    lives(app, monkeypatch)
