"""Tool calls and reasoning through HTTP: an engine that plays a script, so that they surely come.

However the text is cut into events, the streamed pieces joined are the whole message.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

CHAT = "/v1/chat/completions"
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}},
    },
    {"type": "function", "function": {"name": "time", "parameters": {"type": "object"}}},
]
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "tools": TOOLS}
ONE = '<tool_call>\n{"name": "weather", "arguments": {"city": "Ås"}}\n</tool_call>'
TWO = ONE + '\n<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'

SCRIPTS: dict[str, tuple[str, str, str | None, list[tuple[str, dict[str, Any]]]]] = {
    # script, reasoning, content, calls
    "plain": ("Good day.", "", "Good day.", []),
    "one call": (ONE, "", None, [("weather", {"city": "Ås"})]),
    "two calls": (TWO, "", None, [("weather", {"city": "Ås"}), ("time", {})]),
    "words, then a call": ("Let me see. " + ONE, "", "Let me see.", [("weather", {"city": "Ås"})]),
    "thoughts and words": ("<think>\nhm\n</think>\n\nYes.", "hm", "Yes.", []),
    "thoughts and a call": ("<think>\nhm\n</think>\n\n" + ONE, "hm", None, [("weather", {"city": "Ås"})]),
    "nearly a mark": ("a <tool_ b <think c", "", "a <tool_ b <think c", []),
}


def joined(chunks: list[Any], index: int = 0) -> dict[str, Any]:
    """One choice's message, put together as a client does it."""
    message: dict[str, Any] = {"content": "", "reasoning": "", "reasoning_content": "", "calls": {}}
    for chunk in chunks:
        for choice in chunk["choices"]:
            if choice["index"] != index:
                continue
            delta = choice["delta"]
            for key in ("content", "reasoning", "reasoning_content"):
                message[key] += delta.get(key) or ""
            for call in delta.get("tool_calls", []):
                if call["index"] not in message["calls"]:
                    assert call["type"] == "function"
                    message["calls"][call["index"]] = [call["id"], call["function"]["name"], ""]
                message["calls"][call["index"]][2] += call["function"].get("arguments", "")
            message["finish_reason"] = choice["finish_reason"]
    return message


