"""After an eviction rows see what was kept, in every format of entries, alone or beside others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from fivefold.backends import NativeRunner, ReferenceRunner
from fivefold.core.batch import Commit, Float32, Int32, Span, Step
from fivefold.core.checkpoint import Checkpoint
from fivefold.executor import Settings
from fivefold.formats import ENTRY_FORMATS
from fivefold.models import load_model
from fivefold.program import split_layers

PROMPT = np.random.default_rng(2).integers(0, 11, 70).astype(np.int32)
KEPT = 37
FORMS = [*ENTRY_FORMATS]


@pytest.fixture
def checkpoint(tiny: Any, save: Any) -> Checkpoint:
    shape = tiny("llama", layers=3)
    made: Checkpoint = save(shape.metadata(), shape.arrays())
    return made


def native(checkpoint: Checkpoint, form: str = "f16", isa: str = "avx2", split: bool = False) -> NativeRunner:
    model = load_model(checkpoint)
    return NativeRunner(
        split_layers(model) if split else model, checkpoint, Settings(isa, 2, "float", 64, form), 512
    )


def read(runner: Any, sequence: int, tokens: Int32, start: int, chunks: Iterable[int]) -> Float32:
    logits: Float32 = np.zeros((0, 0), np.float32)
    first = 0
    for size in chunks:
        part = tokens[first : first + size]
        logits = runner.run(Step((Span.causal(sequence, part, start + first),)))
        runner.commit([Commit(sequence, np.arange(len(part), dtype=np.int32))])
        first += size
    assert first == len(tokens)
    return logits


def choice(runner: Any, same: bool = False) -> dict[str, Int32]:
    """Random slots of each layer and KV head, or the same everywhere."""
    (group,) = runner.cache.layout.groups
    random = np.random.default_rng(5)
    places = np.stack(
        [
            np.sort(random.permutation(len(PROMPT))[:KEPT])
            for _ in range(1 if same else len(group.layers) * group.kv_heads)
        ]
    ).astype(np.int32)
    shape = (len(group.layers), group.kv_heads, KEPT)
    return {group.name: np.broadcast_to(places, shape).copy() if same else places.reshape(shape)}


def evicted(runner: Any, chunks: tuple[int, ...] = (64, 6)) -> tuple[int, Float32]:
    """A sequence whose prompt was evicted from, and the logits of five tokens after it."""
    sequence = runner.open()
    read(runner, sequence, PROMPT, 0, chunks)
    runner.evict(sequence, choice(runner))
    after = np.array([3, 1, 4, 1, 5], np.int32)
    logits = read(runner, sequence, after, len(PROMPT), (2, 1, 2))
    runner.check_integrity()
    return sequence, logits


@pytest.mark.parametrize("form", FORMS)
def test_the_reference_evicts_the_same(checkpoint: Checkpoint, form: str) -> None:
    theirs = ReferenceRunner(load_model(checkpoint), checkpoint, 512, ENTRY_FORMATS[form])
    (_, ours), (_, expected) = evicted(native(checkpoint, form)), evicted(theirs)
    tolerance = 0.03 if form in {"int8", "fp8"} else 0.01
    np.testing.assert_allclose(ours, expected, atol=tolerance * np.abs(expected).max())


def test_evicted_entries_matter(checkpoint: Checkpoint) -> None:
    runner = native(checkpoint)
    _, kept = evicted(runner)
    whole = runner.open()
    read(runner, whole, PROMPT, 0, (64, 6))
    logits = read(runner, whole, np.array([3, 1, 4, 1, 5], np.int32), len(PROMPT), (2, 1, 2))
    assert np.abs(kept - logits).max() > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_neither_chunks_nor_instruction_sets_change_a_bit(checkpoint: Checkpoint, form: str) -> None:
    _, expected = evicted(native(checkpoint, form))
    for isa, chunks in (("portable", (64, 6)), ("avx2", (1, 30, 39)), ("avx2", (35, 35))):
        np.testing.assert_array_equal(evicted(native(checkpoint, form, isa), chunks)[1], expected)


def test_neighbours_and_forks_are_not_touched(checkpoint: Checkpoint) -> None:
    runner, other = native(checkpoint), native(checkpoint)
    whole = runner.open()
    read(runner, whole, PROMPT, 0, (64, 6))
    fork = runner.fork(whole)
    runner.evict(fork, choice(runner))
    alone = other.open()
    expected = read(other, alone, PROMPT, 0, (64, 6))
    expected = read(other, alone, np.array([7], np.int32), len(PROMPT), (1,))
    both = Step(tuple(Span.causal(one, np.array([7], np.int32), len(PROMPT)) for one in (fork, whole)))
    np.testing.assert_array_equal(runner.run(both)[1:], expected)
    runner.commit([Commit(one, np.zeros(1, np.int32)) for one in (fork, whole)])
    runner.check_integrity()


def test_a_part_of_a_draft_is_kept_behind_what_was_evicted(checkpoint: Checkpoint) -> None:
    """Rows of a draft that are given up leave nothing: the next row sees what it would without them."""
    runner = native(checkpoint)
    plain, _ = evicted(runner)
    drafted = runner.fork(plain)
    start = len(PROMPT) + 5
    runner.run(Step((Span.causal(drafted, np.array([2, 9, 9, 9], np.int32), start),)))
    runner.commit([Commit(drafted, np.zeros(1, np.int32))])
    expected = read(runner, plain, np.array([2, 6], np.int32), start, (1, 1))
    np.testing.assert_array_equal(read(runner, drafted, np.array([6], np.int32), start + 1, (1,)), expected)
    runner.check_integrity()


def test_different_numbers_in_each_head(checkpoint: Checkpoint) -> None:
    """With tables of their own, heads that keep the same entries give what a common table gives."""
    runner, split = native(checkpoint), native(checkpoint, split=True)
    same = choice(runner, same=True)
    (slots,) = same.values()
    rows = []
    for one in (runner, split):
        sequence = one.open()
        read(one, sequence, PROMPT, 0, (64, 6))
        if one is runner:
            one.evict(sequence, same)
        else:
            ragged = [slots[:1, 0], slots[:1, 0]]
            one.evict(sequence, {group.name: ragged[: group.kv_heads] for group in one.cache.layout.groups})
        rows.append(read(one, sequence, np.array([7, 8], np.int32), len(PROMPT), (1, 1)))
    np.testing.assert_array_equal(rows[1], rows[0])
    sequence = split.open()
    read(split, sequence, PROMPT, 0, (64, 6))
    free = split.figures().free
    split.evict(
        sequence,
        {
            group.name: [np.arange(5 + 30 * head, dtype=np.int32)[None] for head in range(group.kv_heads)]
            for group in split.cache.layout.groups
        },
    )
    assert split.figures().free > free
    read(split, sequence, np.array([7], np.int32), len(PROMPT), (1,))
    split.check_integrity()
