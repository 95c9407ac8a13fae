"""API keys, asked for on every path but the few that are listed here.

Paths are compared as the server routes them (`scope["path"]`), never as a client wrote the address, and
keys in constant time. A request without a right key learns nothing but that.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import ApiError

PUBLIC = frozenset({"/health"})
"""Paths that need no key: whoever watches the server has none."""


class KeyCheck:
    """The ASGI layer around all others."""

    def __init__(self, app: ASGIApp, keys: Callable[[], Sequence[str]]) -> None:
        """`keys` gives those of the moment: a configuration may bring others."""
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer 401. Anything but plain HTTP is refused when keys are asked for."""
        keys = self._keys()
        if scope["type"] == "lifespan" or not keys or scope["path"] in PUBLIC or _right(scope, keys):
            await self._app(scope, receive, send)
            return
        error = ApiError(
            401,
            "this server wants an API key: Authorization: Bearer KEY",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )
        await error.response()(scope, receive, send)


def _right(scope: Scope, keys: Sequence[str]) -> bool:
    headers = Headers(scope=scope)
    scheme, _, given = headers.get("authorization", "").partition(" ")
    offered = given.strip(" ") if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    # All keys are compared, so that the time tells nothing of which is nearer.
    return any([hmac.compare_digest(offered.encode("latin-1"), key.encode()) for key in keys])
