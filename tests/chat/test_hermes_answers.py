"""Answers in the Hermes dialect: what is read as a call, as reasoning, as text."""

from __future__ import annotations

import json
import re

import pytest

from fivefold.chat import DIALECTS, AnswerParser, Piece

Parts = list[tuple[str, str]]


def joined(pieces: list[Piece]) -> Parts:
    """Pieces of one kind put together; a call is its name, its arguments a part of their own."""
    parts: Parts = []
    for piece in pieces:
        kind = f"{piece.kind} {piece.call}" if piece.kind.startswith("tool") else piece.kind
        text = piece.name if piece.kind == "tool_call" else piece.text
        if parts and parts[-1][0] == kind and piece.kind != "tool_call":
            parts[-1] = kind, parts[-1][1] + text
        else:
            parts.append((kind, text))
    return parts


def read(
    text: str, *, tools: bool = True, reasoning: bool = True, opened: bool = False
) -> tuple[Parts, AnswerParser]:
    """The parts of an answer, the same whole and character by character."""
    parser = DIALECTS["hermes"].make(tools, reasoning, opened)
    whole = joined([*parser.push(text), *parser.finish()])
    other = DIALECTS["hermes"].make(tools=tools, reasoning=reasoning, opened=opened)
    pieces = [piece for character in text for piece in other.push(character)]
    assert joined([*pieces, *other.finish()]) == whole
    assert (other.called, other.cut) == (parser.called, parser.cut)
    assert parser.finish() == []
    return whole, parser


def parts_of(text: str, *, tools: bool = True, reasoning: bool = True, opened: bool = False) -> Parts:
    return read(text, tools=tools, reasoning=reasoning, opened=opened)[0]


def block(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


F = block('{"name": "f"}')


def call(name: str, arguments: str, number: int = 0) -> Parts:
    return [(f"tool_call {number}", name), (f"tool_arguments {number}", arguments)]


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ('{"name": "f", "arguments": {"a": 1}}', '{"a": 1}'),
        ('{"name":"f","arguments":{"a" : [{"b":"}"}]\n,"c":-1.5e3 } }', '{"a" : [{"b":"}"}]\n,"c":-1.5e3 }'),
        ('{"arguments": {"a": 1}, "name": "f"}', '{"a": 1}'),
        ('{"name": "f", "parameters": {"a": 1}}', '{"a": 1}'),
        ('{"name": "f", "arguments": {}}', "{}"),
        ('{"name": "f", "arguments": { }}', "{ }"),
        ('{"name": "f"}', "{}"),
        ('{"name": "f", "arguments": null}', "{}"),
        ('{"name": "f", "arguments": null, "parameters": {"a": 1}}', '{"a": 1}'),
        ('{"name": "f", "arguments": {"a": 1}, "parameters": {"b": 2}, "name": "g"}', '{"a": 1}'),
        ('{"name": "f", "arguments": "{\\"a\\": \\"\\\\u00e9\\"}"}', '{"a": "\\u00e9"}'),
        ('{"arguments": " {\\"a\\": 1}\\n", "name": "f"}', '{"a": 1}'),
        ('{"name": "f", "arguments": ""}', "{}"),
        ('{"name": "f", "arguments": "null"}', "{}"),
        ('{"name": "f", "arguments": "{\\"a\\": \\"\\ud800\\"}"}', '{"a": "\\ud800"}'),
        ('{"id": 7, "name": "f", "more": [{"name": "g"}], "arguments": {"name": "h"}}', '{"name": "h"}'),
        ('{"na\\u006de": "\\u0066", "arguments": {"ä": "€😀\\ud83d\\ude00"}}', '{"ä": "€😀\\ud83d\\ude00"}'),
        ('{"name": "f", "arguments": {"":"</tool_call>\\"<a>\\\\"}}', '{"":"</tool_call>\\"<a>\\\\"}'),
    ],
)  # fmt: skip
def test_a_call_and_its_arguments_as_they_stand(body: str, arguments: str) -> None:
    for text in (block(body), f"<tool_call>{body}</tool_call>", f"<tool_call>[{body}]</tool_call>"):
        parts, parser = read(text)
        assert parts == call("f", arguments)
        assert parser.called
        assert not parser.cut
    assert isinstance(json.loads(arguments), dict)


def test_a_call_has_an_identity_of_its_own() -> None:
    parser = DIALECTS["hermes"].make(True, True)
    pieces = parser.push(F * 2)
    identities = [piece.identity for piece in pieces if piece.kind == "tool_call"]
    assert len(set(identities)) == 2
    assert all(re.fullmatch("call_[0-9a-f]{24}", identity) for identity in identities)


