"""The application: paths, the layers around them, and errors in OpenAI's form for whatever goes wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fivefold.core.errors import FivefoldError

from .auth import KeyCheck
from .endpoints import Generation, Small, chat_job, completion_job
from .errors import ApiError, of_error
from .metrics import Metrics
from .served import Models, ServedModel


def make_app(
    served: Sequence[ServedModel], api_keys: Sequence[str] = (), ready: Callable[[], None] = lambda: None
) -> ASGIApp:
    """The ASGI application for these models; `ready` is called when all engines run."""
    models = Models(served)
    metrics = Metrics(models)
    small = Small(models, metrics)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await models.start()
        ready()
        try:
            yield
        finally:
            await models.close()

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", Generation(models, metrics, chat_job)),
            Route("/v1/completions", Generation(models, metrics, completion_job)),
            Route("/v1/models", small.models, methods=["GET"]),
            Route("/v1/models/{name:path}", small.model, methods=["GET"]),
            Route("/health", small.health, methods=["GET"]),
            Route("/metrics", small.metrics, methods=["GET"]),
            Route("/version", small.version, methods=["GET"]),
        ],
        exception_handlers={Exception: _told, FivefoldError: _told, ApiError: _told, HTTPException: _http},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return KeyCheck(app, api_keys)


async def _http(_: Request, error: Exception) -> Response:
    """No such path, or the wrong method for it."""
    assert isinstance(error, HTTPException)
    message = {404: "there is no such path", 405: "this path takes another method"}.get(
        error.status_code, error.detail
    )
    return ApiError(error.status_code, message, headers=error.headers).response()


async def _told(_: Request, error: Exception) -> Response:
    """An error that was made for the client, one of the rooms below, or a fault of the server."""
    return of_error(error).response()
