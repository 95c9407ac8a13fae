"""Harmony: what GPT-OSS writes. An answer is several messages, each in a channel.

`analysis` is reasoning, `final` is the answer, and so is `commentary`, unless its header names a function to
call: `<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{...}<|call|>`. The prompt ends
with `<|start|>assistant`. GPT-OSS's own chat template renders tools, calls and what they return.

Source: openai/harmony, docs/format.md.
"""

from __future__ import annotations

import re

from fivefold.chat.answer import AnswerParser, Dialect
from fivefold.chat.channel_parser import ChannelParser, Frame

_FRAME = Frame(
    start="<|start|>",
    channel="<|channel|>",
    message="<|message|>",
    ends=("<|end|>", "<|call|>", "<|return|>"),
    reasoning="analysis",
    recipient=re.compile(r"\bto=functions\.([\w.-]+)"),
    inside=("<|constrain|>",),
)


def _make(tools: bool, reasoning: bool, opened: bool = False) -> AnswerParser:
    return ChannelParser(_FRAME, tools, reasoning, opened)


DIALECT = Dialect(
    name="harmony",
    shown_texts=_FRAME.marks,
    make=_make,
    frame=_FRAME.marks,
    template_marks=("<|channel|>",),
)