def test_several_calls_and_the_text_around_them() -> None:
    f, g = F, block('{"name": "g", "arguments": {"a": 1}}')
    both = [*call("f", "{}"), *call("g", '{"a": 1}', 1)]
    assert parts_of(f + g) == parts_of(f"\n{f}\n \n{g}\n") == both
    assert parts_of(f"Look. {f}\n{g} Done.") == [("text", "Look. "), *both, ("text", " Done.")]
    between = [*call("f", "{}"), ("text", "\nand "), *call("g", '{"a": 1}', 1)]
    assert parts_of(f"{f}\nand {g}") == between


def test_a_list_of_calls_in_one_block() -> None:
    both = [*call("f", "{}"), *call("g", '{"a": 1}', 1)]
    assert (
        parts_of('<tool_call>[\n{"name": "f"},\n{"name": "g", "arguments": {"a": 1}}\n]</tool_call>') == both
    )
    assert parts_of('<tool_call>[{"name": "f"},{"name": "g", "arguments": {"a": 1}}') == both
    parts, parser = read('<tool_call>[{"name": "f"}, 5]</tool_call>.')
    assert parts == [*call("f", "{}"), ("text", ", 5].")]
    assert parser.called
    assert parts_of('<tool_call>[{"name": "f"},') == call("f", "{}")


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "<tool_call>\n",
        " <tool_call> now </tool_call> ",
        "<tool_call>\n{name: f}\n</tool_call>",
        '<tool_call>{"name": "f',
        '<tool_call>{"arguments": {"a": 1}}</tool_call>',
        '<tool_call>{"arguments": {"a": 1}, "name": ""}</tool_call>',
        '<tool_call>{"arguments": {"a": 1}, "name": 5}</tool_call>',
        '<tool_call>{"arguments": [1], "name": "f"}</tool_call>',
        '<tool_call>{"arguments": "[1]", "name": "f"}</tool_call>',
        '<tool_call>{"arguments": "{\\"a\\"", "name": "f"}</tool_call>',
        '<tool_call>{"name": "\\ud800"}</tool_call>',
        '<tool_call>{"type": "function", "function": {"name": "f"}}</tool_call>',
        "<tool_call>{}</tool_call>",
        "<tool_call>[]</tool_call>",
        "<tool_call>[[{}]]</tool_call>",
        "<tool_call>5</tool_call>",
        "<function=f></function>",
        "a </tool_call> b",
    ],
)
def test_what_is_no_call_comes_out_as_it_stands(text: str) -> None:
    parts, parser = read(text)
    assert parts == [("text", text)]
    assert not parser.cut
    assert not parser.called


@pytest.mark.parametrize(
    ("text", "arguments", "after"),
    [
        ('<tool_call>{"name": "f"', "", ""),
        ('<tool_call>{"name": "f", "arguments": {"a": [1, "b', '{"a": [1, "b', ""),
        ('<tool_call>{"name": "f", "arguments": {"a": tru}}</tool_call> on', '{"a": tru', "}} on"),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>', '{"a": 1}', ""),
        ('<tool_call>{"name": "f", "arguments": [1]}</tool_call>', "", "[1]}"),
        ('<tool_call>{"name": "f", "arguments": "[1]"}</tool_call>', "", '"[1]"}'),
        ('<tool_call>{"name": "f", "arguments": "{} x"}</tool_call>', "", '"{} x"}'),
        ('<tool_call>{"name": "f", "arguments": "{\\"a', "", ""),
    ],
)
def test_a_call_that_breaks_off_keeps_its_arguments_so_far(text: str, arguments: str, after: str) -> None:
    parts, parser = read(text)
    told = [("tool_call 0", "f"), ("tool_arguments 0", arguments), ("text", after)]
    assert parts == [part for part in told if part[1]]
    assert parser.cut
    assert not parser.called


def test_a_whole_call_needs_no_closer() -> None:
    """What follows it in the block is kept; its closer, late or begun, is not shown."""
    body = '<tool_call>{"name": "f"}'
    for ending, after in (("", ""), ("\n</tool_c", ""), ("} </tool_call>\nso", "} \nso"), (" so", " so")):
        parts, parser = read(body + ending)
        assert parts == [*call("f", "{}"), *([("text", after)] if after else [])]
        assert parser.called
        assert not parser.cut
    assert parts_of(body + body) == [*call("f", "{}"), *call("f", "{}", 1)]
    broken = "<tool_call>{oops}</tool_call>"
    assert parts_of(body + broken) == [*call("f", "{}"), ("text", broken)]


