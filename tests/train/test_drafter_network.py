"""A drafter in torch against its Program on the reference executor, and the loss of its guesses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fivefold.backends import ReferenceRunner, drafting
from fivefold.core.batch import Commit, Span, Step
from fivefold.models import load_model
from fivefold.program import tap_buffers, with_drafter
from fivefold.train.drafter.loss import BEHIND, UNKNOWN, Hits, decayed, divergence, targets, worth
from fivefold.train.drafter.network import SLOTS, Blocks, Frame, Network

TOKENS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 7, 9, 3, 2], np.int32)


@pytest.mark.parametrize("form", ["block", "serial"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
def test_logits_are_those_of_the_program(
    random_model: Any, random_drafter: Any, form: str, architecture: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(drafting, "GIVEN_UP", 0.0)  # random numbers are sure of nothing
    checkpoint = random_model(architecture)
    model = load_model(checkpoint)
    drafter = random_drafter(model, form, (0, 2))
    runner = ReferenceRunner(with_drafter(model, drafter.shape), checkpoint, 256, drafter=drafter)
    taps = tap_buffers(model, drafter.shape.taps)
    sequence, states, contexts = runner.open(), [], []
    for place, token in enumerate(TOKENS):
        batch = runner.cache.prepare(Step((Span.causal(sequence, np.array([token]), place),)))
        found = runner._executor.run(batch, taps).buffers
        states.append(np.stack([found[tap][0] for tap in taps]))
        contexts.append(found[runner._main.outputs[1]][0])
        runner.commit([Commit(sequence, np.zeros(1, np.int32))])
    frame = Frame.of(model, checkpoint)
    # the runner has matrices as q8_0: the same numbers here
    weights = {name: runner._weight(f"drafter.{name}") for name in drafter.weights}
    head = runner._weight("drafter.head")
    network = Network(drafter.shape, frame, head)  # type: ignore[arg-type]
    if form == "block":
        weights[SLOTS] = drafter.slots
    parts = network.plan.parts(torch.from_numpy(network.plan.joined(weights)))
    anchors = np.array([4, 9, 12], np.int32)
    blocks = network.blocks(TOKENS, anchors, 3)
    hidden = torch.from_numpy(np.stack(states[:12]))
    assert runner.drafting is not None
    run = runner.drafting._run
    for place in (2, 1, 0):
        runner.truncate(sequence, int(anchors[place]))
        rows: list[Any] = []

        def watched(batch: Any, rows: list[Any] = rows) -> Any:
            found = run(batch)
            rows.append(found[0].copy())
            return found

        runner.drafting._run = watched
        runner.drafting._features[sequence] = contexts[anchors[place] - 1]
        guessed = runner.draft([(sequence, int(TOKENS[anchors[place]]), 3)])[0]
        given = blocks.tokens.clone()
        if form == "serial":  # the runner goes on with its own guesses
            given[place, 1:] = torch.tensor([token for token, _ in guessed[:2]])
        logits = network.logits(parts, network.rows(parts, hidden, Blocks(blocks.anchors, given)))
        assert logits.shape == (3, 3, 40)
        np.testing.assert_allclose(logits[place].numpy(), np.concatenate(rows), rtol=1e-3, atol=2e-4)


def test_targets_are_the_tokens_behind_the_anchors() -> None:
    rows = np.full(10, UNKNOWN, np.int32)
    rows[[1, 4, 5]] = [0, 1, 2]
    found = targets(TOKENS, rows, np.array([1, 14], np.int32), 3)
    assert found.tolist() == [[1, 0, 2], [UNKNOWN, BEHIND, BEHIND]]


def test_the_loss_is_a_divergence_that_decays_by_slot() -> None:
    random = torch.Generator().manual_seed(0)
    logits, model = (torch.randn(2, 3, 5, generator=random) for _ in range(2))
    right = torch.tensor([[1, 2, UNKNOWN], [4, BEHIND, BEHIND]])
    each = divergence(logits, model)
    shares, said = torch.softmax(model, -1), torch.softmax(logits, -1)
    expected = (shares * (shares / said).log()).sum(-1)
    torch.testing.assert_close(each, expected, rtol=1e-4, atol=1e-6)
    assert float(divergence(model, model + 3.0).abs().max()) < 1e-6
    fade = float(np.exp(-1 / 2.0))
    weights = torch.tensor([[1.0, fade, fade**2], [1.0, 0.0, 0.0]])
    wanted = float((expected * weights).sum() / weights.sum())
    assert float(decayed(each, right, 2.0)) == pytest.approx(wanted, rel=1e-4)


def test_worth_counts_what_is_right_up_to_a_slot() -> None:
    logits = torch.eye(4)[torch.tensor([[0, 1, 2], [0, 3, 2], [1, 1, 1]])]
    right = torch.tensor([[0, 1, 3], [0, 1, 2], [1, 1, BEHIND]])
    found = worth([Hits.of(logits[:1], right[:1]), Hits.of(logits[1:], right[1:])])
    assert found["agreement"] == [1.0, round(2 / 3, 4), 0.5]
    assert found["accepted"] == [1.0, round(2 / 3, 4), 0.0]
    assert found["tokens"] == [2.0, round(2 + 2 / 3, 4), round(2 + 2 / 3, 4)]
    assert found["blocks"] == 3
