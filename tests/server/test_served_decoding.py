"""Decoding over HTTP: the same tokens however they are written, told in usage and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from guessed import Clock
from prometheus_client.parser import text_string_to_metric_families

from fivefold.engine import AsyncEngine, Engine
from fivefold.server import make_app

TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
BODY: dict[str, Any] = {
    "prompt": list(range(60, 80)), "max_tokens": 50, "temperature": 0, "ignore_eos": True, "logprobs": 1,
    "frequency_penalty": -1.0, "return_token_ids": True,
}  # fmt: skip


@pytest.fixture
def app(make_tiny: Callable[..., Any], run_app: Callable[..., Any]) -> Iterator[Any]:
    """An application whose steps seem to take equally long, whatever is in them."""
    served = make_tiny()
    served.engine = AsyncEngine(Engine(served.engine.loaded, clock=Clock()))
    with run_app(make_app([served])) as process:
        yield process


def counted(app: Any) -> tuple[float, float]:
    """Guessed and accepted tokens as the metrics have them."""
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(app.ask("/metrics").body.decode())
        for sample in family.samples
        if sample.name.startswith("vllm:spec_decode_num")
    }
    names = ("vllm:spec_decode_num_draft_tokens_total", "vllm:spec_decode_num_accepted_tokens_total")
    return found[names[0]], found[names[1]]


def test_tokens_are_the_same_and_guesses_are_told(app: Any) -> None:
    assert counted(app) == (0, 0)
    plain = app.ask(TEXT, {**BODY, "decoding": "autoregressive"}).json
    assert "completion_tokens_details" not in plain["usage"] and counted(app) == (0, 0)
    for name in ("auto", "speculative", None):
        before = counted(app)
        told = app.ask(TEXT, {**BODY, "decoding": name}).json
        assert told["choices"] == plain["choices"]
        details = told["usage"]["completion_tokens_details"]
        accepted, rejected = details["accepted_prediction_tokens"], details["rejected_prediction_tokens"]
        assert accepted > 10 and rejected >= 0
        assert told["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"] == 50
        after = counted(app)
        assert (after[0] - before[0], after[1] - before[1]) == (accepted + rejected, accepted)


def test_a_stream_has_the_same_text(app: Any) -> None:
    body = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
    whole = app.ask(TEXT, BODY).json["choices"][0]
    chunks = app.ask(TEXT, body).chunks
    tokens = [token for chunk in chunks for one in chunk["choices"] for token in one.get("token_ids") or ()]
    assert tokens == whole["token_ids"]
    assert "".join(one["text"] for chunk in chunks for one in chunk["choices"]) == whole["text"]
    assert len(chunks) < 45, "several tokens come at once"
    assert chunks[-1]["usage"]["completion_tokens_details"]["accepted_prediction_tokens"] > 10


@pytest.mark.parametrize("path", [TEXT, CHAT])
def test_what_is_refused(app: Any, path: str) -> None:
    body = {"prompt": "hello"} if path == TEXT else {"messages": [{"role": "user", "content": "hello"}]}
    for name, said in (("fast", "there is no decoding 'fast'"), ("diffusion", "is not a diffusion model")):
        reply = app.ask(path, {**body, "max_tokens": 4, "decoding": name})
        assert reply.status == 400
        assert (reply.error["param"], reply.error["type"]) == ("decoding", "invalid_request_error")
        assert said in reply.error["message"]
