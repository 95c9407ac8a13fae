"""What the server's tests share: the tiny model behind the application, called in process or over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import random
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp, Message

from fivefold.chat import DIALECTS
from fivefold.core.request import EvictionChoice, Request, Timings, TokenEvent
from fivefold.engine import (
    AsyncEngine,
    Engine,
    EngineFigures,
    EngineOptions,
    EventStream,
    LoadedModel,
    LoadOptions,
    load,
)
from fivefold.server import ModelConfig, make_app, serve
from fivefold.server.connection import Connection
from fivefold.server.served import ServedModel

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer: status, headers in lower case, body, and the body's pieces as they were sent."""

    status: int
    headers: dict[str, str]
    body: bytes
    parts: tuple[bytes, ...] = ()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error in OpenAI's form; the form itself is checked."""
        told = self.json
        assert set(told) == {"error"}
        assert set(told["error"]) == {"message", "type", "param", "code"}
        assert told["error"]["message"]
        return dict(told["error"])

    @property
    def chunks(self) -> list[Any]:
        """The chunks of a stream, whose form is checked: one JSON object an event, and the end is marked."""
        assert self.status == 200, self.body
        assert self.headers["content-type"] == "text/event-stream"
        events = self.body.decode().split("\n\n")
        assert events.pop() == ""
        assert events.pop() == "data: [DONE]"
        assert all(event.startswith("data: ") and "\n" not in event for event in events)
        return [json.loads(event.removeprefix("data: ")) for event in events]


class InProcess:
    """An application on an event loop of the test's own; `ask` runs it until the answer is whole."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.loop = asyncio.new_event_loop()
        self._ends: asyncio.Queue[Message] = asyncio.Queue()
        self._told: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
        self._life = self.loop.create_task(self._lifespan(app(scope, self._ends.get, self._told.put)))
        self._expect("startup")

    @staticmethod
    async def _lifespan(life: Awaitable[None]) -> None:
        await life

    def _expect(self, what: str) -> None:
        self._ends.put_nowait({"type": f"lifespan.{what}"})
        told = self.loop.run_until_complete(asyncio.wait_for(self._told.get(), 30))
        assert told["type"] == f"lifespan.{what}.complete"

    def close(self) -> None:
        self._expect("shutdown")
        self.loop.run_until_complete(self._life)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def run(self, work: Awaitable[Any], seconds: float = 60) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, seconds))

    def ask(
        self,
        path: str,
        body: Any = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        client: str = "test",
    ) -> Reply:
        return self.run(self.answer(path, body, method, headers, client))  # type: ignore[no-any-return]

    async def answer(
        self,
        path: str,
        body: Any = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        client: str = "test",
        leaves: float | None = None,
    ) -> Reply:
        """`leaves`: the seconds after which the client goes away."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
            "method": method or ("GET" if body is None else "POST"), "path": path, "query_string": b"",
            "raw_path": path.encode(), "root_path": "", "server": ("test", 80), "client": (client, 1),
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in (headers or {}).items()],
        }  # fmt: skip
        incoming: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            if incoming:
                return incoming.pop(0)
            if leaves is not None:
                await asyncio.sleep(leaves)
                return {"type": "http.disconnect"}
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start, *rest = sent
        assert rest[-1].get("more_body", False) is False
        parts = tuple(message["body"] for message in rest)
        known = {name.decode(): value.decode() for name, value in start["headers"]}
        return Reply(start["status"], known, b"".join(parts), parts)


class ScriptedEngine:
    """In place of an engine: every request gets the same text, cut into pieces anew, one token a piece."""

    def __init__(self, loaded: LoadedModel, script: str = "", seed: int = 0) -> None:
        self.loaded = loaded
        self.script = script
        self.reason: Any = "stop"
        self.healthy = True
        self.eviction = EvictionChoice()
        self.requests: list[Request] = []
        self._choose = random.Random(seed)
        self._writers: list[asyncio.Future[None]] = []

    async def start(self) -> None:
        return

    async def close(self) -> None:
        return

    async def submit(self, request: Request) -> EventStream:
        self.requests.append(request)
        stream = EventStream(request.identity, lambda _: None)
        self._writers.append(asyncio.ensure_future(self._write(request, stream)))
        return stream

    def cancel_all(self) -> None:
        return

    def figures(self) -> EngineFigures:
        raise NotImplementedError

    async def _write(self, request: Request, stream: EventStream) -> None:
        left, count = self.script, 0
        while left:
            size = self._choose.randint(1, 5)
            piece, left = left[:size], left[size:]
            count += 1
            stream.deliver(TokenEvent(request.identity, (count,), piece))
            await asyncio.sleep(0)
        took = Timings(0.0, 0.0, 0.0, len(request.prompt), 0, count)
        stream.deliver(TokenEvent(request.identity, (), "", finish_reason=self.reason, timings=took))


