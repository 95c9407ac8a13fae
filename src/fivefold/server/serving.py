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
from collections.abc import Callable, Iterator, Sequence

import uvicorn

from fivefold.core.errors import FivefoldError

from .app import make_app
from .connection import Connection
from .served import ServedModel

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


def run(
    served: Sequence[ServedModel],
    listener: socket.socket,
    api_keys: Sequence[str] = (),
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until a signal says to end; `ready` is called when requests are taken."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    config = uvicorn.Config(
        make_app(served, api_keys, ready),
        http=Connection,
        ws="none",
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(GRACE_SECONDS) + 5,
    )
    _Server(config, served).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server, which ends in peace."""

    def __init__(self, config: uvicorn.Config, served: Sequence[ServedModel]) -> None:
        super().__init__(config)
        self._served = served

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what runs finish for a while; then end it with an error of its own."""

        async def end_later() -> None:
            await asyncio.sleep(GRACE_SECONDS)
            for model in self._served:
                model.engine.cancel_all()

        ending = asyncio.ensure_future(end_later())
        await super().shutdown(sockets)
        ending.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A signal ends the server and not the process: its exit status is 0."""
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
