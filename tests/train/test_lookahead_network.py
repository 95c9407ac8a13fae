"""The network in torch over lookahead rows: the reference executor's numbers, and gradients that are true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fivefold.core.errors import InputError, UnsupportedError
from fivefold.executor import dequantize
from fivefold.models import load_model
from fivefold.train.lookahead.examples import Document, Question
from fivefold.train.lookahead.network import Network
from fivefold.train.lookahead.parameters import Plan

PREFIX, SUFFIXES, ROWS = 40, (24, 31), 6


def tokens_of(seed: int, count: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 80, count)]


def continuation(checkpoint: Any, reference: Any, tapped: str) -> tuple[Document, list[Any], list[int]]:
    """Two prompts of one prefix; the reference's tap of the same tokens behind each, and these tokens."""
    prefix, rows = tokens_of(1, PREFIX), tokens_of(2, ROWS)
    questions, taps = [], []
    for seed, count in enumerate(SUFFIXES):
        executor, suffix = reference(checkpoint), tokens_of(10 + seed, count)
        _, keys, values = executor.run([*prefix, *suffix])
        found, _, _ = executor.run(rows, (tapped,))
        taps.append(found.buffers[tapped])
        target = np.ones((len(keys), executor.model.shape.heads, PREFIX + count), np.float16)
        questions.append(
            Question(
                np.array(suffix, np.int32), keys[:, :, PREFIX:], values[:, :, PREFIX:], target,
                np.array([1], np.int32),
            )
        )  # fmt: skip
    shared = keys[:, :, :PREFIX], values[:, :, :PREFIX]
    return Document("one", np.array(prefix, np.int32), *shared, tuple(questions)), taps, rows


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_rows_of_real_tokens_are_the_references_continuation(
    family: str, random_model: Any, reference: Any
) -> None:
    """In float32 entries. The tap is what the last layer asks: it depends on all that comes before."""
    checkpoint = random_model(family)
    model = load_model(checkpoint)
    tapped = [node for node in model.main.nodes if node.op == "attention"][-1].inputs[0]
    document, expected, rows = continuation(checkpoint, reference, tapped)
    network = Network(model, lambda name: dequantize(checkpoint.tensors[name]))
    table = dequantize(checkpoint.tensors[network.table])
    plan = Plan(ROWS, model.shape.hidden, 2, network.linears)
    _, pairs = plan.parts(torch.tensor(plan.begin(table, 0)))
    outcome = network.run(torch.tensor(table[rows]), pairs, 4.0, document, (tapped,))
    ours = outcome.buffers[tapped].view(len(SUFFIXES), ROWS, -1).numpy()
    assert np.abs(ours - np.stack(expected)).max() < 2e-4
    assert len(outcome.importance) == model.shape.layers
    for layer, importance in enumerate(outcome.importance):
        assert importance.shape == (len(SUFFIXES), model.shape.heads, PREFIX + max(SUFFIXES))
        assert torch.all(importance[0, :, PREFIX + SUFFIXES[0] :] == 0)
        total = importance.sum(-1)
        assert torch.all(total < 1) and torch.all(total > 0.5), layer
    changed = {name: (down, up + 0.1) for name, (down, up) in pairs.items()}
    other = network.run(torch.tensor(table[rows]), changed, 4.0, document)
    assert (other.importance[0] - outcome.importance[0]).abs().max() > 1e-4


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_importance_is_the_softmax_of_the_last_queries(
    family: str, random_model: Any, reference: Any
) -> None:
    checkpoint = random_model(family)
    model = load_model(checkpoint)
    last = [node for node in model.main.nodes if node.op == "attention"][-1]
    stored = [node for node in model.main.nodes if node.op == "attention_store"][-1]
    document, _, rows = continuation(checkpoint, reference, last.inputs[0])
    network = Network(model, lambda name: dequantize(checkpoint.tensors[name]))
    table = dequantize(checkpoint.tensors[network.table])
    outcome = network.run(torch.tensor(table[rows]), {}, 1.0, document, (last.inputs[0], stored.inputs[0]))
    queries = outcome.buffers[last.inputs[0]].view(len(SUFFIXES), ROWS, model.shape.heads, -1).double()
    keys = outcome.buffers[stored.inputs[0]].view(len(SUFFIXES), ROWS, model.shape.kv_heads, -1).double()
    share = model.shape.heads // model.shape.kv_heads
    group = model.layout.group(str(last.attributes["group"]))
    for number, question in enumerate(document.questions):
        length = PREFIX + len(question.tokens)
        for head in range(model.shape.heads):
            kept = np.concatenate([document.keys[-1, head // share], question.keys[-1, head // share]])
            every = torch.cat([torch.tensor(kept).double(), keys[number, :, head // share]])
            mean = torch.zeros(length, dtype=torch.float64)
            for row in range(ROWS):
                seen = range(length + row + 1)
                if group.window is not None:
                    seen = range(length + row + 1 - group.window, length + row + 1)
                scores = every[seen] @ queries[number, row, head] * float(last.attributes["scale"])
                weights = torch.zeros(length + ROWS, dtype=torch.float64)
                weights[seen] = torch.softmax(scores, 0)
                mean += weights[:length] / ROWS
            assert (outcome.importance[-1][number, head, :length] - mean).abs().max() < 1e-6


def test_the_last_layer_stops_after_its_scores(random_model: Any) -> None:
    checkpoint = random_model("qwen3")
    network = Network(load_model(checkpoint), lambda name: dequantize(checkpoint.tensors[name]))
    last = [name.split(".")[2] for name in network.linears if name.startswith("blk.2.")]
    assert last == ["attn_q", "attn_k"]
    assert len(network.linears) == 7 * 2 + 2


def test_what_cannot_be_trained_through_is_refused_by_name(random_model: Any) -> None:
    checkpoint = random_model("llama")
    model = load_model(checkpoint)
    document = Document(
        "other", np.zeros(70, np.int32), np.zeros((3, 1, 70, 16), np.float16),
        np.zeros((3, 1, 70, 16), np.float16),
        (Question(np.zeros(4, np.int32), np.zeros((3, 1, 4, 16), np.float16),
                  np.zeros((3, 1, 4, 16), np.float16), np.zeros((3, 4, 74), np.float16),
                  np.zeros(2, np.int32)),),
    )  # fmt: skip
    network = Network(model, lambda name: dequantize(checkpoint.tensors[name]))
    with pytest.raises(InputError, match=r"other: entries of 3 layers, 1 KV heads.*make examples"):
        network.run(torch.zeros(2, 64), {}, 1.0, document)
    nodes = tuple(
        type(node)("route", *[getattr(node, name) for name in ("inputs", "outputs", "weights", "attributes",
                                                              "layer", "row_set", "label")])
        if node.op == "gated" else node
        for node in model.main.nodes
    )  # fmt: skip
    program = model.main.with_nodes(nodes, model.main.buffers, model.main.weights)
    other = type(model)(model.shape, model.layout, {"main": program})
    with pytest.raises(UnsupportedError, match="op route cannot be trained through"):
        Network(other, lambda name: dequantize(checkpoint.tensors[name]))
