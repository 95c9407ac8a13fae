"""Answers through the application: the engine's tokens to the bit, and streamed the same as whole."""

from __future__ import annotations

from typing import Any

import pytest

from fivefold.core.request import SamplingParams
from fivefold.engine import Engine, LoadedModel

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "hello"}]
PROMPT = "the man an hello"

VARIANTS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"seed": 1},
    {"seed": 7, "temperature": 0.7, "top_p": 0.8},
    {"seed": 7, "top_k": 5, "repetition_penalty": 1.3},
    {"seed": 8, "min_p": 0.1, "presence_penalty": 1.5, "frequency_penalty": -0.5},
    {"seed": 3, "stop": ["a", "e"]},
    {"seed": 3, "stop": ["a", "e"], "include_stop_str_in_output": True},
    {"seed": 4, "stop_token_ids": list(range(100))},
    {"seed": 2, "ignore_eos": True, "logit_bias": {"1": 100, "70": 90}},
    {"seed": 2, "min_tokens": 4, "logit_bias": {"1": 100}},
    {"seed": 5, "n": 3},
    {"seed": 6, "n": 2, "return_token_ids": True},
    {"seed": 9, "return_token_ids": True},
]


def sampling(fields: dict[str, Any], tokens: int, **more: Any) -> SamplingParams:
    """The parameters that a body's fields stand for."""
    given = {key: value for key, value in fields.items() if key not in ("n", "return_token_ids")}
    for name in ("stop", "stop_token_ids"):
        if name in given:
            given[name] = tuple(given[name])
    if "logit_bias" in given:
        given["logit_bias"] = {int(token): bias for token, bias in given["logit_bias"].items()}
    return SamplingParams(max_tokens=tokens, **given, **more)


def joined_chat(chunks: list[Any], index: int) -> dict[str, Any]:
    """A streamed chat choice put together: a client does the same."""
    found: dict[str, Any] = {"content": "", "logprobs": [], "token_ids": [], "finish_reason": None}
    roles = []
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        for choice in chunk["choices"]:
            if choice["index"] != index:
                continue
            assert found["finish_reason"] is None, "a chunk came after the end"
            roles += [choice["delta"]["role"]] if "role" in choice["delta"] else []
            found["content"] += choice["delta"].get("content", "")
            found["logprobs"] += (choice["logprobs"] or {"content": []})["content"]
            found["token_ids"] += choice.get("token_ids", [])
            found["finish_reason"] = choice["finish_reason"]
            found["stop_reason"] = choice.get("stop_reason")
    assert roles == ["assistant"]
    return found


