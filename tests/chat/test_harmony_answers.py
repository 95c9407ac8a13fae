"""Answers of GPT-OSS: channels become reasoning, text and calls, however the answer is cut into pieces."""

from __future__ import annotations

import pytest

from fivefold.chat import DIALECTS, Piece, dialect_for

HARMONY = DIALECTS["harmony"]
THOUGHT = "<|channel|>analysis<|message|>Let me see <b>.<|end|>"
FINAL = "<|start|>assistant<|channel|>final<|message|>It is 4."
CALL = '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": [1, 2]}<|call|>'
ROLE_CALL = ' to=functions.get-it<|channel|>commentary json<|message|> {"b": "<|"} <|call|>'


def read(
    answer: str, size: int, tools: bool = True, reasoning: bool = True
) -> tuple[list[Piece], bool, bool]:
    """The pieces, joined as far as they follow each other, their identities left out."""
    parser = HARMONY.make(tools, reasoning)
    pieces: list[Piece] = []
    for at in range(0, len(answer), size):
        pieces += parser.push(answer[at : at + size])
    pieces += parser.finish()
    assert parser.finish() == []
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if (
            last is not None
            and piece.kind != "tool_call"
            and (last.kind, last.call) == (piece.kind, piece.call)
        ):
            joined[-1] = Piece(piece.kind, last.text + piece.text, piece.call)
        else:
            joined.append(Piece(piece.kind, piece.text, piece.call, piece.name))
    return joined, parser.called, parser.cut


CASES: list[tuple[str, list[Piece], bool, bool]] = [
    (THOUGHT + FINAL, [Piece("reasoning", "Let me see <b>."), Piece("text", "It is 4.")], False, False),
    (FINAL.removeprefix("<|start|>assistant") + "<|return|>", [Piece("text", "It is 4.")], False, False),
    (THOUGHT + "<|start|>assistant" + CALL,
     [Piece("reasoning", "Let me see <b>."), Piece("tool_call", name="add"),
      Piece("tool_arguments", '{"a": [1, 2]}')], True, False),
    (ROLE_CALL, [Piece("tool_call", name="get-it"), Piece("tool_arguments", '{"b": "<|"}')], True, False),
    ("<|channel|>commentary<|message|>I shall add.<|end|><|start|>assistant" + CALL,
     [Piece("text", "I shall add."), Piece("tool_call", name="add"),
      Piece("tool_arguments", '{"a": [1, 2]}')], True, False),
    (CALL + "<|start|>assistant" + CALL,
     [Piece("tool_call", name="add"), Piece("tool_arguments", '{"a": [1, 2]}'),
      Piece("tool_call", call=1, name="add"), Piece("tool_arguments", '{"a": [1, 2]}', 1)], True, False),
    (CALL.replace('{"a": [1, 2]}', ""), [Piece("tool_call", name="add"), Piece("tool_arguments", "{}")],
     True, False),
    (CALL.replace("2]}<|call|>", ""), [Piece("tool_call", name="add"), Piece("tool_arguments", '{"a": [1, ')],
     False, True),
    (CALL.replace('{"a"', "a"), [Piece("tool_call", name="add")], False, True),
    ("Plain words.", [Piece("text", "Plain words.")], False, False),
    ("to", [Piece("text", "to")], False, False),
    ("<|channel|>analysis", [], False, False),
    ("<|channel|>analysis<|message|>Broken <|en", [Piece("reasoning", "Broken <|en")], False, False),
    ("", [], False, False),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "expected", "called", "cut"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_channels_become_pieces(
    answer: str, expected: list[Piece], called: bool, cut: bool, size: int
) -> None:
    assert read(answer, size) == (expected, called, cut)


def test_what_is_not_asked_for_is_text() -> None:
    assert read(THOUGHT, 1, reasoning=False)[0] == [Piece("text", "Let me see <b>.")]
    assert read(CALL, 1, tools=False) == ([Piece("text", '{"a": [1, 2]}')], False, False)


def test_text_comes_as_soon_as_it_is_certain() -> None:
    parser = HARMONY.make(True, True)
    assert parser.push("<|channel|>final<|message|>Well") == [Piece("text", "Well")]
    assert parser.push(" <|") == [Piece("text", " ")]
    assert parser.push("x") == [Piece("text", "<|x")]


def test_calls_have_identities_of_their_own() -> None:
    parser = HARMONY.make(True, True)
    pieces = [piece for piece in parser.push(CALL + "<|start|>assistant" + CALL) if piece.kind == "tool_call"]
    assert len({piece.identity for piece in pieces}) == 2
    assert all(piece.identity.startswith("call_") for piece in pieces)


def test_the_template_of_gpt_oss_tells_of_it() -> None:
    template = "{% if tools %}{{ tools }}{% endif %}<|start|>assistant<|channel|>final<|message|>"
    assert dialect_for(template) is HARMONY
