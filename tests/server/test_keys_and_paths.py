"""Keys on every path but one, whatever a path looks like; strange paths and methods in OpenAI's form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fivefold.server import make_app

KEYS = ("first-key", "zweiter Schlüssel à")
PATHS = {
    "/v1/models": "GET", "/v1/models/tiny": "GET", "/v1/chat/completions": "POST", "/v1/completions": "POST",
    "/metrics": "GET", "/version": "GET", "/": "GET", "/nothing": "GET", "/docs": "GET",
    "//health": "GET", "/health/": "GET", "/health/../v1/models": "GET", "/Health": "GET", "/health ": "GET",
    "/health?": "GET", "/health\x00": "GET", "health": "GET", "": "GET", "/./health": "GET",
    "/health%2e": "GET", "/v1/models/../../health": "GET", "/health;a": "GET", "/health/x": "GET",
    "*": "OPTIONS",
}  # fmt: skip


@pytest.fixture(scope="module")
def locked(make_tiny: Callable[..., Any], run_app: Callable[..., Any]) -> Iterator[Any]:
    with run_app(make_app([make_tiny()], KEYS)) as process:
        yield process


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}".encode().decode("latin-1")}


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_no_path_but_health_answers_without_a_key(locked: Any, path: str) -> None:
    refused = [
        {}, bearer("wrong"), bearer(""), {"x-api-key": "wrong"}, {"authorization": KEYS[0]},
        {"authorization": f"Basic {KEYS[0]}"}, bearer(KEYS[0] + "x"), bearer(KEYS[0][:-1]),
    ]  # fmt: skip
    for headers in refused:
        reply = locked.ask(path, b"{}" if PATHS[path] == "POST" else None, PATHS[path], headers)
        assert reply.status == 401, path
        assert reply.headers["www-authenticate"] == "Bearer"
        error = reply.error
        assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
        assert all(key not in error["message"] for key in KEYS)


def test_paths_as_they_are_written(make_tiny: Callable[..., Any], run_server: Callable[..., Any]) -> None:
    """Over a connection, where paths are decoded: what is not health's path is not open."""
    statuses = {
        "/health": 200, "/health?a=/v1": 200, "/%68ealth": 200, "http://other/health": 200,
        "/v1/models": 401, "//health": 401, "/health/": 401, "/health/../v1/models": 401, "/health/..": 401,
        "/%2e/health": 401, "/v1/%6dodels": 401, "/health%2f..%2fv1%2fmodels": 401, "/health%00": 401,
        "/v1/models?/health": 401, "http://health/v1/models": 401, "/health%3f": 401, "/health;": 401,
    }  # fmt: skip
    with run_server(make_tiny(), KEYS) as server:
        for path, expected in statuses.items():
            with server.connect() as connection, connection.makefile("rb") as reader:
                connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
                assert int(reader.readline().split()[1]) == expected, path


def test_health_needs_none(locked: Any) -> None:
    assert locked.ask("/health").json == {"status": "ok"}
    assert locked.ask("/health", headers=bearer("wrong")).status == 200


@pytest.mark.parametrize("key", KEYS)
def test_either_key_in_either_header_opens(locked: Any, key: str) -> None:
    raw = key.encode().decode("latin-1")
    for headers in (bearer(key), {"authorization": f"bearer  {raw} "}, {"x-api-key": raw}):
        assert locked.ask("/v1/models", headers=headers).status == 200
        body = {"prompt": "a", "max_tokens": 1}
        assert locked.ask("/v1/completions", body, headers=headers).status == 200
        assert locked.ask("/nothing", headers=headers).status == 404


def test_only_plain_http_gets_through(locked: Any) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/v1/models", "headers": []}
    locked.run(locked.app(scope, receive, send))
    assert sent[0]["type"] == "websocket.http.response.start" or sent[0].get("status") == 401


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1", "/v1/", "/v1/embeddings", "//health", "/health/", "/v1/models/", "/v1/chat/completions/",
        "/V1/models", "/docs", "/openapi.json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_strange_path(tiny_app: Any, path: str, method: str) -> None:
    reply = tiny_app.ask(path, b"{}" if method == "POST" else None, method)
    if path == "/v1/models/" and method == "POST":
        assert reply.status == 405
        return
    assert reply.status == 404
    assert reply.error["type"] == "not_found_error"


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        *(("/v1/completions", m, "POST") for m in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD")),
        ("/v1/chat/completions", "GET", "POST"),
        ("/v1/models", "POST", "GET"),
        ("/v1/models/tiny", "DELETE", "GET"),
        ("/health", "POST", "GET"),
        ("/metrics", "POST", "GET"),
    ],
)
def test_a_wrong_method(tiny_app: Any, path: str, method: str, allowed: str) -> None:
    reply = tiny_app.ask(path, b"" if method == "POST" else None, method)
    assert reply.status == 405
    assert reply.error["type"] == "invalid_request_error"
    assert allowed in reply.headers["allow"]


def test_models_are_listed_and_told(tiny_app: Any) -> None:
    listed = tiny_app.ask("/v1/models").json
    assert listed["object"] == "list"
    (model,) = listed["data"]
    told = ("id", "object", "created", "owned_by", "max_model_len", "aliases")
    assert [model[key] for key in told] == ["tiny", "model", 1234, "fivefold", 96, ["small", "default"]]
    for name in ("tiny", "small", "default"):
        assert tiny_app.ask(f"/v1/models/{name}").json == model
    missing = tiny_app.ask("/v1/models/a/b")
    assert missing.status == 404
    assert missing.error["code"] == "model_not_found"
    assert "version" in tiny_app.ask("/version").json


def test_health_is_503_when_the_model_cannot_answer(
    make_tiny: Callable[..., Any], run_app: Callable[..., Any]
) -> None:
    served = make_tiny()
    with run_app(make_app([served])) as process:
        assert process.ask("/health").status == 200
        process.run(served.engine.close())
        reply = process.ask("/health")
        assert reply.status == 503
        assert reply.error["code"] == "unhealthy"
        answer = process.ask("/v1/completions", {"prompt": "a"})
        assert answer.status == 500
        assert "stopped" in answer.error["message"]
