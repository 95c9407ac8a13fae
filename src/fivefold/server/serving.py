"""The server as a process: a socket, uvicorn on it, and an end that lets running requests finish.

On SIGINT or SIGTERM no new connection is taken; what runs has some seconds, then it is cancelled with an
error that says so. A second SIGINT ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import uvicorn

from fivefold.core.errors import FivefoldError

from .app import make_app
from .connection import Connection
from .models import Models

GRACE_SECONDS = 10.0
BACKLOG = 1024
_SWITCH_SECONDS = 0.0005
"""How long a thread keeps the interpreter: the engine's should not wait for the loop's, nor the other way."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; FivefoldError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = None
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        if listener is not None:
            listener.close()
        reason = getattr(error, "strerror", None) or error
        raise FivefoldError(
            f"cannot listen ({reason})", where=f"{host}:{port}", remedy="choose another --host or --port"
        ) from None
    return listener


def run(models: Models, listener: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until a signal says to end; `ready` is called when requests are taken.

    FivefoldError if a model that must answer from the start cannot be loaded.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    config = uvicorn.Config(
        make_app(models, ready=ready),
        http=Connection,
        ws="none",
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(GRACE_SECONDS) + 5,
    )
    _Server(config, models).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server, which ends in peace."""

    def __init__(self, config: uvicorn.Config, models: Models) -> None:
        super().__init__(config)
        self._models = models
        self._reloads: set[asyncio.Task[None]] = set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what runs finish for a while; then end it with an error of its own."""

        async def end_later() -> None:
            await asyncio.sleep(GRACE_SECONDS)
            self._models.cancel_all()

        ending = asyncio.ensure_future(end_later())
        await super().shutdown(sockets)
        ending.cancel()

    def _reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._models.reload_logged())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A signal ends the server and not the process: its exit status is 0. SIGHUP reads the file again."""
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        if self._models.can_reload:
            loop = asyncio.get_running_loop()
            before[signal.SIGHUP] = signal.signal(
                signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self._reload)
            )
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
