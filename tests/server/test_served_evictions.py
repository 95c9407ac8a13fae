"""Evictions over HTTP: what a request asks for, what it cannot have, and that nobody else notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_lookahead import write_tiny_with_lookahead

from fivefold.engine import LoadOptions
from fivefold.server import Maker, Models, Source, make_app, read_config

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
PROMPT = list(range(60, 130))
BODY: dict[str, Any] = {
    "prompt": PROMPT, "max_tokens": 16, "temperature": 0, "ignore_eos": True, "logprobs": 1,
    "return_token_ids": True,
}  # fmt: skip
PLAIN = f'[[model]]\nname = "plain"\nsource = "{TINY}"\nmemory = "1MB"\n'
FILE = PLAIN + (
    '[[model]]\nname = "evicts"\nsource = "{tiny}"\nmemory = "1MB"\neviction = "snapkv"\nbudget = 24\n'
    "eviction_least = 64\n"
    '[[model]]\nname = "ragged"\nsource = "{tiny}"\nmemory = "1MB"\neviction = "adakv"\nbudget = 0.4\n'
    "eviction_least = 0\n"
)


class Served:
    """A server of a file that may change."""

    def __init__(self, path: Path, run_app: Callable[..., Any]) -> None:
        self.path = path
        maker = Maker(Path, LoadOptions(threads=1, max_rows=64), time.time, lambda: 1 << 26)
        self.models = Models.prepared(read_config(path), maker, Source(lambda: read_config(path), maker))
        self._run = run_app(make_app(self.models))
        self.process = self._run.__enter__()

    def close(self) -> None:
        self._run.__exit__(None, None, None)

    def choice(self, model: str, **fields: Any) -> Any:
        """The choice of a completion and its usage."""
        reply = self.process.ask(TEXT, {**BODY, "model": model, **fields})
        assert reply.status == 200, reply.body
        told = reply.json
        return told["choices"][0], told["usage"]["prompt_tokens_details"].get("kept_tokens")

    def refused(self, model: str, **fields: Any) -> dict[str, Any]:
        """The error of a completion and of a chat, which are the same."""
        found = []
        for path, body in ((TEXT, BODY), (CHAT, {"messages": [{"role": "user", "content": "hello"}]})):
            reply = self.process.ask(path, {**body, "model": model, **fields})
            assert reply.status == 400, reply.body
            found.append(reply.error)
        assert found[0] == found[1]
        return dict(found[0])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, run_app: Callable[..., Any]) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("evictions")
    path = folder / "fivefold.toml"
    path.write_text(FILE.replace("{tiny}", str(write_tiny_with_lookahead(folder))))
    served = Served(path, run_app)
    yield served
    served.close()


def test_a_models_eviction_holds_for_long_prompts(server: Served) -> None:
    plain, kept = server.choice("plain")
    assert kept is None
    evicted, kept = server.choice("evicts")
    assert kept == 24
    assert evicted["token_ids"][0] == plain["token_ids"][0], "the first token is chosen before anything goes"
    assert evicted["token_ids"] != plain["token_ids"]
    short = {"prompt": PROMPT[:63]}
    assert server.choice("evicts", **short) == server.choice("plain", **short)
    assert server.choice("ragged", prompt=PROMPT[:30])[1] == 12


def test_none_is_as_if_there_were_no_eviction(server: Served) -> None:
    """To the last bit of the logarithms."""
    plain = server.choice("plain")
    for model in ("evicts", "ragged"):
        assert server.choice(model, eviction="none") == plain
    assert server.choice("plain", eviction="none", budget=0, eviction_every=0) == plain
    assert server.choice("plain", eviction=None, budget=None) == plain


def test_a_request_says_what_it_wants(server: Served) -> None:
    """What it leaves out is the model's; the same eviction gives the same answer, however it came about."""
    default = server.choice("evicts")
    assert server.choice("plain", eviction="snapkv", budget=24) == default
    assert server.choice("evicts", budget=24) == default
    assert server.choice("evicts", budget=70)[1] is None, "the prompt has no more"
    other, kept = server.choice("evicts", budget=16)
    assert kept == 16 and other["logprobs"] != default[0]["logprobs"]
    assert server.choice("evicts", eviction="window")[1] == 24
    assert server.choice("evicts", prompt=PROMPT[:40], budget=0.5)[1] == 20, "it asks for itself"
    again = server.choice("evicts", eviction_every=4)
    assert again[1] == 24 and again[0] != default[0]
    assert server.choice("plain", eviction="snapkv", budget=24, eviction_every=4) == again
    learned = server.choice("evicts", eviction="lookahead")
    assert learned[1] == 24 and learned[0] != default[0]
    assert server.choice("ragged", eviction="snapkv", budget=24) == default
    assert server.choice("evicts", n=2, temperature=1, prompt=[PROMPT, PROMPT])[1] == 48


