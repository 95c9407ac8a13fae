"""Exercises: what they are made of, that they are right, and that a test never says what training says."""

from __future__ import annotations

import itertools
import re
from dataclasses import fields, is_dataclass
from random import Random
from typing import Any

import pytest

from fivefold.core.errors import InputError
from fivefold.exercises import (
    FIXED_SETS,
    WEIGHTS,
    Drawing,
    Exercise,
    Library,
    Question,
    Side,
    Text,
    exercises,
    words,
)
from fivefold.exercises.exercise import plain
from fivefold.exercises.kinds import KINDS
from fivefold.exercises.passages import CLOSE
from fivefold.exercises.sentences import breaks, hidden, named_sentences

SIDES: tuple[Side, ...] = ("training", "held_out")
WORDS = [
    "stone",
    "water",
    "letter",
    "morning",
    "window",
    "paper",
    "music",
    "market",
    "corner",
    "summer",
    "winter",
    "doctor",
    "teacher",
    "street",
]


def count_tokens(text: str) -> int:
    """Four characters are a token here."""
    return -(-len(text) // 4)


def made_prose(seed: str, sentences: int) -> str:
    """Sentences of random words in paragraphs."""
    random = Random(seed)
    parts = []
    for at in range(sentences):
        chosen = [random.choice(WORDS) for _ in range(random.randint(9, 16))]
        parts.append(" ".join([f"Part{seed}{at}", *chosen]).capitalize() + ("." if at % 5 else ".\n\n"))
    return " ".join(parts).replace("\n ", "\n")


def made_code(seed: str, functions: int) -> str:
    return "\n\n".join(
        f"def {seed}_{at}(self, first, second={at}):\n    value = first * {at} + second\n    return value"
        for at in range(functions)
    )


def made_texts(side: Side) -> list[Text]:
    short = side[0]
    every = [Text(f"{short}-{kind}", f"{kind}.txt", kind, side, made_prose(f"{short}{kind}", 900)) for kind in
             ("prose", "manual", "legal", "talk")]  # fmt: skip
    return [*every, Text(f"{short}-code", "code.py", "code", side, made_code(f"{short}f", 900))]


def drawn(side: Side, kind: str, count: int = 6, tokens: int = 500, **more: Any) -> list[Exercise]:
    drawing = Drawing((tokens, tokens), 3, {kind: 1.0}, **more)
    return list(exercises(made_texts(side), count_tokens, drawing, count))


def said(phrasing: Any) -> list[str]:
    """All templates of a phrasing, without what stands for names."""
    if isinstance(phrasing, str):
        return [phrasing]
    if is_dataclass(phrasing):
        return said(tuple(getattr(phrasing, field.name) for field in fields(phrasing)))
    return [one for part in phrasing for one in said(part)]


def wordings(side: Side) -> set[str]:
    every = (table.of(side) for kind in KINDS.values() for table in kind.phrasings.values())
    return {plain(one) for phrasings in every for one in said(phrasings) if any(map(str.isalpha, bare(one)))}


def is_name(pair: tuple[str, str]) -> bool:
    adjectives, nouns = (listed["held_out"].split() for listed in (words._ADJECTIVES, words._NOUNS))
    return pair[0] in adjectives and pair[1] in nouns


def bare(template: str) -> str:
    """Without what is filled in, and without what is Python and no wording."""
    template = template.replace("def {name}", "")
    for name in (
        "key",
        "value",
        "name",
        "arguments",
        "beginning",
        "sentence",
        "rest",
        "number",
        "title",
        "text",
    ):
        template = template.replace(f"{{{name}}}", "")
    return template


def test_no_wording_of_a_test_is_one_of_training() -> None:
    """Over all kinds: needles, questions, beginnings of answers, introductions, layouts, noise."""
    assert not wordings("training") & wordings("held_out")
    assert len(wordings("training")) > 150


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_several_wordings_on_both_sides(kind: str) -> None:
    for what, table in KINDS[kind].phrasings.items():
        assert len(table.training) >= (4 if what == "heads" else 5), what
        assert len(table.held_out) >= 2, what


@pytest.mark.parametrize(("kind", "side"), list(itertools.product(KINDS, SIDES)))
def test_an_exercise_is_of_its_side(kind: str, side: Side) -> None:
    """Its packages are of the side, and no package of the other side was opened."""
    for exercise in drawn(side, kind):
        assert exercise.kind == kind
        assert all(package.startswith(side[0]) for package in exercise.packages)
        assert exercise.packages or kind in {"needle_noise", "key_values"}


@pytest.mark.parametrize(("kind", "side"), list(itertools.product(KINDS, SIDES)))
def test_answers_stand_in_the_document_and_questions_differ(kind: str, side: Side) -> None:
    for exercise in drawn(side, kind, 12):
        assert 2 <= len(exercise.questions) <= 4
        assert len({question.text for question in exercise.questions}) == len(exercise.questions)
        for question in exercise.questions:
            whole = " ".join(message["content"] for message in exercise.messages(question))
            assert "{" not in question.text + question.prefix, "a template was not filled"
            if question.answer is not None:
                assert plain(question.answer) in plain(whole)
                assert question.is_right(f"so {question.answer}, it says")
                assert question.depth is not None and 0 <= question.depth <= 1


@pytest.mark.parametrize("kind", ["needle_noise", "needle_prose", "multi_key"])
def test_a_needle_has_a_key_of_its_own(kind: str) -> None:
    """The value is in the document once, and so is the key: a wrong answer cannot be right."""
    for exercise in drawn("held_out", kind, 12):
        for question in exercise.questions:
            assert question.answer is not None and len(question.answer) == 7
            assert exercise.document.count(question.answer) == 1
            names = [
                pair for pair in itertools.pairwise(re.findall(r"[a-z]+", question.text)) if is_name(pair)
            ]
            assert len(names) == 1
            assert exercise.document.count(" ".join(names[0])) == 1


@pytest.mark.parametrize(("kind", "tokens"), list(itertools.product(KINDS, [300, 2048])))
def test_a_document_has_the_wanted_length(kind: str, tokens: int) -> None:
    lengths = []
    for exercise in drawn("training", kind, 8, tokens):
        whole = exercise.messages(Question("", None, "", ""))
        lengths.append(sum(count_tokens(message["content"]) for message in whole))
    assert max(lengths) <= tokens * 1.06 + 20
    assert sum(lengths) / len(lengths) >= (CLOSE - 0.1) * tokens - 60


def test_exercises_are_the_same_again_and_from_any_number_on() -> None:
    texts = made_texts("training")
    drawing = Drawing((200, 800), 5)
    whole = list(exercises(texts, count_tokens, drawing, 12))
    assert list(exercises(texts, count_tokens, drawing, 5, first=7)) == whole[7:]
    assert list(exercises(texts, count_tokens, Drawing((200, 800), 6), 12)) != whole
    assert len({exercise.kind for exercise in whole}) >= 4


def test_lengths_are_spread_over_their_range() -> None:
    drawing = Drawing((100, 1600), 1, {"needle_noise": 1.0})
    lengths = [
        count_tokens(one.document) for one in exercises(made_texts("training"), count_tokens, drawing, 60)
    ]
    below = sum(length <= 400 for length in lengths)
    assert 18 <= below <= 42, "half of them below the geometric mean"
    assert min(lengths) < 200 and max(lengths) > 1200


def test_needles_stand_anywhere() -> None:
    """Depths of needles over many documents: in each quarter about a fourth."""
    for kind in ("needle_noise", "needle_prose"):
        depths = [
            question.depth
            for exercise in drawn("training", kind, 120, 400, questions=1, needles=1)
            for question in exercise.questions
        ]
        quarters = [sum(at / 4 <= (depth or 0) < (at + 1) / 4 for depth in depths) for at in range(4)]
        assert min(quarters) >= 15, (kind, quarters)


def test_hidden_sentences_stand_between_others() -> None:
    text = made_prose("x", 40)
    made, depths = hidden(text, ["First needle here.", "Second needle here."], Random(1))
    for needle in ("First needle here.", "Second needle here."):
        before, after = made.split(needle)
        assert before.rstrip()[-1:] in {".", ""} and after[:1].isspace()
    assert all(0 <= depth < 1 for depth in depths)
    assert made.replace("First needle here. ", "").replace("Second needle here. ", "").split() != made.split()
    assert len(breaks(text)) >= 39


def test_named_sentences_begin_as_no_other_does() -> None:
    same = "The wind is cold today and the road is long for us."
    other = "Nobody knows the name of the man who wrote this letter."
    found = named_sentences(f"{same} {same} {other}")
    assert [sentence.text for sentence in found] == [other]
    assert found[0].beginning + " " + found[0].rest == other


def test_what_is_right() -> None:
    question = Question("?", "12 Apples", "", "x")
    assert question.is_right("There are 12\napples.")
    assert not question.is_right("There are 112 apples")
    assert not Question("?", None, "", "x").is_right("anything")


def test_messages_share_their_beginning() -> None:
    exercise = Exercise(
        "x", "text", (Question("one?", None, "", "x"),), (), (("user", "hello"), ("assistant", "yes"))
    )
    assert exercise.messages(exercise.questions[0]) == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "text\n\none?"},
    ]


