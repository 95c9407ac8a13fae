"""Examples made by the model itself: entries of prompts, answers, and what the answers looked at.

A document is read once; each of its questions goes on in a fork of that sequence, which shares the document's
pages. All questions of a document are answered together, greedily, on the whole cache. Then the answer's rows
run once more, as one span that observes, and are not kept: what they pay to the prompt is the target
(arXiv 2603.10899: the mean over the answer's rows; the row that chooses the first token belongs to the
prompt and does not count).

Which texts and questions there are is not decided here, nor how examples are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fivefold.core.batch import Commit, Float32, Span, Step
from fivefold.core.runner import Runner
from fivefold.engine import read_prompt
from fivefold.engine.observing import with_observers

from .examples import SHORTEST_PROMPT, Document, Float16, Question

LEAST_ANSWER = 2
"""Rows of an answer at least: of one token nothing is observed."""


class ReadingRunner(Runner, Protocol):
    """A runner whose entries can be read: the native one and the reference."""

    def entries(self, sequence: int, group: str, first: int = 0) -> tuple[Float32, Float32]:
        """Keys and values of a sequence from a slot on, (layers, KV heads, n, width)."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt: the tokens behind the document, what kind of question it is, and whether an answer's tokens
    are right (None: anything is)."""

    tokens: tuple[int, ...]
    kind: str
    right: Callable[[Sequence[int]], bool] | None = None


@dataclass(frozen=True, slots=True)
class Making:
    """How examples are made: the model, the cache group that is evicted from, and where answers end."""

    runner: ReadingRunner
    group: str
    end_tokens: frozenset[int]
    answer_tokens: int = 64


def make_document(
    making: Making, name: str, tokens: Sequence[int], asked: Sequence[Asked], settings: Mapping[str, Any]
) -> Document | None:
    """The document with the questions whose answers are right and have two tokens; None if none has."""
    runner = making.runner
    base = runner.open()
    opened = [base]
    try:
        read_prompt(runner, base, np.array(tokens, np.int32))
        keys, values = (_half(part) for part in runner.entries(base, making.group))
        forks = []
        for _ in asked:
            forks.append(runner.fork(base))
            opened.append(forks[-1])
        questions = _questions(making, forks, len(tokens), asked)
    finally:
        for sequence in opened:
            runner.close(sequence)
    if not questions:
        return None
    return Document(name, np.array(tokens, np.int32), keys, values, tuple(questions), dict(settings))


def _questions(making: Making, forks: Sequence[int], start: int, asked: Sequence[Asked]) -> list[Question]:
    runner = making.runner
    logits = [
        read_prompt(runner, fork, np.array(one.tokens, np.int32), start)
        for fork, one in zip(forks, asked, strict=True)
    ]
    parts = [runner.entries(fork, making.group, start) for fork in forks]
    lengths = [start + len(one.tokens) for one in asked]
    answers = _answers(making, forks, lengths, logits)
    made = []
    for fork, one, length, answer, (keys, values) in zip(forks, asked, lengths, answers, parts, strict=True):
        if len(answer) < LEAST_ANSWER or length < SHORTEST_PROMPT:
            continue
        if one.right is not None and not one.right(answer):
            continue
        target = _target(making, fork, length, answer)
        ids = np.array(one.tokens, np.int32), np.array(answer, np.int32)
        made.append(Question(ids[0], _half(keys), _half(values), _half(target), ids[1], one.kind))
    return made


def _answers(
    making: Making, forks: Sequence[int], lengths: Sequence[int], logits: Sequence[Float32]
) -> list[list[int]]:
    """Greedy answers, all of them in one step for each token, without the token that ends them."""
    answers: list[list[int]] = [[] for _ in forks]
    going = {index: int(logits[index][0].argmax()) for index in range(len(forks))}
    while True:
        going = {index: token for index, token in going.items() if token not in making.end_tokens}
        for index, token in going.items():
            answers[index].append(token)
        going = {i: token for i, token in going.items() if len(answers[i]) < making.answer_tokens}
        if not going:
            return answers
        spans = tuple(
            Span.causal(forks[i], np.array([token], np.int32), lengths[i] + len(answers[i]) - 1)
            for i, token in going.items()
        )
        found = making.runner.run(Step(spans))
        making.runner.commit([Commit(span.sequence, np.zeros(1, np.int32)) for span in spans])
        going = {index: int(row.argmax()) for index, row in zip(going, found, strict=True)}


def _target(making: Making, fork: int, length: int, answer: Sequence[int]) -> Float32:
    """(layers, query heads, T): the mean attention of the answer's rows to the prompt's entries."""
    runner = making.runner
    runner.truncate(fork, length)
    rows = np.arange(len(answer), dtype=np.int32)
    span = Span.causal(fork, np.array(answer, np.int32), length, rows[:0])
    runner.run(Step((with_observers(span),)))
    found = runner.importance(fork)[making.group]
    runner.commit([Commit(fork, rows[:0])])
    target: Float32 = found[..., :length] / np.float32(len(rows))
    return target


def _half(numbers: Float32) -> Float16:
    return numbers.astype(np.float16)
