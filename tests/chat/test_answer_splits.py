"""However an answer is cut into pieces, the joined result is that of the whole text, and nothing is lost.

Answers are made in two ways: at random from marks, pieces of JSON and text, and well formed, with what has
to come out known beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivefold.chat import DIALECTS, AnswerParser, Piece

MARKS = ["<tool_call>", "</tool_call>", "<think>", "</think>", "<tool_", "call>", "<", "</", "think>"]
JSON = [*'{}[],:"\\', '{"name": "f"', ', "arguments": ', '{"arguments": {"a": ', '"name": "g"}', "null", "{}",
        '{"a": "x\\"}', "}}", '"parameters": {', '"{\\"a\\": 1}"', "\\u00e9", "\\ud83d", "1"]  # fmt: skip
TEXTS = ["a", "é😀", " ", "\n", "\n\n", "x y"]
RANDOM = st.lists(st.sampled_from([*MARKS, *JSON, *TEXTS]), max_size=14).map("".join)
BEGUN = '<tool_call>{"name": "f", "arguments": '
LIKELY = st.lists(st.sampled_from([BEGUN, *MARKS[:4], *JSON, "}</tool_call>", *TEXTS]), max_size=8).map(
    "".join
)
SETTINGS = st.fixed_dictionaries(
    {"tools": st.booleans(), "reasoning": st.booleans(), "opened": st.booleans()}
)

BOTH = {"tools": True, "reasoning": True}
PLACES = st.lists(st.integers(0, 400), max_size=12)

Answer = list[tuple[str, int, str, str]]


def joined(pieces: Iterable[Piece]) -> Answer:
    """Kind, call, name and text, with pieces that continue each other put together."""
    answer: Answer = []
    for piece in pieces:
        if answer and answer[-1][:2] == (piece.kind, piece.call) and piece.kind != "tool_call":
            answer[-1] = (piece.kind, piece.call, "", answer[-1][3] + piece.text)
        else:
            answer.append((piece.kind, piece.call, piece.name, piece.text))
    return answer


def parse(pieces: Iterable[str], chosen: dict[str, bool]) -> tuple[Answer, AnswerParser]:
    parser = DIALECTS["hermes"].make(**chosen)
    given = [part for text in pieces for part in parser.push(text)]
    assert all(part.text or part.kind == "tool_call" for part in given)
    return joined([*given, *parser.finish()]), parser


def cut_at(text: str, places: Iterable[int]) -> list[str]:
    borders = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(borders)]


def check(text: str, ways: Iterable[list[str]], chosen: dict[str, bool]) -> None:
    """All ways of cutting the text give what the whole gives."""
    expected, whole = parse([text], chosen)
    for pieces in ways:
        answer, parser = parse(pieces, chosen)
        assert answer == expected, pieces
        assert (parser.called, parser.cut) == (whole.called, whole.cut)


@settings(deadline=None)
@given(text=st.one_of(RANDOM, LIKELY), chosen=SETTINGS)
def test_random_answers_are_the_same_cut_anywhere(text: str, chosen: dict[str, bool]) -> None:
    check(text, ([text[:place], text[place:]] for place in range(1, len(text))), chosen)


@given(text=st.one_of(RANDOM, LIKELY), chosen=SETTINGS, places=PLACES)
def test_random_answers_are_the_same_in_many_pieces(
    text: str, chosen: dict[str, bool], places: list[int]
) -> None:
    check(text, [list(text), cut_at(text, places)], chosen)


@given(text=st.one_of(RANDOM, LIKELY))
def test_without_a_call_all_of_a_text_comes_out(text: str) -> None:
    answer, parser = parse([text], {"tools": True, "reasoning": False})
    if all(kind == "text" for kind, *_ in answer):
        assert "".join(part for *_, part in answer) == text
        assert not parser.called
        assert not parser.cut


@given(text=st.one_of(RANDOM, LIKELY), chosen=SETTINGS)
def test_arguments_are_an_object_unless_a_call_was_cut(text: str, chosen: dict[str, bool]) -> None:
    """Calls are numbered in order, and each that is whole has arguments, once."""
    answer, parser = parse([text], chosen)
    told = [call for kind, call, *_ in answer if kind == "tool_call"]
    assert told == list(range(len(told)))
    arguments = {call: text for kind, call, _, text in answer if kind == "tool_arguments"}
    assert len(arguments) == sum(kind == "tool_arguments" for kind, *_ in answer)
    assert parser.called or parser.cut or not told
    if not parser.cut:
        assert set(arguments) == set(told)
        assert all(isinstance(json.loads(each), dict) for each in arguments.values())


NAMES = st.text(min_size=1, max_size=6).filter(lambda name: name.isprintable())
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from(["</tool_call>", '"', "\\", "€😀"])
)
ARGUMENTS = st.dictionaries(
    st.text(max_size=3), st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3))
)
SAID = st.text("ab< >\n/", min_size=1, max_size=6)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, Answer]:
    """A block with one call, and what has to come of it."""
    name, arguments = draw(NAMES), draw(ARGUMENTS)
    plain, indent = draw(st.booleans()), draw(st.sampled_from([None, 2]))
    raw = json.dumps(arguments, ensure_ascii=plain, indent=indent)
    value = json.dumps(raw, ensure_ascii=plain) if draw(st.booleans()) else raw
    key = draw(st.sampled_from(["arguments", "parameters"]))
    fields = [f'"name": {json.dumps(name, ensure_ascii=plain)}', f'"{key}": {value}', '"id": 5']
    order = draw(st.permutations(range(3)))
    space = draw(st.sampled_from(["", "\n", " \n"]))
    body = "{" + ", ".join(fields[index] for index in order) + "}"
    text = f"<tool_call>{space}{body}{space}</tool_call>"
    return text, [("tool_call", 0, name, ""), ("tool_arguments", 0, "", raw)]


@st.composite
def thoughts(draw: st.DrawFn) -> tuple[str, Answer]:
    """Reasoning, and what has to come of it."""
    said = draw(SAID)
    kept = said.strip("\n")
    return f"<think>{said}</think>", [("reasoning", 0, "", kept)] if kept else []


@settings(deadline=None)
@given(data=st.data())
def test_well_formed_answers(data: st.DataObject) -> None:
    blocks = data.draw(st.lists(st.one_of(calls(), thoughts()), max_size=4))
    texts = data.draw(
        st.lists(st.one_of(st.just(""), SAID), min_size=len(blocks) + 1, max_size=len(blocks) + 1)
    )
    answer, expected, number = "", [], 0
    for index, said in enumerate(texts):
        answer += said
        after_thought = index > 0 and blocks[index - 1][0].startswith("<think>")
        kept = said.lstrip("\n") if after_thought else said
        if kept and (kept.strip() or not blocks):
            expected.append(("text", 0, "", kept))
        if index < len(blocks):
            text, parts = blocks[index]
            answer += text
            expected += [
                (kind, number if kind != "reasoning" else 0, name, part) for kind, _, name, part in parts
            ]
            number += any(kind == "tool_call" for kind, *_ in parts)
    found, parser = parse([answer], BOTH)
    assert found == joined(Piece(kind, part, call, name) for kind, call, name, part in expected)  # type: ignore[arg-type]
    assert parser.called == (number > 0)
    assert not parser.cut
    check(answer, [list(answer), cut_at(answer, data.draw(PLACES))], BOTH)


@pytest.mark.parametrize("arguments", ["", ', "arguments": {}', ', "arguments": null', ', "arguments": ""'])
def test_empty_arguments_are_not_lost_in_a_stream(arguments: str) -> None:
    answer, _ = parse(
        f'<tool_call>{{"name": "f"{arguments}}}</tool_call>', {"tools": True, "reasoning": True}
    )
    assert answer == [("tool_call", 0, "f", ""), ("tool_arguments", 0, "", "{}")]


def test_arguments_are_sent_once_and_never_taken_back() -> None:
    """Each piece is what the text brought: no brace is closed early, nothing comes again at the end."""
    parser = DIALECTS["hermes"].make(True, True)
    text = '<tool_call>\n{"name": "f", "arguments": {"city": "Łódź", "days": [1, 2]}}\n</tool_call>'
    sent = [
        [piece.text for piece in parser.push(character) if piece.kind == "tool_arguments"]
        for character in text
    ]
    begin = text.index('{"city"')
    expected = [[character] for character in text[begin : text.index("]}") + 2]]
    assert [part for part in sent if part] == expected
    assert parser.finish() == []


@pytest.mark.parametrize(
    "ending", ["", "</tool_call>", "\n</tool_call>\n", "\n</tool_call>\n\n<tool_call>\n"]
)
def test_no_markup_is_left_beside_a_call(ending: str) -> None:
    answer, parser = parse(
        ['<tool_call>\n{"name": "f", "arguments": {"a": 1}}' + ending], {"tools": True, "reasoning": True}
    )
    assert parser.called
    begun = "<tool_call>\n" if ending.endswith("<tool_call>\n") else ""
    assert "".join(text for kind, _, _, text in answer if kind == "text").strip() == begun.strip()
