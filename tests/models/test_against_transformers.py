"""Families against Transformers itself: tiny models that it makes here, saves, and runs in float32.

The reference executor keeps float32 entries, and must be within 1e-4 of the largest logit; so must it be step
by step, and what it writes greedily must be what Transformers writes. The native executor keeps f16 entries,
whose steps are 2^-11 of a number: what differs by more than a few of these is a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from transformers_models import MODELS, PROMPT, SHARDED, WINDOW, WRITTEN, Generated, generate

from fivefold.backends import NativeRunner, ReferenceRunner
from fivefold.core.batch import Commit, Float32, Span, Step
from fivefold.executor import Settings, choose_isa
from fivefold.files import open_checkpoint
from fivefold.models import load_model

CHUNKS = (5, 1, 20, 15)
EXACT, HALF = 1e-4, 4e-3


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Generated]:
    """A variant's model, made once."""
    made: dict[str, Generated] = {}

    def give(name: str) -> Generated:
        if name not in made:
            made[name] = generate(name, tmp_path_factory.mktemp("transformers") / name)
        return made[name]

    return give


def read_and_write(runner: Any, prompt: list[int]) -> tuple[list[int], Float32]:
    """The prompt in chunks, then greedily token by token: all tokens, and the logits after each."""
    sequence, found = runner.open(), list[Float32]()
    tokens = list(prompt)
    parts = [*CHUNKS, *[1] * WRITTEN]
    assert sum(CHUNKS) == len(prompt)
    begin = 0
    for count in parts:
        part = np.array(tokens[begin : begin + count], np.int32)
        rows = np.arange(count, dtype=np.int32)
        found.append(runner.run(Step((Span.causal(sequence, part, begin, rows),))))
        runner.commit([Commit(sequence, rows)])
        begin += count
        if begin == len(tokens) < len(prompt) + WRITTEN:
            tokens.append(int(np.argmax(found[-1][-1])))
    runner.check_integrity()
    return tokens, np.concatenate(found)


def distance(ours: Float32, theirs: Float32) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_text_are_those_of_transformers(
    name: str, generated: Callable[[str], Generated], record_property: Callable[[str, object], None]
) -> None:
    theirs = generated(name)
    checkpoint = open_checkpoint(theirs.folder)
    model = load_model(checkpoint)
    tokens, logits = read_and_write(ReferenceRunner(model, checkpoint, 256), theirs.tokens[:PROMPT])
    assert tokens == theirs.tokens
    exact = distance(logits, theirs.logits)
    record_property("largest relative difference", exact)
    assert exact < EXACT
    settings = Settings(choose_isa("auto"), 2, "float", 64)
    tokens, logits = read_and_write(NativeRunner(model, checkpoint, settings, 256), theirs.tokens[:PROMPT])
    same = next((n for n, pair in enumerate(zip(tokens, theirs.tokens, strict=True)) if len(set(pair)) > 1), 105)
    assert same > PROMPT
    assert distance(logits[: same - 1], theirs.logits[: same - 1]) < HALF


def test_the_models_have_what_they_are_made_for(generated: Callable[[str], Generated]) -> None:
    assert (generated(SHARDED).folder / "model.safetensors.index.json").exists()
    near = load_model(open_checkpoint(generated("gemma3").folder)).layout
    assert {(group.window, group.layers) for group in near.groups} == {
        (WINDOW, (0, 1, 2, 3, 4, 6)), (None, (5,)),
    }  # fmt: skip
    assert PROMPT > 3 * WINDOW
