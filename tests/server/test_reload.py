"""Reading the configuration again: requests in flight end where they began, a bad file changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from second_model import write_second_model

from fivefold.core.errors import FileError
from fivefold.engine import LoadOptions
from fivefold.server import Maker, Models, Source, make_app, read_config
from fivefold.server import models as models_module

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
BODY: dict[str, Any] = {"prompt": "hello", "max_tokens": 40, "ignore_eos": True, "temperature": 0}


class Configured:
    """A server on a file that the test writes again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "fivefold.toml"
        self.second = folder / "second.gguf"
        write_second_model(self.second)
        self.changed: list[Any] = []
        self.process: Any = None
        self.models: Any = None

    def write(self, *models: str, server: str = 'memory = "64MB"') -> None:
        tables = "".join(f"[[model]]\n{model}\n" for model in models)
        self.path.write_text(f"[server]\n{server}\n{tables}")

    def start(self, stack: contextlib.ExitStack, run_app: Callable[..., Any]) -> None:
        maker = Maker(Path, LoadOptions(threads=1), time.time, lambda: 1 << 26)
        source = Source(lambda: read_config(self.path), maker, self.changed.append)
        self.models = Models.prepared(read_config(self.path), maker, source)
        self.process = stack.enter_context(run_app(make_app(self.models)))

    def ask(self, *given: Any, **options: Any) -> Any:
        return self.process.ask(*given, **options)

    def reload(self, **options: Any) -> Any:
        return self.process.ask("/admin/reload", method="POST", headers=options, client="127.0.0.1")

    def states(self) -> dict[str, str]:
        return {one["id"]: one["state"] for one in self.ask("/v1/models").json["data"]}


@pytest.fixture
def server(tmp_path: Path, run_app: Callable[..., Any]) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        configured = Configured(tmp_path)
        configured.begin = lambda: configured.start(stack, run_app)  # type: ignore[attr-defined]
        yield configured


def line(source: Path, name: str = "m", **keys: Any) -> str:
    rest = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f'name = "{name}"\nsource = "{source}"\n{rest}'


def test_a_models_line_is_changed_and_others_stay(server: Any) -> None:
    server.write(line(TINY, memory=1_000_000), line(TINY, "other", memory=1_000_000))
    server.begin()
    before = server.ask(TEXT, BODY).json["choices"][0]["text"]
    assert server.ask(TEXT, {**BODY, "model": "other"}).status == 200
    other = server.models.residency.resident(server.models.table.entries[1].recipe)
    server.write(
        line(server.second, memory=1_000_000), line(TINY, "other", memory=1_000_000, aliases='["o"]')
    )
    reply = server.reload()
    assert reply.json == {"status": "ok", "models": {"m": "changed", "other": "changed"}, "removed": []}
    assert server.states() == {"m": "loaded", "other": "loaded"}
    assert server.models.residency.resident(server.models.table.entries[1].recipe) is other
    after = server.ask(TEXT, BODY).json
    assert after["choices"][0]["text"] != before
    assert after["model"] == "m"
    assert server.ask(TEXT, {**BODY, "model": "o"}).json["model"] == "other"
    assert server.ask("/v1/models/m").json["max_model_len"] == 128
    assert len(server.changed) == 1
    server.write(line(TINY, "other", memory=1_000_000))
    assert server.reload().json["removed"] == ["m"]
    assert server.ask(TEXT, {**BODY, "model": "m"}).status == 404
    assert server.ask(TEXT, BODY).json["model"] == "other"


