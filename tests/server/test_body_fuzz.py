"""Any body at all is answered: with 200, or with a 4xx in OpenAI's form. Never with a fault of the server."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fivefold.server.protocol import ChatRequest, CompletionRequest

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SETTINGS = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)

texts = st.text(max_size=12) | st.sampled_from(
    ["hello", "<|end|>", "tiny", "user", "auto", "none", "\x00", "🦀"]
)
numbers = (
    st.integers(-3, 300)
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, 1, -1, 2**31, 2**63, 10**400, 1e308, -0.0, 1e-320])
)
scalars = st.none() | st.booleans() | numbers | texts
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)

parts = st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", 5]), "text": texts | st.none()})
calls = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": texts, "arguments": texts | anything})},
    optional={"id": anything, "type": st.just("function")},
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]) | anything},
    optional={
        "content": texts | st.lists(parts, max_size=3) | anything,
        "tool_calls": st.lists(calls, max_size=2) | anything,
        "name": texts | anything,
        "tool_call_id": texts | anything,
    },
)
tools = st.fixed_dictionaries(
    {"type": st.just("function"), "function": st.fixed_dictionaries({"name": texts, "parameters": anything})}
)

LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["tiny", "small", None]),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "n": st.integers(1, 3),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({}, optional={"include_usage": st.booleans()}),
    "stop": texts | st.lists(texts, max_size=3),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "repetition_penalty": st.floats(0.1, 3),
    "logit_bias": st.dictionaries(st.integers(0, 300).map(str), st.floats(-200, 200), max_size=3),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "top_k": st.integers(-1, 300),
    "min_p": st.floats(0, 1),
    "min_tokens": st.integers(0, 4),
    "stop_token_ids": st.lists(st.integers(-5, 400), max_size=4),
    "logprobs": st.booleans() | st.integers(0, 20),
    "top_logprobs": st.integers(0, 20),
    "messages": st.lists(messages, max_size=3),
    "tools": st.lists(tools, max_size=2),
    "tool_choice": st.sampled_from(["auto", "none", "required"]),
    "prompt": st.text(min_size=1, max_size=20) | st.lists(st.integers(0, 264), min_size=1, max_size=8),
    "chat_template_kwargs": st.dictionaries(st.just("enable_thinking"), anything, max_size=1),
    "return_token_ids": st.booleans(),
    "ignore_eos": st.booleans(),
    "cache_salt": texts,
}


def bodies(kind: type[msgspec.Struct], needed: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Objects of some of the protocol's fields, most with values that may be right."""
    names = [
        field.name for field in msgspec.structs.fields(kind) if field.name not in ("max_tokens", *needed)
    ]
    values = {
        name: st.one_of([LIKELY[name]] * 8 + [anything]) if name in LIKELY else anything for name in names
    }
    likely = [name for name in names if name in LIKELY]
    chosen = st.lists(st.sampled_from(likely * 9 + names), max_size=4, unique=True)
    some = chosen.flatmap(lambda picked: st.fixed_dictionaries({name: values[name] for name in picked}))
    few = st.one_of([st.integers(1, 4)] * 8 + [anything])
    most = st.fixed_dictionaries({**needed, "max_tokens": few})
    return st.tuples(some, most).map(lambda pair: {**pair[0], **pair[1]})


likely_messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": texts}),
    min_size=1,
    max_size=2,
)
chat_bodies = bodies(
    ChatRequest, {"messages": st.one_of([likely_messages] * 8 + [st.lists(messages), anything])}
)
text_bodies = bodies(CompletionRequest, {"prompt": st.one_of([LIKELY["prompt"]] * 8 + [anything])})


def check(app: Any, path: str, raw: bytes) -> int:
    """Ask, and look at the form of the answer."""
    reply = app.ask(path, raw)
    if reply.status == 200:
        if reply.headers["content-type"] == "text/event-stream":
            assert all("error" not in chunk for chunk in reply.chunks)
        else:
            assert reply.json["choices"]
            assert reply.json["usage"]["completion_tokens"] >= 1
    else:
        assert 400 <= reply.status < 500, reply.body
        assert reply.error["type"]
    return int(reply.status)


def good(app: Any) -> None:
    assert check(app, TEXT, b'{"prompt": "hello", "max_tokens": 1}') == 200
    figures = app.ask("/metrics").body.decode()
    assert 'num_requests_running{engine="0",model_name="tiny"} 0.0' in figures


@SETTINGS
@given(body=chat_bodies)
@example(body={"messages": [{"role": "user", "content": "a"}], "max_tokens": 10**400})
@example(
    body={"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}], "max_tokens": 1}
)
def test_chat_bodies(tiny_app: Any, body: Any) -> None:
    check(tiny_app, CHAT, json.dumps(body).encode())


@SETTINGS
@given(body=text_bodies)
def test_completion_bodies(tiny_app: Any, body: Any) -> None:
    check(tiny_app, TEXT, json.dumps(body).encode())


@SETTINGS
@given(body=chat_bodies)
def test_chat_bodies_with_tools_in_a_dialect(scripted_app: Any, body: Any) -> None:
    check(scripted_app, CHAT, json.dumps(body).encode())


@SETTINGS
@given(value=anything, path=st.sampled_from([CHAT, TEXT]))
def test_any_json(tiny_app: Any, value: Any, path: str) -> None:
    assert check(tiny_app, path, json.dumps(value).encode()) != 200


@SETTINGS
@given(body=text_bodies, place=st.integers(0, 200), data=st.binary(max_size=4))
def test_bytes_changed(tiny_app: Any, body: Any, place: int, data: bytes) -> None:
    raw = json.dumps({**body, "max_tokens": 2}).encode()
    check(tiny_app, TEXT, raw[:place] + data + raw[place + len(data) :])


def test_the_server_lives_after_all_that(tiny_app: Any) -> None:
    good(tiny_app)


def test_good_bodies_do_come_among_them(tiny_app: Any) -> None:
    """The bodies above are no use if none is ever right."""
    found: dict[int, int] = {}

    @settings(SETTINGS, max_examples=100)
    @given(body=text_bodies)
    def count(body: Any) -> None:
        status = check(tiny_app, TEXT, json.dumps(body).encode())
        found[status] = found.get(status, 0) + 1

    count()
    assert found[200] > 10
    assert found[400] > 10
