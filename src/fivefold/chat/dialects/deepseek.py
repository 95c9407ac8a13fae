"""DeepSeek: reasoning in `<think>`, which R1's template opens itself. V3, R1 and what was distilled from it.

Calls of tools are left as the text they are: they name the function outside of any JSON.

Source: the chat templates of DeepSeek-V3 and DeepSeek-R1.
"""

from __future__ import annotations

from fivefold.chat.answer import AnswerParser, Dialect, Marks
from fivefold.chat.tagged_parser import TaggedParser

_THINKING = Marks("<think>", "</think>")


def _make(tools: bool, reasoning: bool, opened: bool = False) -> AnswerParser:
    return TaggedParser(None, _THINKING if reasoning else None, opened)


DIALECT = Dialect(
    name="deepseek",
    shown_texts=(_THINKING.opener, _THINKING.closer),
    make=_make,
    thinking=_THINKING,
    template_marks=("<｜Assistant｜>",),
)
