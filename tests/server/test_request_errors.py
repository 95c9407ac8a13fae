"""Bad requests: OpenAI's form, the right status, the field by name, and a server that goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fivefold.engine import LoadedModel

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USER = {"role": "user", "content": "hello"}
GOOD: dict[str, dict[str, Any]] = {CHAT: {"messages": [USER]}, TEXT: {"prompt": "hello"}}
BOTH = (CHAT, TEXT)

WRONG_TYPES: dict[str, tuple[tuple[str, ...], list[Any]]] = {
    "model": (BOTH, [5, ["tiny"], {}, True]),
    "max_tokens": (BOTH, ["5", 1.5, [], True]),
    "temperature": (BOTH, ["hot", [1], True]),
    "top_p": (BOTH, ["1", {}]),
    "n": (BOTH, ["2", 1.5, True]),
    "stream": (BOTH, ["true", 1]),
    "stream_options": (BOTH, [True, []]),
    "stop": (BOTH, [5, [5], {"a": 1}]),
    "presence_penalty": (BOTH, ["0"]),
    "frequency_penalty": (BOTH, [[0]]),
    "logit_bias": (BOTH, [[5], "5", {"5": "much"}]),
    "seed": (BOTH, ["1", 0.5, True]),
    "top_k": (BOTH, ["1", 2.5]),
    "min_p": (BOTH, ["0.1"]),
    "repetition_penalty": (BOTH, [None.__class__.__name__, []]),
    "min_tokens": (BOTH, ["1", 0.5]),
    "stop_token_ids": (BOTH, [5, ["5"], [None], [0.5]]),
    "include_stop_str_in_output": (BOTH, ["yes", 1]),
    "ignore_eos": (BOTH, ["yes", 0]),
    "return_token_ids": (BOTH, [1]),
    "cache_salt": (BOTH, [5, ["a"]]),
    "eviction": (BOTH, [5, True, ["snapkv"]]),
    "budget": (BOTH, ["64", True, [64]]),
    "eviction_every": (BOTH, ["64", 0.5, True]),
    "denoiser": (BOTH, [5, ["low_confidence"]]),
    "caching": (BOTH, [5, True, ["dual"]]),
    "diffusing": (BOTH, ["yes", 1]),
    "messages": ((CHAT,), ["hello", {}, [5], ["hello"], None]),
    "max_completion_tokens": ((CHAT,), ["5", 0.5]),
    "logprobs": ((CHAT,), [5, "true"]),
    "top_logprobs": ((CHAT,), [True, "5"]),
    "tools": ((CHAT,), [{}, [5], "get"]),
    "tool_choice": ((CHAT,), [5, ["auto"]]),
    "response_format": ((CHAT,), ["json", 5]),
    "modalities": ((CHAT,), ["text", [5]]),
    "chat_template_kwargs": ((CHAT,), ["a", [5]]),
    "prompt": ((TEXT,), [5, {}, True, [0.5], [None], ["hello", None], [["hello"]], [True]]),
    "echo": ((TEXT,), ["no", 0]),
    "suffix": ((TEXT,), [5]),
    "edited": ((TEXT,), [5, ["a"]]),
    "rewritten": ((TEXT,), ["half", [0.5]]),
    "best_of": ((TEXT,), ["1"]),
}
TYPE_CASES = [
    (path, name, value) for name, (paths, values) in WRONG_TYPES.items() for path in paths for value in values
]

RANGES: list[tuple[tuple[str, ...], str, Any]] = [
    (BOTH, "max_tokens", 0), (BOTH, "max_tokens", -5), ((CHAT,), "max_completion_tokens", 0),
    (BOTH, "temperature", -0.1), (BOTH, "temperature", 1e9), (BOTH, "top_p", 0), (BOTH, "top_p", 1.1),
    (BOTH, "top_p", -1), (BOTH, "top_k", -2), (BOTH, "min_p", -0.1), (BOTH, "min_p", 1.1),
    (BOTH, "presence_penalty", 2.1), (BOTH, "frequency_penalty", -2.1), (BOTH, "repetition_penalty", 0),
    (BOTH, "repetition_penalty", -1), (BOTH, "min_tokens", -1), (BOTH, "n", 0), (BOTH, "n", -1),
    (BOTH, "n", 17), (BOTH, "stop", ""), (BOTH, "stop", ["a", ""]), (BOTH, "stop", ["a"] * 17),
    (BOTH, "stop", "a" * 257), (BOTH, "logit_bias", {"five": 1}), (BOTH, "logit_bias", {"-5": 1}),
    (BOTH, "logit_bias", {str(2**64): 1}), (BOTH, "logit_bias", {"٣": 1}),
    (BOTH, "logit_bias", {str(key): 0 for key in range(1025)}), (BOTH, "cache_salt", "a" * 257),
    ((CHAT,), "tools", [{"type": "function", "function": {"name": f"f{i}"}} for i in range(129)]),
    ((CHAT,), "messages", []), ((CHAT,), "messages", [USER] * 4097),
    ((TEXT,), "logprobs", 21), ((TEXT,), "logprobs", -1), ((TEXT,), "prompt", []), ((TEXT,), "prompt", [[]]),
    ((TEXT,), "prompt", ""), ((TEXT,), "prompt", [""]), ((TEXT,), "prompt", [265]),
    ((TEXT,), "prompt", [-1]), ((TEXT,), "prompt", [[5], [2**40]]), ((TEXT,), "prompt", ["a"] * 65),
    (BOTH, "eviction", "learned"), (BOTH, "eviction", "oracle"), (BOTH, "budget", 64), (BOTH, "budget", 1.0),
    (BOTH, "budget", -1), (BOTH, "budget", 10**30), (BOTH, "eviction_every", -1), (BOTH, "eviction_every", 8),
    ((TEXT,), "prompt", [5, "a"]), ((TEXT,), "prompt", [5, [5]]),
]  # fmt: skip
RANGE_CASES = [(path, name, value) for paths, name, value in RANGES for path in paths]

UNSUPPORTED: list[tuple[str, str, Any]] = [
    (CHAT, "response_format", {"type": "json_object"}),
    (CHAT, "response_format", {"type": "json_schema", "json_schema": {}}),
    (CHAT, "functions", []),
    (CHAT, "function_call", "auto"),
    (CHAT, "audio", {"voice": "a"}),
    (CHAT, "modalities", ["text", "audio"]),
    (CHAT, "web_search_options", {}),
    (CHAT, "suffix", "end"),
    (CHAT, "edited", "old"),
    (CHAT, "rewritten", 0.5),
    (CHAT, "chat_template", "{{ messages }}"),
    (CHAT, "continue_final_message", True),
    (CHAT, "tool_choice", "required"),
    (CHAT, "tool_choice", {"type": "function", "function": {"name": "f"}}),
    (TEXT, "echo", True),
    (TEXT, "suffix", "end"),
    (TEXT, "best_of", 2),
    *(
        (path, name, value)
        for path in BOTH
        for name, value in [
            ("prompt_logprobs", 0), ("prompt_logprobs", 1), ("use_beam_search", True),
            ("guided_json", {"type": "object"}),
            ("guided_regex", "a*"), ("structured_outputs", {"regex": "a"}),
        ]
    ),
]  # fmt: skip


def refused(app: Any, path: str, body: Any, param: str | None, code: str | None = None) -> str:
    """The message of a 400 that names the field (or a place inside it); a good request follows."""
    reply = app.ask(path, body)
    assert reply.status == 400, reply.body[:500]
    assert reply.headers["content-type"] == "application/json"
    error = reply.error
    assert error["type"] == "invalid_request_error"
    assert error["code"] == code
    if param is None:
        assert error["param"] is None
    else:
        assert str(error["param"]).split("[")[0].split(".")[0] == param
    assert len(error["message"]) < 700, "the request is thrown back"
    return str(error["message"])


@pytest.fixture(autouse=True)
def lives(tiny_app: Any) -> Any:
    """After each test a good request is answered, and nothing is left behind."""
    yield
    good = tiny_app.ask(TEXT, {"prompt": "hello", "max_tokens": 2, "ignore_eos": True})
    assert good.json["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(("path", "name", "value"), TYPE_CASES, ids=str)
def test_a_field_of_a_wrong_type(tiny_app: Any, path: str, name: str, value: Any) -> None:
    refused(tiny_app, path, {**GOOD[path], name: value}, name)


@pytest.mark.parametrize(("path", "name", "value"), RANGE_CASES, ids=lambda value: str(value)[:40])
def test_a_value_out_of_range(tiny_app: Any, path: str, name: str, value: Any) -> None:
    message = refused(tiny_app, path, {**GOOD[path], name: value}, name)
    assert "\n" not in message


@pytest.mark.parametrize(("path", "name", "value"), UNSUPPORTED, ids=str)
def test_what_is_not_supported_is_refused_by_name(tiny_app: Any, path: str, name: str, value: Any) -> None:
    if path == CHAT and name == "tool_choice":
        tools = [{"type": "function", "function": {"name": "f"}}]
        refused(tiny_app, path, {**GOOD[path], name: value, "tools": tools}, name, "not_supported")
    refused(tiny_app, path, {**GOOD[path], name: value}, name, "not_supported")


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"top_logprobs": 3}, "top_logprobs"),
        (CHAT, {"top_logprobs": 3, "logprobs": False}, "top_logprobs"),
        (CHAT, {"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        (CHAT, {"top_logprobs": -1, "logprobs": True}, "top_logprobs"),
        (CHAT, {"stream_options": {"include_usage": True}}, "stream_options"),
        (CHAT, {"stream_options": {"include_usage": "yes"}, "stream": True}, "stream_options"),
        (CHAT, {"n": 2, "temperature": 0}, "n"),
        (CHAT, {"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        (CHAT, {"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    ],
    ids=str,
)
def test_fields_that_do_not_go_together(tiny_app: Any, path: str, fields: Any, param: str) -> None:
    refused(tiny_app, path, {**GOOD[path], **fields}, param)


@pytest.mark.parametrize("value", [2**63, 2**64, 2**70, -(2**64), 10**400, 10**4000], ids=lambda v: f"{v:.0e}"
                         if abs(v) < 2**100 else "huge")  # fmt: skip
@pytest.mark.parametrize(
    "name", ["seed", "max_tokens", "min_tokens", "top_k", "n", "stop_token_ids", "prompt"]
)
def test_integers_beyond_64_bits(tiny_app: Any, name: str, value: int) -> None:
    listed = name in ("stop_token_ids", "prompt")
    refused(tiny_app, TEXT, {"prompt": "hello", name: [value] if listed else value}, name)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_seeds_of_64_bits_are_seeds(tiny_app: Any, value: int) -> None:
    bodies = [{"prompt": "hello", "seed": value, "n": 2} for _ in range(2)]
    first, second = (tiny_app.ask(TEXT, body).json["choices"] for body in bodies)
    assert first == second


def test_the_largest_numbers_of_tokens_are_as_many_as_fit(tiny_app: Any) -> None:
    body = {"prompt": "hello", "max_tokens": 2**63 - 1, "ignore_eos": True}
    assert tiny_app.ask(TEXT, body).json["usage"]["total_tokens"] == 96


@pytest.mark.parametrize("token", [265, 999_999_999])
def test_a_bias_or_stop_on_a_token_that_is_none_does_no_harm(tiny_app: Any, token: int) -> None:
    body = {"prompt": "hello", "logit_bias": {str(token): 5}, "stop_token_ids": [token, -7], "max_tokens": 3}
    reply = tiny_app.ask(TEXT, body)
    assert reply.status == 200 or reply.error["param"] == "logit_bias"


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b"5", b'"text"', b"{", b'{"prompt": "a"', b'{"prompt": "a"} x', b"{'a': 'a'}",
        b'{"prompt": "a", "temperature": NaN}', b'{"prompt": "a", "temperature": Infinity}',
        b'{"prompt": "a", "temperature": 1e999}', b'{"prompt": "a", "temperature": -1e999}',
        b'{"prompt": "a", "logit_bias": {"5": 1e999}}', b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
        b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b'{"prompt": "a\x00b', b"\x00", b"\xff\xfe{}",
        b'{"prompt": "\\ud800\\u0041"}', b'\xef\xbb\xbf{"prompt": "a"}', b'{"prompt": "a", "seed": 01}',
        b'{"prompt": ' + b"[" * 100_000, b'{"prompt": "a", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a":' * 70 + b"1" + b"}" * 70, b'{"prompt": [' + b"1," * 1_100_000 + b"1]}",
        b'{"prompt": "a", "x": {' + b",".join(b'"%d":1' % i for i in range(1_100_000)) + b"}}",
    ],
    ids=lambda raw: repr(raw[:30]),
)  # fmt: skip
@pytest.mark.parametrize("path", BOTH)
def test_broken_bodies(tiny_app: Any, path: str, raw: bytes) -> None:
    reply = tiny_app.ask(path, raw)
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"
    assert len(reply.error["message"]) < 300


def test_brackets_in_texts_are_not_nesting(tiny_app: Any) -> None:
    """What only looks deep or many is a prompt like another."""
    texts = ["[" * 90, "]}" * 40, '\\"[[' * 20]
    for text in texts:
        assert tiny_app.ask(TEXT, {"prompt": text, "max_tokens": 1}).status == 200
    wide = {"prompt": "a", "max_tokens": 1, "metadata": {"text": "," * 1_100_000, "list": [[]] * 1000}}
    assert tiny_app.ask(TEXT, wide).status == 200


@pytest.mark.parametrize("raw", [b"[{" * 15_000_000, b"[" * 31_000_000, b"[]" * 15_000_000])
def test_a_body_of_brackets_alone_holds_nobody_up(tiny_app: Any, raw: bytes) -> None:
    """Taking innermost pairs out stops where there are none: a large body costs some passes over it."""
    reply = tiny_app.ask(TEXT, raw)
    assert reply.status == 400
    assert "values" in reply.error["message"]


@pytest.mark.parametrize("path", BOTH)
def test_what_is_missing_is_named(tiny_app: Any, path: str) -> None:
    name = "messages" if path == CHAT else "prompt"
    assert refused(tiny_app, path, {"model": "tiny"}, name) == f"{name} is missing"


@pytest.mark.parametrize("path", BOTH)
def test_an_unknown_model(tiny_app: Any, path: str) -> None:
    reply = tiny_app.ask(path, {**GOOD[path], "model": "gpt-5" + "x" * 1000})
    assert reply.status == 404
    error = reply.error
    assert (error["type"], error["param"], error["code"]) == ("not_found_error", "model", "model_not_found")
    assert "gpt-5" in error["message"]
    assert "tiny" in error["message"]
    assert len(error["message"]) < 300


@pytest.mark.parametrize("name", ["tiny", "small", "default", None])
def test_a_model_by_name_alias_or_none(tiny_app: Any, name: str | None) -> None:
    assert tiny_app.ask(TEXT, {"prompt": "a", "max_tokens": 1, "model": name}).json["model"] == "tiny"


@pytest.mark.parametrize("count", [96, 97, 600])
def test_a_prompt_past_the_context(tiny_app: Any, count: int) -> None:
    """Both numbers are told, and the code is OpenAI's."""
    message = refused(tiny_app, TEXT, {"prompt": [50] * count}, "prompt", "context_length_exceeded")
    assert f"{count} tokens" in message
    assert "96 tokens" in message
    text = refused(tiny_app, TEXT, {"prompt": ["a", "(" * count]}, "prompt", "context_length_exceeded")
    assert f"{count} " in text
    chat = {"messages": [{"role": "user", "content": "(" * count}]}
    assert "96 tokens" in refused(tiny_app, CHAT, chat, "messages", "context_length_exceeded")


