"""The default model behind HTTP: what it says is the engine's to the bit, tools and long prompts included."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from fivefold.chat import ChatTemplate
from fivefold.core.request import SamplingParams
from fivefold.engine import AsyncEngine, Engine, LoadOptions, load
from fivefold.server import ModelConfig, serve

pytestmark = pytest.mark.model
CAPITAL: Any = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


@pytest.fixture(scope="module")
def engine(default_model: Path) -> Engine:
    """The engine that the server runs, and the tests in between."""
    return Engine(load(default_model, LoadOptions(entries=6000)))


@pytest.fixture(scope="module")
def server(engine: Engine, run_server: Callable[..., Any]) -> Iterator[Any]:
    with run_server(
        serve(ModelConfig("smollm2-135m", "smol"), engine.loaded, AsyncEngine(engine), 0)
    ) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as made:
        yield made


def test_a_question_is_answered(client: openai.OpenAI, engine: Engine, default_model: Path) -> None:
    """Greedy, whole and streamed; the tokens are those of the engine on the template's tokens."""
    body: Any = {"model": "smol", "messages": CAPITAL, "temperature": 0, "max_tokens": 24}
    whole = client.chat.completions.create(**body, extra_body={"return_token_ids": True})
    assert "Paris" in (whole.choices[0].message.content or "")
    stream = client.chat.completions.create(**body, stream=True)
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole.choices[0].message.content
    )
    loaded = engine.loaded
    template = ChatTemplate.of(loaded.checkpoint, loaded.vocabulary)
    prompt = template.encode(loaded.vocabulary, CAPITAL, add_generation_prompt=True)
    assert whole.model_extra is not None
    assert whole.model_extra["prompt_token_ids"] == prompt
    alone = Engine(load(default_model, LoadOptions(entries=1000)))
    (expected,) = alone.generate([prompt], SamplingParams(temperature=0, max_tokens=24))
    assert whole.choices[0].model_extra is not None
    assert tuple(whole.choices[0].model_extra["token_ids"]) == expected.tokens


def test_a_conversation_finds_what_was_read(client: openai.OpenAI) -> None:
    """The second turn begins with the first, so most of it is cached."""
    told = "The river runs under the bridge and over the stones. " * 12
    messages: Any = [{"role": "user", "content": told}]
    first = client.chat.completions.create(model="smol", messages=messages, max_tokens=4, temperature=0)
    messages += [{"role": "assistant", "content": first.choices[0].message.content},
                 {"role": "user", "content": "And then?"}]  # fmt: skip
    second = client.chat.completions.create(model="smol", messages=messages, max_tokens=4, temperature=0)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    cached = second.usage.prompt_tokens_details.cached_tokens or 0
    assert first.usage.prompt_tokens - 40 < cached < second.usage.prompt_tokens


def test_tools_reach_the_model(client: openai.OpenAI) -> None:
    """Whether so small a model calls a tool is its own matter; the answer has one of the two forms."""
    messages: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
    body: Any = {"model": "smol", "messages": messages, "temperature": 0, "max_tokens": 40, "tools": TOOLS}
    told = client.chat.completions.create(**body)
    bare = client.chat.completions.create(**{**body, "tools": openai.omit})
    assert told.usage is not None
    assert bare.usage is not None
    assert told.usage.prompt_tokens > bare.usage.prompt_tokens + 40
    (choice,) = told.choices
    assert bool(choice.message.tool_calls) == (choice.finish_reason == "tool_calls")
    assert choice.message.content or choice.message.tool_calls


def test_a_stream_goes_on_while_a_long_prompt_is_read(client: openai.OpenAI) -> None:
    """Both get what they get alone."""
    short: Any = {"model": "smol", "prompt": "Once upon a time", "temperature": 0, "max_tokens": 40}
    long: Any = {
        "model": "smol",
        "prompt": "one two three four five " * 80,
        "temperature": 0,
        "max_tokens": 5,
    }
    expected = client.completions.create(**short).choices[0].text
    expected_long = client.completions.create(**long, extra_body={"cache_salt": "a"}).choices[0].text
    found: list[str] = []

    def ask() -> None:
        found.append(client.completions.create(**long, extra_body={"cache_salt": "b"}).choices[0].text)

    thread = threading.Thread(target=ask)
    pieces: list[str] = []
    for chunk in client.completions.create(**short, stream=True):
        pieces.append(chunk.choices[0].text)
        if len(pieces) == 3:
            thread.start()
    thread.join(60)
    assert "".join(pieces) == expected
    assert found == [expected_long]
    assert len(pieces) > 20