def joined_text(chunks: list[Any], index: int) -> dict[str, Any]:
    """A streamed completion put together."""
    found: dict[str, Any] = {"text": "", "token_ids": [], "tokens": [], "offsets": [], "finish_reason": None}
    for chunk in chunks:
        assert chunk["object"] == "text_completion"
        for choice in chunk["choices"]:
            if choice["index"] != index:
                continue
            assert found["finish_reason"] is None, "a chunk came after the end"
            found["text"] += choice["text"]
            found["token_ids"] += choice.get("token_ids", [])
            found["tokens"] += (choice["logprobs"] or {"tokens": []})["tokens"]
            found["offsets"] += (choice["logprobs"] or {"text_offset": []})["text_offset"]
            found["finish_reason"], found["stop_reason"] = choice["finish_reason"], choice["stop_reason"]
    return found


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_chat_is_the_same_streamed_and_whole(tiny_app: Any, fields: dict[str, Any]) -> None:
    body = {"messages": MESSAGES, "max_tokens": 25, "logprobs": True, "top_logprobs": 2, **fields}
    whole = tiny_app.ask(CHAT, body)
    assert whole.status == 200, whole.body
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = tiny_app.ask(CHAT, {**body, **options}).chunks
    assert [choice["index"] for choice in whole.json["choices"]] == list(range(fields.get("n", 1)))
    for index, choice in enumerate(whole.json["choices"]):
        streamed = joined_chat(chunks, index)
        assert streamed["content"] == choice["message"]["content"]
        assert choice["message"]["role"] == "assistant"
        assert streamed["logprobs"] == choice["logprobs"]["content"]
        assert streamed["token_ids"] == choice.get("token_ids", [])
        assert streamed["finish_reason"] == choice["finish_reason"]
        assert streamed["stop_reason"] == choice["stop_reason"]
    assert last["choices"] == []
    for kind in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert last["usage"][kind] == whole.json["usage"][kind]
    assert len({chunk["id"] for chunk in [*chunks, last]}) == 1
    assert "usage" not in chunks[-1]


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_completions_are_the_same_streamed_and_whole(tiny_app: Any, fields: dict[str, Any]) -> None:
    body = {"prompt": [PROMPT, "hello"], "max_tokens": 25, "logprobs": 3, **fields}
    whole = tiny_app.ask(TEXT, body)
    assert whole.status == 200, whole.body
    chunks = tiny_app.ask(TEXT, {**body, "stream": True}).chunks
    assert len(whole.json["choices"]) == 2 * fields.get("n", 1)
    for index, choice in enumerate(whole.json["choices"]):
        streamed = joined_text(chunks, index)
        assert choice["index"] == index
        assert streamed["text"] == choice["text"]
        assert streamed["tokens"] == choice["logprobs"]["tokens"]
        assert streamed["offsets"] == choice["logprobs"]["text_offset"]
        assert streamed["token_ids"] == choice.get("token_ids", [])
        assert streamed["finish_reason"] == choice["finish_reason"]
        assert streamed["stop_reason"] == choice["stop_reason"]


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_tokens_are_the_engines_to_the_bit(
    tiny_app: Any, tiny_loaded: LoadedModel, fields: dict[str, Any]
) -> None:
    """Tokens, texts and logarithms of probability; a choice's seed is the request's plus its place."""
    body = {"prompt": PROMPT, "max_tokens": 25, "logprobs": 2, **fields, "return_token_ids": True}
    told = tiny_app.ask(TEXT, body).json
    prompt = tiny_loaded.vocabulary.encode(PROMPT)
    assert [choice["prompt_token_ids"] for choice in told["choices"]] == [prompt] * len(told["choices"])
    count = fields.get("n", 1)
    each = [{**fields, "seed": fields["seed"] + place} for place in range(count)] if count > 1 else [fields]
    wanted = [sampling(one, 25, logprobs=2) for one in each]
    expected = Engine(tiny_loaded).generate([prompt] * count, wanted)
    for choice, answer in zip(told["choices"], expected, strict=True):
        assert tuple(choice["token_ids"]) == answer.tokens
        assert choice["text"] == answer.text
        assert choice["finish_reason"] == answer.finish_reason
        assert choice["stop_reason"] == answer.stop_reason
        logprobs = choice["logprobs"]
        assert logprobs["token_logprobs"] == [max(entry.logprob, -9999.0) for entry in answer.logprobs]
        assert len(logprobs["tokens"]) == len(answer.tokens)
    if count > 1:
        assert len({tuple(choice["token_ids"]) for choice in told["choices"]}) == count
    tokens = sum(len(answer.tokens) for answer in expected)
    assert told["usage"]["completion_tokens"] == tokens
    assert told["usage"]["prompt_tokens"] == len(prompt)


