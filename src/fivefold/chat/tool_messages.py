"""Conversations with tools, for chat templates that have no words for them.

A template that renders tools is left to do so: the model was trained on its words. For the others
the descriptions go into the system message, calls of earlier turns become text of the dialect, and
what a tool returned becomes a turn of the user. This happens before the template runs, so texts of special
tokens in all of it are kept from being such by `ChatTemplate.encode`, as in any message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fivefold.chat.answer import CallForm, Dialect
from fivefold.chat.json_scanner import SPACE, JsonScanner
from fivefold.core.errors import InputError

_READS_TOOLS = re.compile(r"\btools\b")
_READS_CALLS = re.compile(r"\btool_calls\b")
_READS_RESPONSES = re.compile(r"""(['"])tool\1""")
_ARGUMENTS_AS_OBJECT = re.compile(r"\barguments\s*(\|\s*(tojson|items)\b|\.items\()")
_ARGUMENTS_AS_TEXT = re.compile(r"\barguments\s+is\s+string\b")
_NOT_JSON = (TypeError, ValueError, RecursionError)
_INSTRUCTING = {"system", "developer"}


def messages_with_tools(
    template_source: str | None,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    dialect: Dialect,
) -> list[dict[str, Any]]:
    """The messages as the template can render them; those given are not changed.

    Clients send arguments as text. A template that would encode that text once more gets the object.
    A dialect without a form of calls changes nothing else. InputError for a call without a function, or
    content that is no text where text has to be made of it.
    """
    template = template_source or ""
    result = [dict(message) for message in messages]
    if dialect.call is None and not dialect.frame:
        return result
    if _READS_CALLS.search(template):
        if _ARGUMENTS_AS_OBJECT.search(template) and not _ARGUMENTS_AS_TEXT.search(template):
            result = [_with_arguments_as_objects(each) for each in result]
    elif dialect.call is not None:
        result = [_with_calls_as_text(index, each, dialect.call) for index, each in enumerate(result)]
    if dialect.call is None:
        return result
    if not _READS_RESPONSES.search(template):
        result = _with_responses_as_turns(result, dialect.call)
    if tools and dialect.instruct is not None and not _READS_TOOLS.search(template):
        try:
            words = dialect.instruct(tools)
        except _NOT_JSON:
            raise InputError(
                "a tool is not JSON", where="tools", remedy="describe it in plain JSON"
            ) from None
        result = _with_instructions(result, words)
    return result


def _with_instructions(messages: list[dict[str, Any]], words: str) -> list[dict[str, Any]]:
    """The words at the end of the system message, or as one."""
    if not messages or messages[0].get("role") not in _INSTRUCTING:
        return [{"role": "system", "content": words}, *messages]
    first = messages[0]
    given = first.get("content")
    content: Any
    if isinstance(given, list | tuple):
        content = [*given, {"type": "text", "text": f"\n\n{words}" if given else words}]
    else:
        content = f"{given}\n\n{words}" if given else words
    return [{**first, "content": content}, *messages[1:]]


def _with_calls_as_text(index: int, message: dict[str, Any], form: CallForm) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if message.get("role") != "assistant" or not calls:
        return message
    if not _is_list(calls):
        raise InputError(
            "tool_calls is not a list", where=f"messages[{index}]", remedy="give a list of calls"
        )
    text = _text_of(message.get("content"), f"messages[{index}].content")
    parts = [text] if text else []
    for number, call in enumerate(calls):
        parts.append(_call_text(call, form, f"messages[{index}].tool_calls[{number}]"))
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**rest, "content": "\n".join(parts)}


def _call_text(call: Any, form: CallForm, where: str) -> str:
    function = call.get("function") if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str):
        raise InputError("a tool call names no function", where=where, remedy="give function.name")
    written = json.dumps(name, ensure_ascii=False)
    try:
        arguments = _arguments_text(function.get("arguments"))
    except _NOT_JSON:
        raise InputError(
            "the arguments are not JSON", where=where, remedy="give an object or its text"
        ) from None
    body = f'{{"{form.name_key}": {written}, "{form.argument_keys[0]}": {arguments}}}'
    return f"{form.marks.opener}\n{body}\n{form.marks.closer}"


def _arguments_text(arguments: Any) -> str:
    """An object as the model wrote it; what a call that was cut left behind stays the string it is."""
    if arguments is None:
        return "{}"
    if not isinstance(arguments, str):
        return json.dumps(arguments, ensure_ascii=False)
    text = arguments.strip(SPACE)
    if not text:
        return "{}"
    scanner = JsonScanner()
    whole = scanner.scan(text) == len(text) and scanner.done
    return text if whole and text[0] == "{" else json.dumps(arguments, ensure_ascii=False)


def _with_arguments_as_objects(message: dict[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if message.get("role") != "assistant" or not _is_list(calls):
        return message
    return {**message, "tool_calls": [_with_arguments_as_object(call) for call in calls or ()]}


def _with_arguments_as_object(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(_arguments_text(function["arguments"]))
    except ValueError:  # a number of more digits than Python converts
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _with_responses_as_turns(messages: list[dict[str, Any]], form: CallForm) -> list[dict[str, Any]]:
    """Responses that follow each other share one turn."""
    result: list[dict[str, Any]] = []
    joining = False
    for index, message in enumerate(messages):
        if message.get("role") != "tool":
            result.append(message)
            joining = False
            continue
        text = _text_of(message.get("content"), f"messages[{index}].content")
        block = f"{form.response.opener}\n{text}\n{form.response.closer}"
        if joining:
            result[-1]["content"] += f"\n{block}"
        else:
            result.append({"role": "user", "content": block})
        joining = True
    return result


def _text_of(content: Any, where: str) -> str:
    """Content as one text: a string, nothing, or parts that are all text."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = [part.get("text") for part in content if isinstance(part, Mapping)] if _is_list(content) else []
    if not _is_list(content) or not all(isinstance(text, str) for text in texts) or len(texts) < len(content):
        raise InputError(
            "this content is not text", where=where, remedy="give a string or parts of type text"
        )
    return "".join(str(text) for text in texts)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, bytes | bytearray)
