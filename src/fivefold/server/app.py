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

from .admin import Admin
from .auth import KeyCheck
from .endpoints import Generation, Small, chat_request, completion_request, infill_request
from .errors import ApiError, of_error
from .metrics import Metrics
from .models import Models
from .served import ServedModel


def make_app(
    served: Models | Sequence[ServedModel],
    api_keys: Sequence[str] = (),
    ready: Callable[[], None] = lambda: None,
) -> ASGIApp:
    """The ASGI application for these models; `ready` is called when requests can be answered.

    Keys are the models' own where they come from a configuration.
    """
    models = served if isinstance(served, Models) else Models.of(served, api_keys)
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

    chat, text, infill = "/chat/completions", "/completions", "/fim/completions"
    app = Starlette(
        routes=[
            Route(f"/v1{chat}", Generation(models, metrics, chat, chat_request)),
            Route(f"/v1{text}", Generation(models, metrics, text, completion_request)),
            Route(f"/v1{infill}", Generation(models, metrics, infill, infill_request)),
            Route("/v1/models", small.models, methods=["GET"]),
            Route("/v1/models/{name:path}", small.model, methods=["GET"]),
            Route("/admin/reload", Admin(models).reload, methods=["POST"]),
            Route("/health", small.health, methods=["GET"]),
            Route("/metrics", small.metrics, methods=["GET"]),
            Route("/version", small.version, methods=["GET"]),
        ],
        exception_handlers={Exception: _told, FivefoldError: _told, ApiError: _told, HTTPException: _http},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return KeyCheck(app, lambda: models.table.api_keys)


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
