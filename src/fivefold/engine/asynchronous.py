"""The engine for an event loop: its steps run on a thread of their own.

The thread owns the engine; everything else reaches it as a command that it takes between two steps. After
each step it hands all events to the loop in one call, so a token costs the loop little and the
loop costs the steps nothing but the interpreter's lock. A reader that is slow finds the events of several
steps merged into one.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

from fivefold.core.errors import FivefoldError
from fivefold.core.request import EvictionChoice, Request, TokenEvent

from .engine import Engine
from .figures import EngineFigures
from .generation import merged
from .loader import LoadedModel


class EventStream:
    """The events of one request; ends after the one that has a finish reason."""

    def __init__(self, identity: str, cancel: Callable[[str], None]) -> None:
        self.identity = identity
        self._cancel = cancel
        self._events: deque[TokenEvent] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self._read_to_end = False

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> TokenEvent:
        """What has come since the last call, merged into one event."""
        if self._read_to_end:
            raise StopAsyncIteration
        while not self._events:
            self._arrived.clear()
            await self._arrived.wait()
        event = merged(self._events)
        self._events.clear()
        self._read_to_end = event.finish_reason is not None
        return event

    def cancel(self) -> None:
        """End the request at the next step. No harm once it has ended."""
        if not self._ended:
            self._cancel(self.identity)

    def deliver(self, event: TokenEvent) -> None:
        """One more event, from the engine."""
        self._ended = event.finish_reason is not None
        self._events.append(event)
        self._arrived.set()


class AsyncEngine:
    """An engine whose requests are awaited. All methods are for the loop that called `start`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: dict[str, EventStream] = {}
        self._commands: deque[Callable[[], None]] = deque()
        self._wanted = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)

    @property
    def loaded(self) -> LoadedModel:
        """The model."""
        return self._engine.loaded

    @property
    def eviction(self) -> EvictionChoice:
        """Of requests that say nothing of it."""
        return self._engine.eviction

    @property
    def healthy(self) -> bool:
        """Whether requests can be answered: the engine's thread lives."""
        return self._thread.is_alive() and not self._closing

    async def start(self) -> None:
        """Begin to take requests."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """Cancel what is under way and end the thread."""
        if not self._thread.is_alive():
            return
        self.cancel_all()
        with self._wanted:
            self._closing = True
            self._wanted.notify()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        self._deliver([])

    async def submit(self, request: Request) -> EventStream:
        """Take a request. InputError and OverloadedError come from here, before anything runs."""
        if not self.healthy:
            raise FivefoldError("the engine has stopped", remedy="start the server again")
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stream = EventStream(request.identity, self._cancel)

        def take() -> None:
            try:
                self._engine.submit(request)
            except Exception as error:
                self._call(_settle, taken, error)
            else:
                self._call(self._begin, stream, taken)

        self._command(take)
        try:
            await taken
        except asyncio.CancelledError:
            self._cancel(request.identity)
            raise
        return stream

    def cancel_all(self) -> None:
        """Cancel whatever is under way."""
        for stream in list(self._streams.values()):
            stream.cancel()

    def figures(self) -> EngineFigures:
        """A snapshot of the engine; a step may be under way meanwhile."""
        return self._engine.figures()

    def _begin(self, stream: EventStream, taken: asyncio.Future[None]) -> None:
        self._streams[stream.identity] = stream
        _settle(taken, None)

    def _cancel(self, identity: str) -> None:
        self._command(lambda: self._engine.cancel(identity))

    def _command(self, command: Callable[[], None]) -> None:
        """Have the engine's thread do something before its next step."""
        with self._wanted:
            self._commands.append(command)
            self._wanted.notify()

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """Have the loop do something soon; nothing if it is closed already."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return

    def _serve(self) -> None:
        """The thread: commands, then a step, for as long as there is anything to do."""
        while True:
            with self._wanted:
                while not (self._commands or self._engine.busy or self._closing):
                    self._wanted.wait()
                commands = list(self._commands)
                self._commands.clear()
                closing = self._closing and not commands
            for command in commands:
                command()
            if closing:
                self._engine.close()
                return
            events = self._engine.step()
            if events:
                self._call(self._deliver, events)

    def _deliver(self, events: list[TokenEvent]) -> None:
        for event in events:
            stream = self._streams.get(event.identity)
            if stream is None:
                continue
            stream.deliver(event)
            if event.finish_reason is not None:
                del self._streams[event.identity]
        if self._closing and not self._thread.is_alive():
            lost = FivefoldError("the server is stopping", remedy="ask again later")
            for identity, stream in list(self._streams.items()):
                stream.deliver(TokenEvent(identity, (), "", finish_reason="error", error=lost))
            self._streams.clear()


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
