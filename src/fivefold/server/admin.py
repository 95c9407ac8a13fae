"""Reading the configuration again over HTTP.

With keys configured, one is asked for as on every path. Without, only this machine may ask, and neither a
page in a browser nor a proxy for others counts as that.
"""

from __future__ import annotations

import ipaddress

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fivefold.core.errors import FivefoldError, InputError
from fivefold.engine import LoadError

from .errors import ApiError, bad_request
from .models import Models

_FOR_OTHERS = ("origin", "forwarded", "x-forwarded-for", "x-real-ip")


class Admin:
    """The endpoints that change the server."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def reload(self, request: Request) -> Response:
        """Take the configuration as it is in the file now; nothing changes if it is wrong."""
        if not self._models.table.api_keys and not _from_here(request):
            message = "without API keys only this machine may do that, and not through a browser or a proxy"
            raise ApiError(403, message, code="not_local")
        try:
            told = await self._models.reload()
        except LoadError as error:
            raise ApiError(503, error.line(), code="model_not_loaded",
                           headers={"x-should-retry": "false"}) from None  # fmt: skip
        except InputError as error:
            raise bad_request(error.line(), code="bad_configuration") from None
        except FivefoldError as error:
            raise ApiError(503, error.line(), code="model_not_loaded") from None
        return Response(msgspec.json.encode(told), media_type="application/json")


def _from_here(request: Request) -> bool:
    """Whether the connection comes from this machine, for itself."""
    if request.client is None or any(name in request.headers for name in _FOR_OTHERS):
        return False
    try:
        address = ipaddress.ip_address(request.client.host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
