"""The loss and recall against plain numpy, and their masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fivefold.train.lookahead.examples import Document, Question
from fivefold.train.lookahead.loss import RECENT, SINKS, Targets, divergence, recall

LAYERS, KV_HEADS, HEADS, PREFIX, SUFFIXES = 2, 2, 6, 150, (6, 11)


def document(random: Any) -> Document:
    def entries(count: int) -> Any:
        return np.zeros((LAYERS, KV_HEADS, count, 4), np.float16)

    questions = tuple(
        Question(
            np.zeros(own, np.int32), entries(own), entries(own),
            (random.random((LAYERS, HEADS, PREFIX + own)) ** 6).astype(np.float16), np.zeros(3, np.int32),
        )
        for own in SUFFIXES
    )  # fmt: skip
    return Document("one", np.zeros(PREFIX, np.int32), entries(PREFIX), entries(PREFIX), questions)


def attention(random: Any) -> list[Any]:
    shape = (len(SUFFIXES), HEADS, PREFIX + max(SUFFIXES))
    return [torch.tensor(random.random(shape) ** 3, dtype=torch.float32) for _ in range(LAYERS)]


def shares(values: Any, each_query: bool) -> Any:
    """Of (H, T): by heads, what counts, divided by its sum, in float64."""
    if not each_query:
        values = values.reshape(KV_HEADS, HEADS // KV_HEADS, -1).mean(1)
    counted = values.astype(np.float64)[:, SINKS : values.shape[1] - RECENT]
    return counted / counted.sum(-1, keepdims=True)


@pytest.mark.parametrize("each_query", [False, True])
def test_the_loss_is_the_divergence_of_what_counts(each_query: bool) -> None:
    random = np.random.default_rng(1)
    example, importance = document(random), attention(random)
    expected = []
    for number, question in enumerate(example.questions):
        length = PREFIX + len(question.tokens)
        for layer in range(LAYERS):
            target = shares(question.target[layer].astype(np.float32), each_query)
            found = shares(importance[layer][number, :, :length].numpy(), each_query)
            logs = np.log(np.where(target > 0, target, 1.0)) - np.log(found)
            expected.append((target * logs).sum(-1).mean())
    ours = divergence(importance, Targets(example, KV_HEADS, each_query))
    assert float(ours) == pytest.approx(np.mean(expected), rel=1e-4)


def test_only_what_counts_has_a_gradient() -> None:
    random = np.random.default_rng(2)
    example = document(random)
    importance = [one.requires_grad_() for one in attention(random)]
    divergence(importance, Targets(example, KV_HEADS)).backward()
    gradient = importance[0].grad
    first = PREFIX + SUFFIXES[0] - RECENT
    assert torch.all(gradient[:, :, :SINKS] == 0) and torch.all(gradient[0, :, first:] == 0)
    assert torch.all(gradient[0, :, SINKS:first].abs().sum(1) > 0)


def test_the_target_itself_has_no_divergence_and_the_best_recall() -> None:
    random = np.random.default_rng(3)
    example = document(random)
    targets = Targets(example, KV_HEADS)
    exact = []
    for layer in range(LAYERS):
        padded = torch.zeros(len(SUFFIXES), HEADS, PREFIX + max(SUFFIXES))
        for number, question in enumerate(example.questions):
            padded[number, :, : question.target.shape[2]] = torch.tensor(question.target[layer]).float()
        exact.append(padded)
    assert abs(float(divergence(exact, targets))) < 1e-5
    found = recall(exact, targets, 64, 1)
    assert found.found == pytest.approx(found.best, abs=1e-5)
    worse = recall(attention(random), targets, 64, 1)
    assert worse.found < worse.best == pytest.approx(found.best)
    everything = recall(exact, targets, 400, 7)
    assert everything.found == pytest.approx(1.0, abs=1e-5)


def test_recall_counts_what_the_budget_leaves() -> None:
    """28 of 64 entries are free: 4 first and 32 last ones are always kept."""
    random = np.random.default_rng(4)
    example, importance = document(random), attention(random)
    targets = Targets(example, KV_HEADS)
    expected = []
    for number, question in enumerate(example.questions):
        length = PREFIX + len(question.tokens)
        for layer in range(LAYERS):
            target = shares(question.target[layer].astype(np.float32), False)
            scores = importance[layer][number, :, :length].numpy().reshape(KV_HEADS, HEADS // KV_HEADS, -1)
            pooled = np.pad(scores.mean(1), ((0, 0), (3, 3)), constant_values=-1)
            pooled = np.lib.stride_tricks.sliding_window_view(pooled, 7, axis=1).max(-1)
            for head in range(KV_HEADS):
                candidates = pooled[head, SINKS : length - RECENT]
                least = np.sort(candidates)[-28]
                expected.append(
                    (target[head, candidates > least].sum(), target[head, candidates >= least].sum())
                )
    low, high = np.mean(expected, axis=0)  # neighbours share a maximum, so the last ones are tied
    assert low - 1e-6 <= recall(importance, targets, 64, 7).found <= high + 1e-6
