"""Reading a request's body: bounded in bytes, depth and time, then checked against its type.

A body that is too large is refused before it is read to the end, with or without a length that
says so; one that comes too slowly is given up.
"""

from __future__ import annotations

import asyncio
import re
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from .errors import ApiError, bad_request

MOST_BYTES = 32 << 20
MOST_SECONDS = 30.0
MOST_DEPTH = 64
MOST_VALUES = 1 << 20

_Body = TypeVar("_Body")
_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_OTHER = bytes(set(range(256)) - set(b"[]{}"))


class Addressed(msgspec.Struct):
    """What of a body says where it goes, and how its answer comes back."""

    model: str | None = None
    stream: bool | None = None


async def read_raw(request: Request) -> bytes:
    """The bytes of a body, bounded in number and shape; ApiError if they are not."""
    try:
        raw = await asyncio.wait_for(_bytes(request), MOST_SECONDS)
    except TimeoutError:
        close = {"connection": "close"}
        raise ApiError(408, f"the body did not arrive within {MOST_SECONDS:g} s", headers=close) from None
    except ClientDisconnect:
        raise bad_request("the client went away") from None
    _check_shape(raw)
    return raw


def decoded(raw: bytes, kind: type[_Body]) -> _Body:
    """A body as `kind`; ApiError says what is wrong and with which field."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"the body is not JSON: {error}") from None


async def gone(receive: Receive) -> None:
    """Wait until the client goes away, once its body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _bytes(request: Request) -> bytes:
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MOST_BYTES:
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise _too_large()
        parts.append(part)
    return b"".join(parts)


def _too_large() -> ApiError:
    message = f"the body is larger than {MOST_BYTES >> 20} MiB"
    return ApiError(413, message, code="body_too_large", headers={"connection": "close"})


def _check_shape(raw: bytes) -> None:
    """Refuse nesting and numbers of values that no request needs, before anything is made of them."""
    if raw.count(b"[") + raw.count(b"{") <= MOST_DEPTH and raw.count(b",") <= MOST_VALUES:
        return
    bare = _STRINGS.sub(b"", raw)
    if bare.count(b",") > MOST_VALUES:
        raise bad_request(f"the body has more than {MOST_VALUES} values")
    if bare.count(b"[") + bare.count(b"{") > MOST_VALUES:
        raise bad_request(f"the body has more than {MOST_VALUES} values")
    brackets = bare.translate(bytes.maketrans(b"{}", b"[]"), _OTHER)
    for _ in range(MOST_DEPTH):
        left = brackets.replace(b"[]", b"")
        if len(left) == len(brackets):
            break
        brackets = left
    if brackets:
        raise bad_request(f"the body is nested deeper than {MOST_DEPTH}, or its brackets do not match")


def _wrong_field(told: str) -> ApiError:
    """msgspec's sentence, with the field's name taken out of it."""
    match = _PLACE.search(told)
    param = match[1].split("[...]")[0] if match else None
    missing = re.match(r"Object missing required field `([^`]+)`", told)
    if missing is not None:
        param = f"{param}.{missing[1]}" if param else missing[1]
        return bad_request(f"{param} is missing", param)
    what = _PLACE.sub("", told).replace("`", "")
    what = what[:1].lower() + what[1:]
    return bad_request(f"{param}: {what}" if param else what, param)