@pytest.mark.parametrize(
    ("model", "fields", "param", "named"),
    [
        ("plain", {"eviction": "lookahead", "budget": 16}, "eviction", "fivefold train lookahead "),
        ("plain", {"eviction": "snapkv"}, "budget", "eviction 'snapkv' has no budget; give the entries"),
        ("plain", {"budget": 16}, "budget", "16 is given, and nothing is evicted; choose an eviction too"),
        ("evicts", {"eviction": "none", "budget": 16}, "budget", "nothing is evicted"),
        ("plain", {"eviction_every": 4}, "eviction_every", "nothing is evicted"),
        ("evicts", {"eviction": "adakv"}, "eviction", 'load the model with eviction = "adakv"'),
        ("ragged", {"eviction_every": 4}, "eviction_every", "is done once, behind the prompt"),
        ("evicts", {"eviction": "expected_attention"}, "eviction", "is for measurements alone"),
        ("evicts", {"eviction": "best"}, "eviction", "there is no eviction policy 'best'; choose of none"),
        ("evicts", {"budget": 1.5}, "budget", "a budget cannot be 1.5; give a number of entries"),
        ("evicts", {"budget": 0}, "budget", "has no budget"),
    ],
)
def test_what_cannot_be_is_refused(
    server: Served, model: str, fields: dict[str, Any], param: str, named: str
) -> None:
    error = server.refused(model, **fields)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert named in error["message"] and "\n" not in error["message"]
    assert server.refused(model, **fields, stream=True) == error, "before the stream begins"


def test_evicted_and_others_in_one_batch_get_what_they_get_alone(server: Served) -> None:
    bodies = [
        {**BODY, "model": "evicts", "prompt": [*PROMPT[:place], *range(20, 92 - place)], **fields}
        for place in (0, 20, 40)
        for fields in (
            {}, {"eviction": "none"}, {"eviction": "lookahead", "budget": 20}, {"eviction": "laq"},
            {"eviction": "window", "eviction_every": 4}, {"temperature": 1, "seed": 3},
        )
    ]  # fmt: skip

    async def together(stream: bool) -> list[Any]:
        asked = [server.process.answer(TEXT, {**body, "stream": stream}) for body in bodies]
        return list(await asyncio.gather(*asked))

    expected = [server.process.ask(TEXT, body).json["choices"][0]["token_ids"] for body in bodies]
    whole = server.process.run(together(False))
    assert [reply.json["choices"][0]["token_ids"] for reply in whole] == expected
    streamed = server.process.run(together(True))
    for reply, tokens in zip(streamed, expected, strict=True):
        parts = [chunk["choices"][0].get("token_ids", []) for chunk in reply.chunks]
        assert [token for part in parts for token in part] == tokens


def test_a_stream_tells_what_was_kept(server: Served) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = server.process.ask(TEXT, {**BODY, "model": "evicts", "budget": 20, **options}).chunks
    assert chunks[-1]["usage"]["prompt_tokens_details"]["kept_tokens"] == 20


def test_metrics_count_evictions(server: Served) -> None:
    def counted() -> tuple[float, float]:
        found = {}
        for line in server.process.ask("/metrics").body.decode().splitlines():
            if 'model_name="evicts"' in line:
                found[line.partition("{")[0]] = float(line.rpartition(" ")[2])
        return found["fivefold:evictions_total"], found["fivefold:evicted_entries_total"]

    times, entries = counted()
    server.choice("evicts", budget=20)
    assert counted() == (times + 1, entries + 50)
    server.choice("evicts", budget=20, eviction_every=6)
    assert counted() == (times + 4, entries + 50 + 62)
    server.choice("evicts", eviction="none")
    assert counted() == (times + 4, entries + 50 + 62)


def test_a_reload_changes_the_eviction(tmp_path: Path, run_app: Callable[..., Any]) -> None:
    path = tmp_path / "fivefold.toml"
    path.write_text(PLAIN)
    served = Served(path, run_app)
    try:
        plain = served.choice("plain")
        path.write_text(PLAIN + 'eviction = "pyramidkv"\nbudget = 0.3\neviction_least = 0\n')
        reply = served.process.ask("/admin/reload", method="POST", client="127.0.0.1")
        assert reply.json["models"] == {"plain": "changed"}
        assert served.choice("plain")[1] == 21
        assert served.choice("plain", eviction="none") == plain
    finally:
        served.close()
