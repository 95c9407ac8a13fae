"""Row invariance on the real model: a row's logits are the same bits however the rows are cut into steps."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from fivefold.core.batch import Commit, Float32, Int32, Span, Step
from fivefold.core.runner import Runner
from fivefold.engine import LoadOptions, load
from fivefold.executor import processor

ISAS = [isa for isa in processor().instruction_sets if isa != "portable"] or ["portable"]
ROWS = [1, 1, 2, 3, 5, 8, 17, 33, 64]


def span(sequence: int, tokens: Int32, start: int) -> Span:
    return Span.causal(sequence, tokens, start, np.arange(len(tokens), dtype=np.int32))


def logits_in_chunks(runner: Runner, tokens: Int32, sizes: list[int], sequences: int = 1) -> list[Float32]:
    """Logits of every row, for each of some sequences that run side by side in chunks of these sizes."""
    opened = [runner.open() for _ in range(sequences)]
    found: list[list[Float32]] = [[] for _ in opened]
    start = 0
    for size in sizes:
        part = tokens[start : start + size]
        rows = runner.run(Step(tuple(span(sequence, part, start) for sequence in opened)))
        runner.commit([Commit(sequence, np.arange(len(part), dtype=np.int32)) for sequence in opened])
        for index in range(sequences):
            found[index].append(rows[index * len(part) : (index + 1) * len(part)])
        start += size
    for sequence in opened:
        runner.close(sequence)
    return [np.concatenate(parts) for parts in found]


def cut(total: int, seed: int) -> list[int]:
    chosen = random.Random(seed)
    sizes: list[int] = []
    while sum(sizes) < total:
        sizes.append(min(chosen.choice(ROWS), total - sum(sizes)))
    return sizes


@pytest.fixture(scope="module")
def tokens(default_model: Path) -> Int32:
    """Text across page borders (32) and the first segment border (512)."""
    vocabulary = load(default_model).vocabulary
    text = (Path(__file__).parents[2] / "LICENSE").read_text()
    return np.array(vocabulary.encode(text)[:560], np.int32)


@pytest.fixture(scope="module")
def expected(default_model: Path, tokens: Int32) -> dict[str, Float32]:
    """All rows in one step, one thread, the best instruction set."""
    found = {}
    for kind, options in {
        "int8": LoadOptions(threads=1, activations="int8", max_rows=600, context=2048),
        "float": LoadOptions(threads=1, activations="float", max_rows=600, context=2048),
    }.items():
        found[kind] = logits_in_chunks(load(default_model, options).runner, tokens, [len(tokens)])[0]
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("activations", ["int8", "float"])
def test_any_cut_on_any_threads_and_instruction_set_gives_the_same_bits(
    default_model: Path, tokens: Int32, expected: dict[str, Float32], activations: str, isa: str, threads: int
) -> None:
    kind = "int8" if activations == "int8" else "float"
    runner = load(default_model, LoadOptions(isa, threads, kind, 2048)).runner
    chunked = logits_in_chunks(runner, tokens, cut(len(tokens), seed=threads))
    assert np.array_equal(chunked[0], expected[activations])


def test_sequences_side_by_side_give_the_same_bits(
    default_model: Path, tokens: Int32, expected: dict[str, Float32]
) -> None:
    runner = load(default_model, LoadOptions(context=2048)).runner
    some = tokens[:200]
    for found in logits_in_chunks(runner, some, cut(len(some), seed=9), sequences=3):
        assert np.array_equal(found, expected["int8"][: len(some)])


@pytest.mark.parametrize("form", ["bf16", "int8", "fp8"])
def test_every_format_of_entries_gives_the_same_bits(default_model: Path, tokens: Int32, form: str) -> None:
    """Cut up on two threads against all rows in one step; the portable kernels with fewer rows."""
    whole = load(default_model, LoadOptions(threads=1, max_rows=600, context=2048, cache_format=form))
    expected = logits_in_chunks(whole.runner, tokens, [len(tokens)])[0]
    for isa in ISAS:
        runner = load(default_model, LoadOptions(isa, 2, context=2048, cache_format=form)).runner
        assert np.array_equal(logits_in_chunks(runner, tokens, cut(len(tokens), seed=4))[0], expected)
    runner = load(default_model, LoadOptions("portable", 2, context=2048, cache_format=form)).runner
    assert np.array_equal(logits_in_chunks(runner, tokens[:12], [5, 7])[0], expected[:12])


def test_portable_kernels_give_the_same_bits(
    default_model: Path, tokens: Int32, expected: dict[str, Float32]
) -> None:
    some = tokens[:12]
    for activations in ("int8", "float"):
        kind = "int8" if activations == "int8" else "float"
        runner = load(default_model, LoadOptions("portable", 2, kind, 2048)).runner
        assert np.array_equal(logits_in_chunks(runner, some, [5, 7])[0], expected[activations][: len(some)])