def wide(loaded: LoadedModel, context: int = 4096) -> LoadedModel:
    """The same model, said to have a longer context; for engines that only play."""
    return dataclasses.replace(loaded, context=context)


class HttpServer:
    """The application behind uvicorn and the server's own connections, on a thread.

    `send_buffer`: the bytes that the kernel holds for a client that does not read; 0 leaves it free.
    """

    def __init__(
        self, served: Sequence[ServedModel], api_keys: Sequence[str] = (), send_buffer: int = 0
    ) -> None:
        self.served = served
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        if send_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.port: int = self._listener.getsockname()[1]
        config = uvicorn.Config(
            make_app(served, api_keys), http=Connection, ws="none", log_level="critical", server_header=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))
        self._thread.start()
        self.wait(lambda: self._server.started)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def figures(self) -> EngineFigures:
        return self.served[0].engine.figures()

    def connect(self, timeout: float = 30) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def wait_idle(self) -> None:
        """Until nothing runs, waits, or holds a page that only a request could hold."""
        self.wait(lambda: (f := self.figures()).running + f.waiting + f.cache.used == 0)

    @staticmethod
    def wait(true: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, "it does not come to that"
            time.sleep(0.005)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._listener.close()


def tiny_served(entries: int = 4000, name: str = "tiny", **options: Any) -> ServedModel:
    """The tiny model with an engine of its own. Its context is 96 tokens, its vocabulary has 265."""
    loaded = load(TINY, LoadOptions(entries=entries, threads=1))
    config = ModelConfig("tiny.gguf", name, ("small", "default"))
    return serve(config, loaded, AsyncEngine(Engine(loaded, EngineOptions(**options))), 1234)


def scripted_served(engine: ScriptedEngine, dialect: str = "hermes") -> ServedModel:
    """A served model whose answers are scripted, in a dialect of tools."""
    served = serve(ModelConfig("tiny.gguf", "tiny"), engine.loaded, engine, 1234)  # type: ignore[arg-type]
    marks = frozenset[int]()
    return dataclasses.replace(served, dialect=DIALECTS[dialect], shown=marks)


@contextlib.contextmanager
def running(app: ASGIApp) -> Iterator[InProcess]:
    process = InProcess(app)
    try:
        yield process
    finally:
        process.close()


@contextlib.contextmanager
def listening(
    served: ServedModel, api_keys: Sequence[str] = (), send_buffer: int = 0
) -> Iterator[HttpServer]:
    server = HttpServer([served], api_keys, send_buffer)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def tiny_loaded() -> LoadedModel:
    """The tiny model, apart from every server's: what an engine says without HTTP."""
    return load(TINY, LoadOptions(entries=4000, threads=1))


@pytest.fixture(scope="module")
def tiny_app() -> Iterator[InProcess]:
    """The application in process, on the tiny model."""
    with running(make_app([tiny_served()])) as process:
        yield process


@pytest.fixture(scope="module")
def tiny_server() -> Iterator[HttpServer]:
    """A real server with the tiny model, one for each file of tests."""
    with listening(tiny_served()) as server:
        yield server


@pytest.fixture(scope="session")
def make_tiny() -> Callable[..., ServedModel]:
    """Makes served models of the tiny one."""
    return tiny_served


@pytest.fixture(scope="session")
def run_app() -> Callable[[ASGIApp], contextlib.AbstractContextManager[InProcess]]:
    """Runs an application in process."""
    return running


@pytest.fixture(scope="session")
def run_server() -> Callable[..., contextlib.AbstractContextManager[HttpServer]]:
    """Runs a real server for a served model."""
    return listening


@pytest.fixture
def scripted(tiny_loaded: LoadedModel) -> Iterator[tuple[ScriptedEngine, InProcess]]:
    """An application whose model writes a script in the Hermes dialect."""
    engine = ScriptedEngine(wide(tiny_loaded))
    with running(make_app([scripted_served(engine)])) as process:
        yield engine, process


@pytest.fixture(scope="module")
def scripted_app(tiny_loaded: LoadedModel) -> Iterator[InProcess]:
    """An application whose model always calls a tool."""
    script = 'Well. <tool_call>\n{"name": "f", "arguments": {"a": [1]}}\n</tool_call>'
    with running(make_app([scripted_served(ScriptedEngine(wide(tiny_loaded), script))])) as process:
        yield process
