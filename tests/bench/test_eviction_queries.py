"""Queries before their rotation: those of the reference, and rotations that undo each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fivefold.backends import NativeRunner
from fivefold.bench.eviction.queries import SKIPPED, Queries
from fivefold.core.batch import Span, Step
from fivefold.engine import LoadOptions, load
from fivefold.executor import dequantize
from fivefold.program import ReferenceCache, ReferenceExecutor, split_layers

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
TOKENS = np.random.default_rng(6).integers(3, 40, 90).astype(np.int32)


def test_statistics_are_those_of_the_references_queries() -> None:
    loaded = load(TINY, LoadOptions(threads=1, entries=1, activations="float"))
    model = split_layers(loaded.model)
    runner = NativeRunner(model, loaded.checkpoint, loaded.settings, 256)
    found = Queries(runner, model.main).statistics(TOKENS)
    assert runner.figures().used == 0
    rotations = [node for node in model.main.nodes if node.op == "rope"]
    attentions = [node for node in model.main.nodes if node.op == "attention"]
    of_queries = [node for node in rotations if node.outputs[0] in {one.inputs[0] for one in attentions}]
    taps = [node.inputs[0] for node in of_queries]
    storage = ReferenceCache(model.layout, 64)
    reference = ReferenceExecutor(
        model.main, lambda name: dequantize(loaded.checkpoint.tensors[name]), storage
    )
    sequence = runner.open()
    batch = runner.cache.prepare(Step((Span.causal(sequence, TOKENS, 0),)))
    buffers = reference.run(batch, taps).buffers
    for layer, name in enumerate(taps):
        rows = buffers[name][SKIPPED:].astype(np.float64)
        heads = rows.reshape(len(rows), found.mean.shape[1], -1).swapaxes(0, 1)
        scale = np.abs(heads).max()
        np.testing.assert_allclose(found.mean[layer], heads.mean(axis=1), atol=5e-3 * scale)
        expected = np.stack([np.cov(head.T, bias=True) for head in heads])
        np.testing.assert_allclose(found.covariance[layer], expected, atol=1e-2 * scale**2)


def test_a_rotation_is_the_mean_of_those_to_come() -> None:
    """Of one position it is what `rope` does there; of many its numbers are smaller."""
    loaded = load(TINY, LoadOptions(threads=1, entries=1))
    runner = NativeRunner(loaded.model, loaded.checkpoint, loaded.settings, 256)
    found = Queries(runner, loaded.model.main).statistics(TOKENS)
    size = found.mean.shape[-1]
    assert found.rotation.shape == (found.mean.shape[0], size, size)
    lengths = np.linalg.norm(found.rotation, ord=2, axis=(1, 2))
    assert (lengths <= 1 + 1e-5).all()
