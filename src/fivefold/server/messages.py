"""Messages and tools as clients send them, checked and made plain for chat templates.

Roles are OpenAI's; `developer` is `system` to the templates there are. Content is a text or a list of
parts, of which only texts are taken here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import ApiError, bad_request, not_supported
from .protocol import ChatRequest

MOST_MESSAGES = 4096
MOST_TOOLS = 128
OPTIONS = frozenset({"enable_thinking", "xml_tools", "python_tools", "date_string", "today_date"})
"""What `chat_template_kwargs` may hold: switches of well-known templates, none of their variables."""

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_TEXT_PARTS = ("text", "input_text", "output_text")

Object = dict[str, Any]


def checked_messages(messages: Sequence[Mapping[str, Any]]) -> list[Object]:
    """Messages with plain roles and texts; ApiError names the message and the field."""
    if not messages:
        raise bad_request("messages is empty", "messages")
    if len(messages) > MOST_MESSAGES:
        raise bad_request(f"there are {len(messages)} messages; give at most {MOST_MESSAGES}", "messages")
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _message(message: Mapping[str, Any], where: str) -> Object:
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        known = ", ".join(_ROLES)
        raise bad_request(f"{where}.role is {role!r:.50}; known are {known}", f"{where}.role")
    told: Object = {"role": _ROLES[role], "content": _content(message.get("content"), f"{where}.content")}
    calls = message.get("tool_calls")
    if calls:
        told["tool_calls"] = _calls(calls, f"{where}.tool_calls")
    elif message.get("content") is None and role != "assistant":
        raise bad_request(f"{where}.content is missing", f"{where}.content")
    for key in ("name", "tool_call_id"):
        value = message.get(key)
        if value is not None and not isinstance(value, str):
            raise bad_request(f"{where}.{key} is not a text", f"{where}.{key}")
        if value is not None:
            told[key] = value
    return told


def _content(content: Any, where: str) -> str:
    """The text of a message's content."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise bad_request(f"{where} is neither a text nor a list of parts", where)
    texts: list[str] = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _TEXT_PARTS:
            raise _not_text(kind, f"{where}[{index}]")
        if not isinstance(part.get("text"), str):
            raise bad_request(f"{where}[{index}].text is not a text", f"{where}[{index}].text")
        texts.append(part["text"])
    return "".join(texts)


def _not_text(kind: Any, where: str) -> ApiError:
    if isinstance(kind, str):
        return bad_request(f"{where} is of type {kind[:50]!r}; this model takes text only", where)
    return bad_request(f"{where} is not a part with a type", where)


def _calls(calls: Any, where: str) -> list[Object]:
    """An assistant's earlier tool calls."""
    if not isinstance(calls, list) or len(calls) > MOST_TOOLS:
        raise bad_request(f"{where} is not a list of at most {MOST_TOOLS} calls", where)
    told: list[Object] = []
    for index, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise bad_request(f"{where}[{index}] has no function with a name", f"{where}[{index}]")
        arguments = function.get("arguments", "{}")
        if not isinstance(arguments, str | dict):
            raise bad_request(f"{where}[{index}].function.arguments is not a text", f"{where}[{index}]")
        told.append(
            {
                "id": str(call.get("id", "")),
                "type": "function",
                "function": {"name": function["name"], "arguments": arguments},
            }
        )
    return told


def checked_tools(fields: ChatRequest) -> list[Object] | None:
    """The tools that the model is told of; None when it is to call none."""
    choice = fields.tool_choice
    if choice is not None and choice not in ("none", "auto"):
        raise not_supported(f"tool_choice {choice!r:.50}", "tool_choice")
    if not fields.tools or choice == "none":
        return None
    if len(fields.tools) > MOST_TOOLS:
        raise bad_request(f"there are {len(fields.tools)} tools; give at most {MOST_TOOLS}", "tools")
    for index, tool in enumerate(fields.tools):
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, dict):
            raise bad_request(f"tools[{index}] is not of type function", f"tools[{index}]")
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise bad_request(f"tools[{index}].function.name is missing", f"tools[{index}].function.name")
    return fields.tools


def template_options(fields: ChatRequest) -> Object:
    """What a request may tell the chat template beside its messages."""
    given = fields.chat_template_kwargs or {}
    for key in given:
        if key not in OPTIONS:
            known = ", ".join(sorted(OPTIONS))
            raise bad_request(f"chat_template_kwargs.{key[:50]} is not allowed; known are {known}",
                              "chat_template_kwargs")  # fmt: skip
    if fields.continue_final_message:
        raise not_supported("continue_final_message", "continue_final_message")
    generation = fields.add_generation_prompt is not False
    return {**given, "add_generation_prompt": generation}
