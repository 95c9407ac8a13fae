"""Another engine behind a name: any that speaks OpenAI's protocol over HTTP.

A request is tried again only while none of its answer has come, and only where another try can help: no
connection, one that broke, or a gateway's error. Nothing of a client's head is passed on: the engine is
sent the body, with its own name for the model, and the key that the configuration has for it. Nothing is
read from the environment (no proxies), and redirections are not followed.

How the answer reaches the client is `relay`'s matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2

from fivefold import __version__
from fivefold.core.errors import InputError

from .config import ModelConfig
from .errors import ApiError

MOST_ERROR_BYTES = 64 << 10
MOST_PAUSE = 2.0
"""Seconds to pause before another try at most; an engine that asks for more is not asked again."""

FIRST_PAUSE = 0.2
_AGAIN = (502, 503, 504)
_LOG = logging.getLogger("fivefold.server")


@dataclass(slots=True)
class Incoming:
    """An answer that has begun: the first part of its body, and the parts that follow as they come."""

    response: httpx2.Response
    first: bytes
    rest: AsyncIterator[bytes]

    @property
    def kind(self) -> str:
        """What the body is, as text/event-stream."""
        return str(self.response.headers.get("content-type", "")).partition(";")[0].strip().lower()

    async def parts(self) -> AsyncIterator[bytes]:
        """The whole body."""
        if self.first:
            yield self.first
        async for part in self.rest:
            yield part


class Upstream:
    """One engine elsewhere. `up` says whether it answered when it was asked last; None before that."""

    def __init__(self, config: ModelConfig) -> None:
        """InputError if the address is none."""
        try:
            httpx2.URL(config.upstream)
        except (httpx2.InvalidURL, ValueError) as error:
            raise InputError(
                f"{config.upstream!r} is not an address ({error})", remedy='write it as "http://HOST:PORT/v1"'
            ) from None
        self.config = config
        self.model = config.upstream_model or config.name
        self.up: bool | None = None
        self.running = 0
        self.statuses: dict[str, int] = {}
        self.stopping = False
        self.tasks: set[asyncio.Task[None]] = set()
        self._client: httpx2.AsyncClient | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ask whether it is there, and go on asking; nothing if that has begun."""
        if self._watch is not None:
            return
        config = self.config
        headers = {
            "accept-encoding": "identity",
            "user-agent": f"fivefold/{__version__}",
            **({"authorization": f"Bearer {config.upstream_key}"} if config.upstream_key else {}),
        }
        self.stopping = False
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(config.upstream_timeout, connect=config.upstream_connect_timeout),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,
            follow_redirects=False,
        )
        await self._check()
        self._watch = asyncio.get_running_loop().create_task(self._go_on_checking())

    async def close(self) -> None:
        """Let what is under way finish; then end."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
        while self.tasks:
            await asyncio.wait(set(self.tasks))
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def cancel_all(self) -> None:
        """End what is under way."""
        self.stopping = True
        for task in self.tasks:
            task.cancel()

    async def ask(self, path: str, body: bytes) -> Incoming:
        """Send a request until an answer begins; ApiError says why there is none.

        Whoever gets an answer closes its response.
        """
        pause = FIRST_PAUSE
        for left in range(self.config.upstream_retries, -1, -1):
            error, asked = await self._try(path, body)
            if isinstance(error, Incoming):
                again = error.response.status_code in _AGAIN and left > 0 and (asked or 0) <= MOST_PAUSE
                if not again:
                    return error
                await error.response.aclose()
            elif left == 0 or error.status == 504:
                raise error
            await asyncio.sleep(pause if asked is None else asked)
            pause = min(2 * pause, MOST_PAUSE)
        raise AssertionError("the last try returns or raises")

    async def _try(self, path: str, body: bytes) -> tuple[Incoming | ApiError, float | None]:
        """One try: an answer that has begun, or an error; and the pause that the engine asked for."""
        name = self.config.name
        if self._client is None:
            return ApiError(
                503, f"the engine behind {name!r} is being replaced", code="upstream_closed"
            ), None
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        request = self._client.build_request(
            "POST", self.config.upstream + path, content=body, headers=headers
        )
        response = None
        try:
            response = await self._client.send(request, stream=True)
            rest = response.aiter_raw()
            first = await anext(rest, b"")
        except (httpx2.TransportError, httpx2.StreamError) as error:
            await _closed(response)
            return self._lost(error), None
        except BaseException:
            await _closed(response)
            raise
        if response.status_code == 401:
            self._told(False, ValueError("it refuses the key: status 401"))
        elif response.status_code not in _AGAIN:  # a gateway, or an engine that loads its model, says nothing
            self._told(True)
        self._count(str(response.status_code))
        asked = response.headers.get("retry-after", "")
        return Incoming(response, first, rest), float(asked) if asked.isdecimal() else None

    def _lost(self, error: Exception) -> ApiError:
        """What a client is told when no answer came."""
        behind = f"the engine behind {self.config.name!r}"
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            self._told(False, error)
            self._count("unreachable")
            return ApiError(503, f"{behind} cannot be reached", code="upstream_unreachable",
                            headers={"retry-after": "5"})  # fmt: skip
        if isinstance(error, httpx2.TimeoutException):
            self._count("timeout")
            seconds = self.config.upstream_timeout
            message = f"{behind} said nothing for {seconds:g} s"
            return ApiError(504, message, code="upstream_timeout", headers={"x-should-retry": "false"})
        self._count("broken")
        return ApiError(502, f"{behind} broke the connection", code="upstream_failed")

    async def _go_on_checking(self) -> None:
        while True:
            await asyncio.sleep(self.config.upstream_check)
            await self._check()

    async def _check(self) -> None:
        """Whether the engine lists its models; one that has no such list is there all the same."""
        assert self._client is not None
        seconds = self.config.upstream_connect_timeout
        try:
            async with asyncio.timeout(2 * seconds):
                answer = await self._client.get(self.config.upstream + "/models", timeout=seconds)
        except (httpx2.HTTPError, TimeoutError) as error:
            self._told(False, error)
            return
        status = answer.status_code
        if status in (401, 403):
            self._told(False, ValueError(f"it refuses the key: status {status}"))
        else:
            self._told(status < 500, ValueError(f"status {status}"))

    def _told(self, up: bool, why: Exception | None = None) -> None:
        """Note whether it is there; a change goes to the log."""
        if up != self.up and not (up and self.up is None):
            state = "answers again" if up else f"cannot be used ({str(why) or type(why).__name__})"
            _LOG.warning("the engine behind %r at %s %s", self.config.name, self.config.upstream, state)
        self.up = up

    def _count(self, status: str) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1


async def _closed(response: httpx2.Response | None) -> None:
    if response is not None:
        with contextlib.suppress(httpx2.TransportError):
            await response.aclose()