@pytest.mark.parametrize("memory", ["64MB", "700KB"], ids=["room for both", "room for one"])
def test_requests_in_flight_end_on_the_old_model(
    server: Any, monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    """With room for one model only, those who ask meanwhile wait, and nobody is refused."""
    keys = {"memory": 1_000_000} if memory == "64MB" else {}
    server.write(line(TINY, **keys), server=f'memory = "{memory}"')
    server.begin()
    expected = server.ask(TEXT, BODY).json["choices"][0]["text"]
    runner = server.models.residency.resident(server.models.table.default.recipe).engine.loaded.runner
    run = runner.run

    def slow(*given: Any, **options: Any) -> Any:
        time.sleep(0.01)
        return run(*given, **options)

    monkeypatch.setattr(runner, "run", slow)
    server.write(line(server.second, **keys), server=f'memory = "{memory}"')

    async def meanwhile() -> list[Any]:
        old = [
            asyncio.ensure_future(server.process.answer(TEXT, {**BODY, "stream": s})) for s in (False, True)
        ]
        while (
            server.models.residency.resident(server.models.table.default.recipe).engine.figures().running < 2
        ):
            await asyncio.sleep(0.001)
        reload = asyncio.ensure_future(
            server.process.answer("/admin/reload", method="POST", client="127.0.0.1")
        )
        while server.models.table.default.context == 96:
            await asyncio.sleep(0.001)
        new = [asyncio.ensure_future(server.process.answer(TEXT, BODY)) for _ in range(3)]
        return list(await asyncio.gather(*old, reload, *new))

    whole, stream, reloaded, *new = server.process.run(meanwhile())
    assert reloaded.status == 200
    assert whole.json["choices"][0]["text"] == expected
    assert "".join(chunk["choices"][0]["text"] for chunk in stream.chunks) == expected
    assert [reply.status for reply in new] == [200] * 3
    assert {reply.json["choices"][0]["text"] for reply in new} != {expected}
    assert server.states() == {"m": "loaded"}


def test_a_bad_file_changes_nothing_and_says_why(server: Any) -> None:
    good = line(TINY, memory=1_000_000)
    server.write(good, server='port = 8000\nmemory = "64MB"')
    server.begin()
    table = server.models.table
    expected = server.ask(TEXT, BODY).body.partition(b'"choices"')[2]
    missing = server.path.with_name("none.gguf")
    for models, settings, named in (
        ([line(missing)], "", f"model 1: key source: {missing}: "),
        ([line(TINY, contxt=5)], "", "unknown key 'contxt'"),
        ([line(TINY, context=4000)], "", "model 1: key context: "),
        ([good, line(TINY)], "", "two models are called 'm'"),
        ([good], "port = 8001", "port has changed"),
        ([good], 'host = "::1"', "host or port has changed"),
        ([good], 'memory = "10KB"', "bytes of memory"),
        ([], "", "there is no [[model]]"),
        ([good, line(TINY, "b", decoding='"diffusion"')], "", "key decoding: tiny.gguf is not a diff"),
        ([good, line(TINY, "b", eviction='"snapkv"')], "", "eviction 'snapkv' has no budget"),
    ):
        server.write(*models, server=settings or 'port = 8000\nmemory = "64MB"')
        reply = server.reload()
        assert reply.status == 400, named
        error = reply.error
        assert error["code"] == "bad_configuration"
        assert named in error["message"]
        assert error["message"].startswith(str(server.path))
        assert server.models.table is table
        assert server.ask(TEXT, BODY).body.partition(b'"choices"')[2] == expected
    assert server.changed == []


@pytest.mark.parametrize("memory", ["64MB", "700KB"], ids=["room for both", "room for one"])
def test_a_new_model_that_does_not_load_leaves_the_old_one(
    server: Any, monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    keys = {"memory": 1_000_000} if memory == "64MB" else {}
    server.write(line(TINY, **keys), server=f'memory = "{memory}"')
    server.begin()
    expected = server.ask(TEXT, BODY).json["choices"][0]["text"]
    open_served = server.models.residency._open

    def fail(recipe: Any) -> Any:
        if recipe.path == server.second:
            raise FileError("a weight is broken", where=str(recipe.path), remedy="fetch it again")
        return open_served(recipe)

    monkeypatch.setattr(server.models.residency, "_open", fail)
    server.write(line(server.second, **keys), server=f'memory = "{memory}"')
    reply = server.reload()
    assert reply.status == 503
    assert "a weight is broken; fetch it again" in reply.error["message"]
    assert server.states() == {"m": "loaded"}
    assert server.ask(TEXT, BODY).json["choices"][0]["text"] == expected
    assert server.ask("/health").status == 200
    server.write(line(TINY, **keys), server=f'memory = "{memory}"')
    assert server.reload().json["models"] == {"m": "unchanged"}


def test_models_are_loaded_when_asked_for_and_unloaded_when_room_is_needed(server: Any) -> None:
    names = ("a", "b", "c")
    server.write(*(line(TINY, name, memory=120_000) for name in names), server='memory = "250KB"')
    server.begin()
    assert server.states() == {"a": "loaded", "b": "unloaded", "c": "unloaded"}
    for name, loaded in (("b", "ab"), ("a", "ab"), ("c", "ac"), ("c", "ac"), ("b", "bc")):
        assert server.ask(TEXT, {**BODY, "model": name}).status == 200
        assert {one for one, state in server.states().items() if state == "loaded"} == set(loaded)
        assert server.models.residency.used <= 250_000
    assert server.ask("/health").status == 200, "the default can answer: it is loaded when asked for"
    assert server.states()["a"] == "unloaded", "and looking at it does not load it"
    text = server.ask("/metrics").body.decode()
    for name, loads, asks in (("a", 1, 1), ("b", 2, 2), ("c", 1, 2)):
        labels = f'{{engine="0",model_name="{name}"}}'
        assert f"vllm:generation_tokens_total{labels} {40.0 * asks}" in text, "totals outlive the model"
        assert f"fivefold:model_loads_total{labels} {float(loads)}" in text
    bad = {**BODY, "model": "a", "n": 99}
    assert server.ask(TEXT, bad).status == 400
    assert server.states()["a"] == "unloaded", "a bad request loads nothing"


def test_who_asks_for_a_model_that_is_not_there_waits_or_is_told_when_to_come(server: Any) -> None:
    server.write(line(TINY, "a", memory=120_000), line(TINY, "b", wait=0, memory=120_000))
    server.begin()
    reply = server.ask(TEXT, {**BODY, "model": "b"})
    assert reply.status == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert reply.error["code"] == "overloaded"
    deadline = time.monotonic() + 60
    while server.states()["b"] != "loaded":
        assert time.monotonic() < deadline
        server.process.run(asyncio.sleep(0.01))
    assert server.ask(TEXT, {**BODY, "model": "b"}).status == 200


def test_a_model_that_cannot_be_loaded_is_a_503_with_the_reason(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.write(line(TINY, "a"), line(TINY, "b"))
    server.begin()

    def fail(_: Any) -> Any:
        raise FileError("a weight is broken", where="b.gguf", remedy="fetch it again")

    monkeypatch.setattr(server.models.residency, "_open", fail)
    for stream in (False, True):
        reply = server.ask(TEXT, {**BODY, "model": "b", "stream": stream})
        assert reply.status == 503
        assert reply.error["code"] == "model_not_loaded"
        assert "b.gguf: a weight is broken; fetch it again" in reply.error["message"]
        assert reply.headers["x-should-retry"] == "false"
    assert server.states() == {"a": "loaded", "b": "failed"}
    assert server.ask(TEXT, BODY).status == 200


def test_a_client_that_leaves_while_its_model_is_loaded_ends_nothing_else(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.write(line(TINY, "a"), line(TINY, "b"))
    server.begin()
    open_served = server.models.residency._open

    def slow(recipe: Any) -> Any:
        time.sleep(0.2)
        return open_served(recipe)

    monkeypatch.setattr(server.models.residency, "_open", slow)

    async def both() -> list[Any]:
        asks = [server.process.answer(TEXT, {**BODY, "model": "b"}, leaves=leaves) for leaves in (0.05, None)]
        return list(await asyncio.gather(*asks, return_exceptions=True))

    left, stayed = server.process.run(both())
    assert left.status == 400
    assert stayed.status == 200
    assert server.models.residency.loads["b"] == 1


@pytest.mark.parametrize("memory", ["64MB", "700KB"], ids=["room for both", "room for one"])
def test_many_clients_while_the_model_changes_again_and_again(server: Any, memory: str) -> None:
    keys = {"memory": 1_000_000} if memory == "64MB" else {}
    sources = [TINY, server.second]
    short = {**BODY, "max_tokens": 6}
    server.write(line(TINY, **keys), server=f'memory = "{memory}"')
    server.begin()
    texts: set[str] = set()

    async def client(number: int, over: asyncio.Event) -> int:
        asked = 0
        while not over.is_set():
            reply = await server.process.answer(TEXT, {**short, "stream": number % 2 == 0})
            assert reply.status == 200, reply.body
            told = reply.chunks if number % 2 == 0 else [reply.json]
            texts.add("".join(one["choices"][0]["text"] for one in told))
            asked += 1
        return asked

    async def swaps() -> list[int]:
        over = asyncio.Event()
        clients = [asyncio.ensure_future(client(number, over)) for number in range(6)]
        for number in range(1, 6):
            await asyncio.sleep(0.02)
            server.write(line(sources[number % 2], **keys), server=f'memory = "{memory}"')
            reply = await server.process.answer("/admin/reload", method="POST", client="127.0.0.1")
            assert reply.status == 200, reply.body
            assert server.models.residency.used <= server.models.residency.budget
        over.set()
        return list(await asyncio.gather(*clients))

    assert min(server.process.run(swaps(), 120)) >= 1
    assert len(texts) == 2, "an answer is of two models"
    assert server.states() == {"m": "loaded"}


def test_what_becomes_pinned_or_the_default_is_loaded_at_once(server: Any) -> None:
    def write(first: str, second: str, **keys: Any) -> None:
        server.write(line(TINY, first, memory=120_000), line(TINY, second, memory=120_000, **keys))

    write("a", "b", wait=0)
    server.begin()
    assert server.states() == {"a": "loaded", "b": "unloaded"}
    write("a", "b", pinned="true")
    assert server.reload().json["models"] == {"a": "unchanged", "b": "changed"}
    assert server.states() == {"a": "loaded", "b": "loaded"}
    write("c", "a", wait=0)
    assert server.reload().json == {
        "status": "ok",
        "models": {"c": "added", "a": "changed"},
        "removed": ["b"],
    }
    assert server.states() == {"c": "loaded", "a": "loaded"}
    assert server.ask(TEXT, BODY).json["model"] == "c"


def test_an_unloaded_default_is_healthy_if_its_requests_wait(server: Any) -> None:
    for wait, health in ((300, 200), (0, 503)):
        server.write(line(TINY, "a", memory=120_000, wait=wait, idle=0.05))
        server.begin() if server.models is None else server.reload()
        deadline = time.monotonic() + 60
        while server.states()["a"] != "unloaded":
            assert time.monotonic() < deadline
            server.process.run(asyncio.sleep(0.01))
        assert server.ask("/health").status == health


def test_only_this_machine_may_reload_without_keys(server: Any) -> None:
    server.write(line(TINY))
    server.begin()
    ask = server.process.ask
    for client in ("10.0.0.5", "::2", "test", "::ffff:10.0.0.1"):
        assert ask("/admin/reload", method="POST", client=client).error["code"] == "not_local"
    for name in ("Origin", "X-Forwarded-For", "Forwarded"):
        reply = ask("/admin/reload", method="POST", client="127.0.0.1", headers={name: "http://a"})
        assert reply.status == 403
    for client in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert ask("/admin/reload", method="POST", client=client).status == 200
    assert ask("/admin/reload", method="GET", client="127.0.0.1").status == 405


def test_keys_come_with_the_file_and_reload_asks_for_one(server: Any) -> None:
    server.write(line(TINY), server='api_keys = ["one"]')
    server.begin()
    one, two = ({"authorization": f"Bearer {key}"} for key in ("one", "two"))
    ask = server.process.ask
    assert ask("/admin/reload", method="POST", client="127.0.0.1").status == 401
    server.write(line(TINY), server='api_keys = ["two"]')
    assert ask("/admin/reload", method="POST", client="10.0.0.5", headers=one).status == 200
    assert ask("/v1/models", headers=one).status == 401
    assert ask("/v1/models", headers=two).status == 200


def test_a_server_without_a_file_has_nothing_to_read_again(tiny_app: Any) -> None:
    reply = tiny_app.ask("/admin/reload", method="POST", client="127.0.0.1")
    assert reply.status == 400
    assert "--config" in reply.error["message"]


def test_a_signal_that_fails_is_told_in_the_log(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    server.write(line(TINY))
    server.begin()
    server.write(line(TINY, colour=1))
    server.process.run(server.models.reload_logged())
    assert f"{server.path}: model 1: unknown key 'colour'" in caplog.text
    assert models_module.__name__  # the room that logs