def test_a_chats_tokens_are_the_engines_after_the_template(tiny_app: Any, tiny_loaded: LoadedModel) -> None:
    text = "<|start|>system\nth<|end|>\n<|start|>user\nhello<|end|>\n<|start|>assistant\n"
    messages = [
        {"role": "developer", "content": "th"},
        {"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]},
    ]
    body = {"messages": messages, "seed": 11, "max_tokens": 20, "return_token_ids": True}
    told = tiny_app.ask(CHAT, body).json
    decoded = tiny_loaded.vocabulary.decode(told["prompt_token_ids"][: len(text)], skip_special=False)
    assert decoded == text
    (expected,) = Engine(tiny_loaded).generate(
        [told["prompt_token_ids"]], SamplingParams(max_tokens=20, seed=11)
    )
    (choice,) = told["choices"]
    assert tuple(choice["token_ids"]) == expected.tokens
    assert choice["message"]["content"] == expected.text


def test_a_message_cannot_write_special_tokens(tiny_app: Any) -> None:
    body = {"messages": [{"role": "user", "content": "<|end|>"}], "max_tokens": 1, "return_token_ids": True}
    assert tiny_app.ask(CHAT, body).json["prompt_token_ids"].count(1) == 1


def test_prompts_as_ids_and_lists(tiny_app: Any, tiny_loaded: LoadedModel) -> None:
    ids = tiny_loaded.vocabulary.encode(PROMPT)
    fields = {"temperature": 0, "max_tokens": 12}
    (wanted,) = Engine(tiny_loaded).generate([ids], SamplingParams(temperature=0, max_tokens=12))
    prompts: tuple[Any, ...] = (PROMPT, ids, [PROMPT], [ids], [PROMPT, ids], [ids, PROMPT, PROMPT])
    for prompt in prompts:
        told = tiny_app.ask(TEXT, {"prompt": prompt, **fields}).json
        assert {choice["text"] for choice in told["choices"]} == {wanted.text}
        count = 1 if prompt in (PROMPT, ids) else len(prompt)
        assert len(told["choices"]) == count
        assert told["usage"]["prompt_tokens"] == count * len(ids)
        assert told["usage"]["completion_tokens"] == count * len(wanted.tokens)


def test_choices_of_several_prompts_stand_in_order(tiny_app: Any, tiny_loaded: LoadedModel) -> None:
    prompts = ["hello", "the man", "an"]
    body = {"prompt": prompts, "n": 2, "seed": 40, "max_tokens": 9}
    told = tiny_app.ask(TEXT, body).json["choices"]
    wanted = [SamplingParams(max_tokens=9, seed=40 + place) for place in range(2)]
    expected = [one for prompt in prompts for one in Engine(tiny_loaded).generate([prompt] * 2, wanted)]
    assert [choice["text"] for choice in told] == [answer.text for answer in expected]


def test_defaults_are_openais(tiny_app: Any) -> None:
    """16 tokens for a completion, and as many as fit for a chat; a null is as good as nothing."""
    completion = tiny_app.ask(TEXT, {"prompt": "hello", "ignore_eos": True}).json
    assert completion["usage"]["completion_tokens"] == 16
    nulls = dict.fromkeys(["max_tokens", "temperature", "stop", "seed", "n", "stream", "tools", "logit_bias"])
    chat = tiny_app.ask(CHAT, {"messages": MESSAGES, "ignore_eos": True, **nulls}).json
    assert chat["usage"]["total_tokens"] == 96
    assert chat["choices"][0]["finish_reason"] == "length"


def test_max_completion_tokens_goes_before_max_tokens(tiny_app: Any) -> None:
    body = {"messages": MESSAGES, "ignore_eos": True, "max_completion_tokens": 3, "max_tokens": 9}
    assert tiny_app.ask(CHAT, body).json["usage"]["completion_tokens"] == 3


def test_fields_without_a_meaning_here_change_nothing(tiny_app: Any) -> None:
    body = {"messages": MESSAGES, "seed": 5, "max_tokens": 9}
    ignored = {
        "user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "verbosity": "low",
        "parallel_tool_calls": True, "reasoning_effort": "low", "of_tomorrow": [1, {"deep": None}],
        "response_format": {"type": "text"}, "modalities": ["text"], "tool_choice": "none",
    }  # fmt: skip
    plain, dressed = (tiny_app.ask(CHAT, {**body, **extra}).json for extra in ({}, ignored))
    assert plain["choices"] == dressed["choices"]


def test_cached_tokens_are_told_and_salts_keep_apart(tiny_app: Any) -> None:
    """A prompt that was read before is found again, but not by another tenant."""

    def cached(**more: Any) -> int:
        body = {"prompt": list(range(100, 170)), "max_tokens": 2, **more}
        whole = tiny_app.ask(TEXT, body).json["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert isinstance(whole, int)
        return whole

    assert cached() == 0
    assert cached() >= 64
    assert cached(cache_salt="tenant") == 0
    assert cached(cache_salt="tenant") >= 64
    assert cached(cache_salt="other") == 0
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    body = {"prompt": list(range(100, 170)), "max_tokens": 2, **stream}
    usage = tiny_app.ask(TEXT, body).chunks[-1]["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= 64


def test_token_ids_stand_in_the_first_chunk_and_in_each(tiny_app: Any) -> None:
    body = {"messages": MESSAGES, "seed": 1, "max_tokens": 8, "return_token_ids": True}
    whole = tiny_app.ask(CHAT, body).json
    chunks = tiny_app.ask(CHAT, {**body, "stream": True}).chunks
    prompts = [chunk.get("prompt_token_ids") for chunk in chunks]
    assert prompts[0] == whole["prompt_token_ids"]
    assert set(map(str, prompts[1:])) <= {"None"}


def test_a_completions_choices_have_their_own_prompts_once(tiny_app: Any) -> None:
    body = {"prompt": [[100, 101], [102, 103, 104]], "n": 2, "max_tokens": 6, "return_token_ids": True}
    chunks = tiny_app.ask(TEXT, {**body, "stream": True}).chunks
    told: dict[int, list[Any]] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        told.setdefault(choice["index"], []).append(choice.get("prompt_token_ids"))
    for index, prompts in told.items():
        assert prompts[0] == body["prompt"][index // 2]
        assert not any(prompts[1:])
    assert sorted(told) == [0, 1, 2, 3]


def test_a_request_can_be_named(tiny_app: Any) -> None:
    named = tiny_app.ask(TEXT, {"prompt": "a"}, headers={"x-request-id": "mine-1"}).json
    assert named["id"].startswith("cmpl-mine-1")
    odd = tiny_app.ask(TEXT, {"prompt": "a"}, headers={"x-request-id": 'not "this"'}).json
    assert "not" not in odd["id"]
    assert odd["id"] != named["id"]
