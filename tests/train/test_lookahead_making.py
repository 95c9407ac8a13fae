"""Examples made by a model: what is stored is what a runner has, and what its answers paid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fivefold.backends import NativeRunner, ReferenceRunner
from fivefold.core.batch import OBSERVERS, Commit, Span, Step
from fivefold.core.checkpoint import Checkpoint
from fivefold.engine import read_prompt
from fivefold.executor import Settings
from fivefold.models import load_model
from fivefold.train.lookahead.collecting import Collection, shared_beginning
from fivefold.train.lookahead.examples import Document
from fivefold.train.lookahead.making import Asked, Making, make_document

DOCUMENT = [int(token) for token in np.random.default_rng(1).integers(1, 9, 70)]
ASKED = (Asked((5, 6, 7), "a"), Asked((8, 3, 2, 4), "b"))


@pytest.fixture
def checkpoint(random_model: Callable[[str], Checkpoint]) -> Checkpoint:
    return random_model("qwen3")


def native(checkpoint: Checkpoint) -> NativeRunner:
    return NativeRunner(load_model(checkpoint), checkpoint, Settings("avx2", 2, "float", 64), 1024)


def making(runner: Any, ends: Sequence[int] = ()) -> Making:
    return Making(runner, runner.cache.layout.names[0], frozenset(ends), answer_tokens=6)


def made(runner: Any, asked: Sequence[Asked] = ASKED, ends: Sequence[int] = ()) -> Document | None:
    found = make_document(making(runner, ends), "doc", DOCUMENT, asked, {"seed": 3})
    runner.check_integrity()
    assert runner.figures().used == 0, "every sequence is closed"
    return found


def test_entries_are_those_of_the_prompts(checkpoint: Checkpoint) -> None:
    found = made(native(checkpoint))
    assert found is not None
    runner = native(checkpoint)
    (name,) = runner.cache.layout.names
    for question, asked in zip(found.questions, ASKED, strict=True):
        sequence = runner.open()
        read_prompt(runner, sequence, np.array([*DOCUMENT, *asked.tokens], np.int32), 0)
        keys, values = runner.entries(sequence, name)
        for stored, mine, whole in (
            (found.keys, question.keys, keys),
            (found.values, question.values, values),
        ):
            np.testing.assert_array_equal(np.concatenate([stored, mine], axis=2), whole.astype(np.float16))
        assert question.tokens.tolist() == list(asked.tokens)
        assert question.kind == asked.kind


def test_targets_are_the_mean_of_what_the_answers_rows_paid(checkpoint: Checkpoint) -> None:
    found = made(native(checkpoint))
    assert found is not None
    runner = native(checkpoint)
    (name,) = runner.cache.layout.names
    for question, asked in zip(found.questions, ASKED, strict=True):
        length = len(DOCUMENT) + len(asked.tokens)
        sequence = runner.open()
        read_prompt(runner, sequence, np.array([*DOCUMENT, *asked.tokens], np.int32), 0)
        total = np.zeros(question.target.shape, np.float64)
        for place, token in enumerate(question.answer.tolist()):  # one row after the other
            span = Span.causal(sequence, np.array([token], np.int32), length + place)
            span = replace(span, row_sets={**span.row_sets, OBSERVERS: np.zeros(1, np.int32)})
            runner.run(Step((span,)))
            runner.commit([Commit(sequence, np.zeros(1, np.int32))])
            total += runner.importance(sequence)[name][..., :length]
        np.testing.assert_allclose(question.target, total / len(question.answer), atol=2e-3)
        assert (question.target.sum(axis=2) <= 1.01).all()


def test_the_reference_makes_the_same(checkpoint: Checkpoint) -> None:
    ours, theirs = made(native(checkpoint)), made(ReferenceRunner(load_model(checkpoint), checkpoint, 1024))
    assert ours is not None
    assert theirs is not None
    for mine, other in zip(ours.questions, theirs.questions, strict=True):
        np.testing.assert_array_equal(mine.answer, other.answer)
        np.testing.assert_allclose(mine.target, other.target, atol=5e-3)


def test_answers_are_greedy_and_end_at_an_end_token(checkpoint: Checkpoint) -> None:
    whole = made(native(checkpoint))
    assert whole is not None
    first = whole.questions[0].answer.tolist()
    assert len(first) == 6
    end = next((token for token in first[2:] if token not in first[:2]), None)
    if end is None:
        pytest.skip("this model repeats itself from the start")
    cut = made(native(checkpoint), ASKED[:1], [end])
    assert cut is not None
    assert cut.questions[0].answer.tolist() == first[: first.index(end)]


def test_short_and_wrong_answers_are_left_out(checkpoint: Checkpoint) -> None:
    whole = made(native(checkpoint))
    assert whole is not None
    first = int(whole.questions[0].answer[0])
    assert made(native(checkpoint), ASKED[:1], [first]) is None
    seen: list[list[int]] = []

    def right(answer: Sequence[int]) -> bool:
        seen.append(list(answer))
        return False

    found = made(native(checkpoint), (replace(ASKED[0], right=right), ASKED[1]))
    assert found is not None
    assert [question.kind for question in found.questions] == ["b"]
    assert seen == [whole.questions[0].answer.tolist()]


def test_prompts_share_what_they_begin_with_but_for_a_token_of_their_own() -> None:
    assert shared_beginning([[1, 2, 3, 4], [1, 2, 5]]) == 2
    assert shared_beginning([[1, 2, 3], [1, 2, 3]]) == 2
    assert shared_beginning([[1, 2], [3, 2]]) == 0
    assert shared_beginning([[1, 2, 3]]) == 2


def test_collections_of_other_seeds_lie_in_one_folder() -> None:
    assert Collection(3, seed=1).name(2) != Collection(3, seed=2).name(2)
