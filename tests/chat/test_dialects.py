"""The table of dialects, and which one a chat template tells of."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

import fivefold.chat.dialects
from fivefold.chat import DIALECTS, Dialect, Piece, dialect_for

DEEPSEEK, HERMES, PLAIN = DIALECTS["deepseek"], DIALECTS["hermes"], DIALECTS["plain"]


def marks(dialect: Dialect) -> list[str]:
    call = [] if dialect.call is None else [dialect.call.marks, dialect.call.response]
    thinking = [] if dialect.thinking is None else [dialect.thinking]
    return [text for each in (*call, *thinking) for text in (each.opener, each.closer)] + list(dialect.frame)


def test_each_file_is_a_row() -> None:
    folder = Path(fivefold.chat.dialects.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "table"}
    assert files == set(DIALECTS)
    assert [name for name, dialect in DIALECTS.items() if dialect.name != name] == []


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: str(dialect.name))
def test_no_mark_is_part_of_another(dialect: Dialect) -> None:
    """The parser takes the first mark that is complete, so none may lie in another."""
    assert [pair for pair in permutations(marks(dialect), 2) if pair[0] in pair[1]] == []
    assert all(len(mark) > 1 for mark in marks(dialect))
    response = () if dialect.call is None else (dialect.call.response.opener, dialect.call.response.closer)
    assert set(dialect.shown_texts) == set(marks(dialect)) - set(response)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, PLAIN),
        ("", PLAIN),
        ("{{ messages[0].content }}", PLAIN),
        ("{% if tools %}{{ tools }}{% endif %}<tool_call>", HERMES),
        ("<|im_start|>{{ messages[0].content }}<|im_end|>", HERMES),
        ("{{ '<｜User｜>' + messages[0].content + '<｜Assistant｜><think>\\n' }}", DEEPSEEK),
        ("<|im_start|>{% if tools %}[TOOL_CALLS]{% endif %}", PLAIN),
        ("<|start_header_id|>{% if tools is not none %}<|python_tag|>{% endif %}", PLAIN),
    ],
)
def test_the_template_tells_the_dialect(template: str | None, expected: Dialect) -> None:
    assert dialect_for(template) is expected


@pytest.mark.model
def test_the_default_model_is_taught(default_model: Path) -> None:
    from fivefold.files.gguf import open_gguf

    template = open_gguf(default_model).metadata["tokenizer.chat_template"]
    assert isinstance(template, str)
    assert "tool" not in template
    assert dialect_for(template) is HERMES


def test_the_form_of_a_call_is_data() -> None:
    """What a grammar needs: marks and keys, which the parser itself goes by."""
    form = HERMES.call
    assert form is not None
    for key in form.argument_keys:
        body = f'{{"{form.name_key}": "f", "{key}": {{"a": 1}}}}'
        pieces = HERMES.make(True, True).push(f"{form.marks.opener}{body}{form.marks.closer}")
        assert [(piece.name, piece.text) for piece in pieces] == [("f", ""), ("", '{"a": 1}')]
    assert (HERMES.reasoning_open, PLAIN.reasoning_open) == ("<think>", "")


@pytest.mark.parametrize("tools", [False, True])
def test_deepseek_reasons_in_marks_and_its_calls_stay_text(tools: bool) -> None:
    """The prompt may have opened the reasoning already, as R1's does."""
    call = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f"
    for opened, opener in (True, ""), (False, "<think>\n"):
        parser = DEEPSEEK.make(tools, True, opened)
        pieces = parser.push(f"{opener}why</think>\n\nso {call}") + parser.finish()
        told = {kind: "".join(piece.text for piece in pieces if piece.kind == kind)
                for kind in ("reasoning", "text")}  # fmt: skip
        assert told == {"reasoning": "why", "text": f"so {call}"}
        assert not parser.called


@pytest.mark.parametrize("text", ["", "a", '<think>x</think><tool_call>{"name": "f"}</tool_call>'])
def test_plain_gives_what_it_gets(text: str) -> None:
    parser = PLAIN.make(tools=True, reasoning=True, opened=True)
    assert parser.push(text) == ([Piece("text", text)] if text else [])
    assert parser.finish() == []
    assert not parser.called
    assert not parser.cut