def test_fixed_sets_are_of_known_kinds_and_leave_room_to_answer() -> None:
    assert {"needle_noise_8k", "needle_prose_2k", "multi_key_4k", "chat_8k"} <= set(FIXED_SETS)
    for fixed in FIXED_SETS.values():
        assert fixed.kind in KINDS and fixed.tokens <= 7600
    fixed = FIXED_SETS["multi_key_1k"]
    for exercise in exercises(made_texts("held_out"), count_tokens, fixed.drawing(), 3):
        assert len(exercise.questions) == fixed.questions == 2


def test_what_cannot_be_drawn_is_refused() -> None:
    texts = made_texts("training")
    for drawing, what in (
        (Drawing((100, 200), 0, {"riddle": 1.0}), "unknown kind of exercise 'riddle'"),
        (Drawing((200, 100)), "lengths 200 to 100 are no range"),
        (Drawing((100, 200), 0, {"quote": 0.0}), "weights"),
        (Drawing((10**6, 10**6), 0, {"quote": 1.0}), "no package has"),
        (Drawing((8, 8), 0, {"summary": 1.0}), "too short"),
    ):
        with pytest.raises(InputError, match=what):
            list(exercises(texts, count_tokens, drawing, 40))
    with pytest.raises(InputError, match="texts of 2 sides"):
        Library([*texts, *made_texts("held_out")], count_tokens)
    assert set(WEIGHTS) == set(KINDS)