@pytest.mark.parametrize("case", SCRIPTS)
@pytest.mark.parametrize("count", [1, 3])
def test_streamed_and_whole_messages(scripted: Any, case: str, count: int) -> None:
    engine, app = scripted
    engine.script, reasoning, content, calls = SCRIPTS[case]
    whole = app.ask(CHAT, {**BODY, "n": count}).json["choices"]
    assert len(whole) == count
    identities = set()
    for _ in range(5):
        chunks = app.ask(CHAT, {**BODY, "n": count, "stream": True}).chunks
        for index, choice in enumerate(whole):
            message, streamed = choice["message"], joined(chunks, index)
            assert choice["finish_reason"] == streamed["finish_reason"] == ("tool_calls" if calls else "stop")
            assert (message["content"] or "").strip() == (content or "").strip()
            assert streamed["content"] == (message["content"] or "")
            assert (message["content"] is None) == (content is None)
            thoughts = message.get("reasoning", "")
            assert thoughts.strip() == reasoning
            assert streamed["reasoning"] == streamed["reasoning_content"] == thoughts
            found = [
                (c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls", [])
            ]
            assert [(name, json.loads(arguments)) for name, arguments in found] == calls
            assert [(name, text) for _, name, text in streamed["calls"].values()] == found
            identities |= {identity for identity, _, _ in streamed["calls"].values()}
    assert len(identities) == 5 * count * len(calls), "choices share a call's id"
    assert all(identity.startswith("call_") for identity in identities)


def test_without_tools_marks_are_text(scripted: Any) -> None:
    engine, app = scripted
    engine.script = ONE
    for body in ({"messages": BODY["messages"]}, {**BODY, "tool_choice": "none"}, {**BODY, "tools": []}):
        (choice,) = app.ask(CHAT, body).json["choices"]
        assert choice["message"]["content"] == ONE
        assert "tool_calls" not in choice["message"]
        assert choice["finish_reason"] == "stop"


def test_reasoning_can_be_left_out(scripted: Any) -> None:
    engine, app = scripted
    engine.script = "<think>hm</think>Yes."
    body = {**BODY, "include_reasoning": False}
    message = app.ask(CHAT, body).json["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Yes."}
    streamed = joined(app.ask(CHAT, {**body, "stream": True}).chunks)
    assert (streamed["content"], streamed["reasoning"]) == ("Yes.", "")


def test_a_prompt_that_opens_the_reasoning(scripted: Any) -> None:
    """The answer then begins within: what comes before the closing mark is reasoning."""
    engine, app = scripted
    engine.script = "hm</think>Yes."
    body = {"messages": [{"role": "assistant", "content": "<think>\n"}], "add_generation_prompt": False}
    message = app.ask(CHAT, body).json["choices"][0]["message"]
    assert message["content"] in ("Yes.", "hm</think>Yes.")


def test_a_call_that_is_cut_is_no_tool_call(scripted: Any) -> None:
    """The answer ran out of tokens: the reason says so, and not that a tool is to be called."""
    engine, app = scripted
    engine.script, engine.reason = ONE[:45], "length"
    (choice,) = app.ask(CHAT, BODY).json["choices"]
    assert choice["finish_reason"] == "length"
    streamed = joined(app.ask(CHAT, {**BODY, "stream": True}).chunks)
    assert streamed["finish_reason"] == "length"


def test_the_model_is_told_of_tools_and_of_earlier_calls(scripted: Any) -> None:
    engine, app = scripted
    engine.script = "Fine."
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Ås"}'},
    }
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain, 7 degrees"},
    ]
    assert app.ask(CHAT, {**BODY, "messages": messages}).status == 200
    read = engine.loaded.vocabulary.decode(list(engine.requests[-1].prompt), skip_special=False)
    for text in ("weather", "time", '"city": "Ås"', "<tool_response>\nrain, 7 degrees"):
        assert text in read
    assert app.ask(CHAT, {**BODY, "tool_choice": "none"}).status == 200
    read = engine.loaded.vocabulary.decode(list(engine.requests[-1].prompt), skip_special=False)
    assert "weather" not in read


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "robot", "content": "a"}, "messages[1].role"),
        ({"content": "a"}, "messages[1].role"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": 5}, "messages[1].content"),
        ({"role": "user", "content": [5]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
         "messages[1].content[0]"),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]},
         "messages[1].content[1]"),
        ({"role": "user", "content": [{"type": "file", "file": {}}]}, "messages[1].content[0]"),
        ({"role": "user", "content": "a", "name": 5}, "messages[1].name"),
        ({"role": "assistant", "tool_calls": 5}, "messages[1].tool_calls"),
        ({"role": "assistant", "tool_calls": [{}]}, "messages[1].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 5}}]},
         "messages[1].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}] * 129}, "messages[1].tool_calls"),
    ],
    ids=str,
)  # fmt: skip
def test_messages_that_cannot_be_read(scripted: Any, message: dict[str, Any], param: str) -> None:
    _, app = scripted
    reply = app.ask(CHAT, {"messages": [BODY["messages"][0], message]})
    assert reply.status == 400
    assert reply.error["param"] == param
    assert param in reply.error["message"]


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "custom", "custom": {}}, "tools[1]"),
        ({"type": "function"}, "tools[1]"),
        ({"function": {"name": "f"}}, "tools[1]"),
        ({"type": "function", "function": {}}, "tools[1].function.name"),
        ({"type": "function", "function": {"name": 5}}, "tools[1].function.name"),
        ({"type": "function", "function": {"name": ""}}, "tools[1].function.name"),
    ],
    ids=str,
)
def test_tools_that_cannot_be_told(scripted: Any, tool: dict[str, Any], param: str) -> None:
    _, app = scripted
    reply = app.ask(CHAT, {**BODY, "tools": [TOOLS[0], tool]})
    assert reply.status == 400
    assert reply.error["param"] == param
