"""Errors as a client sees them: always OpenAI's form, whatever went wrong and wherever.

`{"error": {"message", "type", "param", "code"}}` with an HTTP status; in a stream that has begun, the same
object as an event of its own. Nothing of the inside is told but what an error was made to say.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from fivefold.core.errors import FivefoldError, InputError, OverloadedError, UnsupportedError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    501: "not_supported_error",
    502: "upstream_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """What a request is answered with instead of an answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The JSON object."""
        error = {
            "message": self.message,
            "type": _TYPES.get(self.status, "server_error"),
            "param": self.param,
            "code": self.code,
        }
        return msgspec.json.encode({"error": error})

    def response(self) -> Response:
        """The whole answer."""
        return Response(self.body(), self.status, self.headers, "application/json")


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400: the request itself is wrong."""
    return ApiError(400, message, param=param, code=code)


def not_supported(what: str, param: str) -> ApiError:
    """A 400 for a well-formed wish that this server does not fulfil."""
    return bad_request(f"{what} is not supported by this server", param, "not_supported")


def of_error(error: Exception) -> ApiError:
    """The answer to an error from the rooms below."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, OverloadedError):
        wait = str(max(1, round(error.retry_after)))
        return ApiError(503, error.line(), code="overloaded", headers={"retry-after": wait})
    if isinstance(error, UnsupportedError):
        return bad_request(error.line(), error.where or None, "not_supported")
    if isinstance(error, InputError):
        return bad_request(error.line(), error.where or None)
    if isinstance(error, FivefoldError):
        return ApiError(500, error.line())
    return ApiError(500, "the server has a fault of its own; its log says more", code="internal_error")
