"""Hermes: JSON calls in `<tool_call>`, reasoning in `<think>`. Qwen 2.5 and 3 write it, SmolLM 2 and 3 too.

Sources: the function calling format of the Hermes models, and the chat templates of Qwen 3 for the marks of
reasoning and of what tools return. Qwen's coder models put XML into the same marks, which this is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fivefold.chat.answer import AnswerParser, CallForm, Dialect, Marks
from fivefold.chat.tagged_parser import TaggedParser

_CALL = CallForm(
    marks=Marks("<tool_call>", "</tool_call>"),
    name_key="name",
    argument_keys=("arguments", "parameters"),
    response=Marks("<tool_response>", "</tool_response>"),
)
_THINKING = Marks("<think>", "</think>")

_WORDS = """\
# Functions

You may call functions to answer. Each line between <tools> and </tools> describes one in JSON:
<tools>
{tools}
</tools>

To call a function, write its name and its arguments as one JSON object between these marks:
<tool_call>
{{"name": "function name", "arguments": {{"argument": "value"}}}}
</tool_call>
For several calls write several such blocks. What a function returns comes back between <tool_response> and \
</tool_response>. Call a function only if it is described above and helps; otherwise answer in words."""


def _make(tools: bool, reasoning: bool, opened: bool = False) -> AnswerParser:
    return TaggedParser(_CALL if tools else None, _THINKING if reasoning else None, opened)


def _instruct(tools: Sequence[Mapping[str, Any]]) -> str:
    return _WORDS.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))


DIALECT = Dialect(
    name="hermes",
    shown_texts=(_CALL.marks.opener, _CALL.marks.closer, _THINKING.opener, _THINKING.closer),
    make=_make,
    call=_CALL,
    thinking=_THINKING,
    instruct=_instruct,
    template_marks=("<tool_call>",),
    taught_marks=("<|im_start|>",),
)
