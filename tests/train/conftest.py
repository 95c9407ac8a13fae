"""What tests of training share: tiny random models of several families, and examples made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.cache import PagedCache
from fivefold.core.batch import Commit, Float32, Span, Step
from fivefold.core.checkpoint import Checkpoint
from fivefold.executor import dequantize
from fivefold.models import load_model
from fivefold.program import Model, ReferenceCache, ReferenceExecutor, StepOutput
from fivefold.train.lookahead.examples import Document, Question, write_document

WINDOW = 24
MORE_NORMS = {
    "llama": (), "qwen3": ("attn_q_norm", "attn_k_norm"),
    "gemma3": ("attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm"),
}  # fmt: skip
"""Norms of a block that a family has beside Llama's."""
GIVEN = {"gemma3": {"attention__sliding_window": WINDOW, "attention__sliding_window_pattern": 2}}

MakeModel = Callable[[str], Checkpoint]


@pytest.fixture
def random_model(tiny: Any, save: Any) -> MakeModel:
    """A tiny model of a family as a GGUF file."""

    def make(architecture: str) -> Checkpoint:
        shape = tiny(architecture, layers=3)
        arrays = shape.arrays()
        random = np.random.default_rng(4)
        for layer in range(shape.layers):
            for part in MORE_NORMS[architecture]:
                size = shape.hidden if part.startswith("post") else shape.head_size
                norm = 1 + 0.1 * random.standard_normal(size)
                arrays[f"blk.{layer}.{part}.weight"] = norm.astype(np.float32)
        made: Checkpoint = save(shape.metadata(**GIVEN.get(architecture, {})), arrays)
        return made

    return make


class Reference:
    """The reference executor over one sequence."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.model: Model = load_model(checkpoint)
        self.layout = self.model.layout
        self._storage = ReferenceCache(self.layout, 16)
        pages = {group.name: 16 for group in self.layout.groups}
        self._cache = PagedCache(self.layout, pages, self._storage)
        self._executor = ReferenceExecutor(
            self.model.main, lambda name: dequantize(checkpoint.tensors[name]), self._storage
        )
        self._sequence = self._cache.open()
        self._length = 0

    def run(self, tokens: list[int], taps: tuple[str, ...] = ()) -> tuple[StepOutput, Float32, Float32]:
        """Tokens more; what is tapped, and keys and values of all, (layers, KV heads, T, D)."""
        batch = self._cache.prepare(
            Step((Span.causal(self._sequence, np.array(tokens, np.int32), self._length),))
        )
        found = self._executor.run(batch, taps)
        self._length += len(tokens)
        keys, values = [], []
        for layer in self.model.main.layers:
            group = next(group for group in self.layout.groups if layer in group.layers)
            entries = [
                self._storage.read(batch, group.name, layer, 0, head, np.arange(self._length))
                for head in range(group.kv_heads)
            ]
            keys.append(np.stack([key for key, _ in entries]))
            values.append(np.stack([value for _, value in entries]))
        self._cache.commit([Commit(self._sequence, np.arange(len(tokens), dtype=np.int32))])
        return found, np.stack(keys), np.stack(values)


@pytest.fixture
def reference() -> Callable[[Checkpoint], Reference]:
    return Reference


def made_up(model: Model, name: str, seed: int, tokens: int = 60) -> Document:
    """Random entries; each question looks at a few places, which its last key says to all heads."""
    random = np.random.default_rng(seed)
    group = model.layout.groups[0]
    layers, heads = model.shape.layers, model.shape.heads

    def entries(count: int) -> Any:
        shape = (layers, group.kv_heads, count, group.key_width)
        return random.standard_normal(shape).astype(np.float16)

    questions = []
    for own in (8, 12):
        target = np.full((layers, heads, tokens + own), 0.002)
        target[..., 10 + own % 5] = 0.5
        questions.append(
            Question(
                np.arange(own, dtype=np.int32), entries(own), entries(own), target.astype(np.float16),
                np.array([1, 2], np.int32), "made up",
            )
        )  # fmt: skip
    keys = entries(tokens)
    keys[:, :, 10:15] += np.float16(1.0)
    return Document(name, np.arange(tokens, dtype=np.int32), keys, entries(tokens), tuple(questions))


@pytest.fixture
def examples(tmp_path: Path) -> Callable[[Model, int], Path]:
    """A folder of made-up examples for a model."""

    def make(model: Model, count: int) -> Path:
        folder = tmp_path / "examples"
        for number in range(count):
            write_document(folder, made_up(model, f"{number:03d}", number))
        return folder

    return make