def test_calls_after_a_broken_one_are_read() -> None:
    broken = "<tool_call>{oops}</tool_call>"
    parts, parser = read(f"{broken}\n{F}")
    assert parts == [("text", f"{broken}\n"), *call("f", "{}")]
    assert parser.called


def test_depth_is_bounded() -> None:
    def nested(depth: int) -> str:
        return '{"a": ' * depth + "1" + "}" * depth

    assert parts_of(block(f'{{"name": "f", "arguments": {nested(64)}}}')) == call("f", nested(64))
    parts, parser = read(block(f'{{"name": "f", "arguments": {nested(65)}}}'))
    assert parts[1] == ("tool_arguments 0", '{"a": ' * 64)
    assert parser.cut
    text = block(f'{{"arguments": {nested(5000)}, "name": "f"}}')
    assert parts_of(text) == [("text", text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\nHm.\n</think>\n\nHi\n", [("reasoning", "Hm."), ("text", "Hi\n")]),
        ("\n<think>\n\n</think>\n\nHi", [("text", "Hi")]),
        ("<think> a\n\nb <thin </think> c", [("reasoning", " a\n\nb <thin "), ("text", " c")]),
        ("<think>a", [("reasoning", "a")]),
        ("<think>a\n</thi", [("reasoning", "a\n</thi")]),
        ("<think>\n", []),
        ("a <think>b</think>c", [("text", "a "), ("reasoning", "b"), ("text", "c")]),
        ("<think>a<think>b</think>", [("reasoning", "a<think>b")]),
        ("a</think>b", [("text", "a</think>b")]),
    ],
)
def test_reasoning(text: str, expected: Parts) -> None:
    assert parts_of(text) == expected
    assert "".join(part for _, part in parts_of(text, reasoning=False)) == text


def test_reasoning_that_the_prompt_has_opened() -> None:
    answer = [("reasoning", "Hm."), ("text", "Hi")]
    assert parts_of("\nHm.\n</think>\n\nHi", opened=True) == answer
    assert parts_of("Hm.", opened=True) == [("reasoning", "Hm.")]
    assert parts_of("Hm.</think>", opened=True, reasoning=False) == [("text", "Hm.</think>")]
    assert parts_of("", opened=True) == []


def test_reasoning_before_calls_and_calls_in_reasoning() -> None:
    assert parts_of(f"<think>a</think>\n\n{F}\n") == [("reasoning", "a"), *call("f", "{}")]
    parts, parser = read(f"<think>{F}</think>")
    assert parts == [("reasoning", F)]
    assert not parser.called


def test_marks_that_nobody_asked_for_are_text() -> None:
    text = f" <think>a</think> {F} "
    assert parts_of(text, tools=False, reasoning=False) == [("text", text)]
    parts, parser = read(text, tools=False)
    assert parts == [("reasoning", "a"), ("text", text[text.index("</think>") + 8 :])]
    assert not parser.called
    assert parts_of(text, reasoning=False) == [("text", " <think>a</think> "), *call("f", "{}")]


@pytest.mark.parametrize("text", ["", " ", "\n\n", " Hi \n", "a < b <", "<", "</tool_call>"])
def test_plain_text_is_kept(text: str) -> None:
    assert parts_of(text) == ([("text", text)] if text else [])


def test_only_what_may_become_a_mark_is_held_back() -> None:
    parser = DIALECTS["hermes"].make(True, True)
    assert parser.push("Hello <") == [Piece("text", "Hello ")]
    assert parser.push("b> <tool") == [Piece("text", "<b> ")]
    assert parser.push("box") == [Piece("text", "<toolbox")]
    assert parser.push("<think>a\n") == [Piece("reasoning", "a")]
    assert parser.push("b</") == [Piece("reasoning", "\nb")]


def test_the_name_is_told_as_soon_as_it_is_whole_and_arguments_as_they_come() -> None:
    parser = DIALECTS["hermes"].make(True, True)
    assert parser.push('<tool_call>{"name": "f') == []
    (told,) = parser.push('"')
    assert (told.kind, told.name, told.call) == ("tool_call", "f", 0)
    assert parser.push(', "arguments": {"a": "x') == [Piece("tool_arguments", '{"a": "x')]
    assert parser.push("y\\") == [Piece("tool_arguments", "y\\")]
    assert parser.push('"z"') == [Piece("tool_arguments", '"z"')]
    assert parser.push("}") == [Piece("tool_arguments", "}")]
    assert not parser.called
    assert parser.push("}") == []
    assert parser.called
    assert parser.push("\n</tool_call>") == parser.finish() == []
