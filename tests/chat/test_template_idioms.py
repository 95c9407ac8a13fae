"""What chat templates are made of reads in the bounded sandbox as it reads in Jinja2's own."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from fivefold.chat import ChatTemplate

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather\nof a \"place\"",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}  # fmt: skip
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Where is it?"}, {"type": "image"}]},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHere. ",
     "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Köln", "days": 3}}}]},
    {"role": "tool", "content": "sunny"},
    {"role": "user", "content": "  Thanks, größer & <b>  "},
]  # fmt: skip
IDIOMS = (Path(__file__).parent / "data" / "idioms.txt").read_text().splitlines()
"""One template a line."""


def plain(source: str, **variables: Any) -> str:
    """The same settings without any bounds."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = functools.partial(json.dumps, ensure_ascii=False)
    return environment.from_string(source).render(**variables)


@pytest.mark.parametrize("source", IDIOMS, ids=range(len(IDIOMS)))
def test_an_idiom_reads_as_ever(source: str) -> None:
    expected = plain(source, messages=MESSAGES, tools=[TOOL], bos_token="", eos_token="")
    assert ChatTemplate(source).render(MESSAGES, tools=[TOOL]) == expected
    assert expected


@pytest.mark.parametrize("letter", ["x", "ü", "漢", "\n", '"'])
def test_a_long_conversation_is_no_bomb(letter: str) -> None:
    """Two megabytes, every message copied a few times, as templates do."""
    source = (
        "{% set ns = namespace(all='') %}{% for m in messages %}{% set content = m.content|trim('q') %}"
        "{% if content is string %}{% set content = content.replace('q', '').split('</think>')|last %}"
        "{% endif %}"
        "{{ '<|' + m.role + '|>' ~ content + '<|end|>' }}{{ m|tojson if loop.first }}{% endfor %}"
    )
    messages = [{"role": "user", "content": letter * 20_000} for _ in range(100)]
    text = ChatTemplate(source).render(messages)
    assert text.count(letter * 20_000) >= 100
    many = [{"role": "user", "content": f"{letter} {number}"} for number in range(4096)]
    assert ChatTemplate(source).render(many).count("<|end|>") == 4096
