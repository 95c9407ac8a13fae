"""The `openai` client as it is published, against a real server: whole answers and streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

MESSAGES: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def client(tiny_server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=tiny_server.url, api_key="none", max_retries=0) as made:
        yield made


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list()
    assert (model.id, model.object, model.owned_by, model.created) == ("tiny", "model", "fivefold", 1234)
    assert client.models.retrieve("small").id == "tiny"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("other")
    assert caught.value.code == "model_not_found"


def test_chat_whole_and_streamed(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "seed": 3, "max_completion_tokens": 20}
    whole = client.chat.completions.create(**fields, logprobs=True, top_logprobs=4)
    assert whole.object == "chat.completion"
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    (choice,) = whole.choices
    assert choice.message.role == "assistant"
    assert choice.finish_reason in ("stop", "length")
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert len(choice.logprobs.content) == whole.usage.completion_tokens
    for entry in choice.logprobs.content:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 4
        assert [top.logprob for top in entry.top_logprobs] == sorted(
            (top.logprob for top in entry.top_logprobs), reverse=True
        )
    stream = client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == choice.message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens_details is not None
    assert chunks[-2].choices[0].finish_reason == choice.finish_reason


def test_the_clients_own_stream_helper(client: openai.OpenAI) -> None:
    body: Any = {"model": "tiny", "messages": MESSAGES, "seed": 3, "stop": list("aeioutshrnmd")}
    with client.chat.completions.stream(**body) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    whole = client.chat.completions.create(**body)
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == whole.choices[0].finish_reason


def test_completions_whole_and_streamed(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"model": "small", "prompt": "the man", "seed": 5, "max_tokens": 20}
    whole = client.completions.create(**fields, logprobs=2)
    assert whole.object == "text_completion"
    (choice,) = whole.choices
    assert choice.logprobs is not None
    assert choice.logprobs.tokens is not None
    assert choice.logprobs.top_logprobs is not None
    assert whole.usage is not None
    assert len(choice.logprobs.tokens) == whole.usage.completion_tokens
    chunks = list(client.completions.create(**fields, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == choice.text
    assert chunks[-1].choices[0].finish_reason == choice.finish_reason


def test_three_choices_with_a_seed(client: openai.OpenAI) -> None:
    """Each has a seed of its own, and all come again."""

    def texts(seed: int) -> list[str]:
        given: Any = {"model": "tiny", "messages": MESSAGES, "max_tokens": 20, "n": 3}
        answer = client.chat.completions.create(**given, seed=seed)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        return [choice.message.content or "" for choice in answer.choices]

    first = texts(100)
    assert len(set(first)) == 3
    assert texts(100) == first
    assert texts(200) != first


def test_stops(client: openai.OpenAI) -> None:
    given: Any = {"model": "tiny", "prompt": "hello", "seed": 12, "max_tokens": 60}
    ids: Any = {"return_token_ids": True, "ignore_eos": True}
    free = client.completions.create(**given, extra_body=ids).choices[0]
    stop = next(letter for letter in free.text if letter.isascii() and letter.isprintable())
    stopped = client.completions.create(**given, stop=[stop], extra_body=ids).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.text == free.text.split(stop)[0]
    assert stopped.model_extra is not None
    assert stopped.model_extra["stop_reason"] == stop
    kept = client.completions.create(
        **given, stop=[stop], extra_body={**ids, "include_stop_str_in_output": True}
    ).choices[0]
    assert kept.text == stopped.text + stop
    assert free.model_extra is not None
    tokens = free.model_extra["token_ids"]
    token = next(token for place, token in enumerate(tokens) if place > 2 and token not in tokens[:place])
    at_token = client.completions.create(**given, extra_body={**ids, "stop_token_ids": [token]}).choices[0]
    assert at_token.finish_reason == "stop"
    assert at_token.model_extra is not None
    assert at_token.model_extra["stop_reason"] == token
    assert at_token.model_extra["token_ids"] == tokens[: tokens.index(token) + 1]


def test_extras_are_honoured(client: openai.OpenAI) -> None:
    def tokens(seed: int = 1, **extra: Any) -> list[int]:
        body = {"return_token_ids": True, "ignore_eos": True, **extra}
        answer = client.completions.create(
            model="tiny", prompt="hello", seed=seed, max_tokens=12, extra_body=body
        )
        assert answer.choices[0].model_extra is not None
        return list(answer.choices[0].model_extra["token_ids"])

    greedy = tokens(temperature=0)
    assert len(greedy) == 12
    for seed in (1, 2):
        assert tokens(seed, top_k=1) == tokens(seed, min_p=1.0) == tokens(seed, top_p=1e-9) == greedy
    assert tokens(1) != tokens(2)
    assert tokens(1, top_k=0) == tokens(1, top_k=-1) == tokens(1, min_p=0.0) == tokens(1)
    punished = tokens(temperature=0, repetition_penalty=100.0)
    assert len(set(punished)) == 12, "a token came twice"
    wanted = tokens(temperature=0, logit_bias={"70": 100})
    assert wanted == [70] * 12
    ends = client.completions.create(
        model="tiny", prompt="hello", max_tokens=12, temperature=0, logit_bias={"1": 100},
        extra_body={"return_token_ids": True},
    )  # fmt: skip
    assert ends.usage is not None
    assert ends.usage.completion_tokens == 1
    later = client.completions.create(
        model="tiny", prompt="hello", max_tokens=12, temperature=0, logit_bias={"1": 100},
        extra_body={"min_tokens": 5},
    )  # fmt: skip
    assert later.usage is not None
    assert later.usage.completion_tokens == 6


def test_usage_tells_what_was_cached(client: openai.OpenAI) -> None:
    prompt = list(range(150, 230))
    for cached in (False, True):
        usage = client.completions.create(model="tiny", prompt=prompt, max_tokens=1).usage
        assert usage is not None
        assert usage.prompt_tokens == 80
        assert usage.prompt_tokens_details is not None
        assert ((usage.prompt_tokens_details.cached_tokens or 0) >= 64) is cached


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=-1)
    assert (caught.value.param, caught.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="tiny", prompt=[50] * 100)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)


def test_keys_and_retries(make_tiny: Callable[..., Any], run_server: Callable[..., Any]) -> None:
    with run_server(make_tiny(), ["right"]) as server:
        with (
            openai.OpenAI(base_url=server.url, api_key="wrong") as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.models.list()
        with openai.OpenAI(base_url=server.url, api_key="right") as client:
            assert client.models.retrieve("tiny").id == "tiny"


def test_an_error_in_a_stream_is_raised(
    make_tiny: Callable[..., Any], run_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = make_tiny()
    runner = served.engine.loaded.runner
    before, runs = runner.run, [0]

    def run(*given: Any, **options: Any) -> Any:
        runs[0] += 1
        if runs[0] > 8:
            raise ZeroDivisionError("the floor is gone")
        return before(*given, **options)

    monkeypatch.setattr(runner, "run", run)
    with run_server(served) as server, openai.OpenAI(base_url=server.url, api_key="x") as client:
        stream = client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True, max_tokens=50,
                                                extra_body={"ignore_eos": True})  # fmt: skip
        with pytest.raises(openai.APIError, match="a fault of the engine"):
            list(stream)


def test_many_async_clients_get_what_each_gets_alone(tiny_server: Any, client: openai.OpenAI) -> None:
    def fields(number: int) -> dict[str, Any]:
        return {"model": "tiny", "prompt": list(range(5, 10 + number)), "seed": number, "max_tokens": 30}

    alone = [client.completions.create(**fields(number)).choices[0].text for number in range(24)]

    async def ask(asking: openai.AsyncOpenAI, number: int) -> str:
        if number % 2:
            return (await asking.completions.create(**fields(number))).choices[0].text
        stream = await asking.completions.create(**fields(number), stream=True)
        return "".join([chunk.choices[0].text async for chunk in stream])

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=tiny_server.url, api_key="x") as asking:
            return list(await asyncio.gather(*(ask(asking, number) for number in range(24))))

    assert asyncio.run(all_of_them()) == alone