def test_a_text_that_cannot_fit_is_not_even_read(
    tiny_app: Any, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound on characters comes before the tokenizer; it holds for tools and template options too."""

    def encode(*_: Any, **__: Any) -> Any:
        raise AssertionError("the tokenizer was asked")

    monkeypatch.setattr(type(tiny_loaded.vocabulary), "encode", encode)
    much = "x" * 3_000_000
    tool = {"type": "function", "function": {"name": "f", "parameters": {much: 1}}}
    numbers = {"type": "function", "function": {"name": "f", "parameters": [1] * 500_000}}
    bodies: list[tuple[str, dict[str, Any]]] = [
        (TEXT, {"prompt": much}),
        (CHAT, {"messages": [{"role": "user", "content": much}]}),
        (CHAT, {"messages": [USER], "tools": [tool]}),
        (CHAT, {"messages": [USER], "tools": [numbers]}),
        (CHAT, {"messages": [USER], "chat_template_kwargs": {"date_string": much}}),
    ]
    for path, body in bodies:
        param = "prompt" if path == TEXT else "messages"
        message = refused(tiny_app, path, body, param, "context_length_exceeded")
        assert "characters" in message
    monkeypatch.undo()


def test_an_error_is_the_same_for_a_stream_that_has_not_begun(tiny_app: Any) -> None:
    body = {**GOOD[CHAT], "stream": True, "temperature": -1}
    reply = tiny_app.ask(CHAT, json.dumps(body).encode())
    assert reply.status == 400
    assert reply.error["param"] == "temperature"
