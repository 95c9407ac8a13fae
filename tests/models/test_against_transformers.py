"""Families against Transformers itself: tiny models that it makes here, saves, and runs in float32.

The reference executor keeps float32 entries. It reads the prompt in chunks, then writes token by token: all
logits are within 1e-4 of the largest one, and the tokens are those that Transformers writes. The native
executor keeps f16 entries. How far these alone lead away the reference executor says when it rounds what it
keeps as f16 does; the native one may be no further from Transformers than twice that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from transformers_models import MODELS, PROMPT, SHARDED, WINDOW, WRITTEN, Generated

from fivefold.backends import NativeRunner, ReferenceRunner
from fivefold.core.batch import Commit, Float32, Span, Step
from fivefold.executor import Settings, choose_isa
from fivefold.files import open_checkpoint
from fivefold.formats import ENTRY_FORMATS
from fivefold.models import load_model

CHUNKS = (5, 1, 20, 15)
EXACT = 1e-4


def read_and_write(runner: Any, prompt: list[int]) -> tuple[list[int], Float32]:
    """The first tokens in chunks, then one by one, greedily if there are no more: all of them, and the logits
    after each."""
    sequence, found = runner.open(), list[Float32]()
    tokens, begin = list(prompt), 0
    for count in (*CHUNKS, *[1] * WRITTEN):
        part = np.array(tokens[begin : begin + count], np.int32)
        rows = np.arange(count, dtype=np.int32)
        found.append(runner.run(Step((Span.causal(sequence, part, begin, rows),))))
        runner.commit([Commit(sequence, rows)])
        begin += count
        if begin == len(tokens) < PROMPT + WRITTEN:
            tokens.append(int(np.argmax(found[-1][-1])))
    runner.check_integrity()
    return tokens, np.concatenate(found)


def distance(ours: Float32, theirs: Float32) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_text_are_those_of_transformers(name: str, generated: Callable[[str], Generated]) -> None:
    theirs = generated(name)
    checkpoint = open_checkpoint(theirs.folder)
    model = load_model(checkpoint)
    tokens, logits = read_and_write(ReferenceRunner(model, checkpoint, 256), theirs.tokens[:PROMPT])
    assert tokens == theirs.tokens
    exact = distance(logits, theirs.logits)
    assert exact < EXACT
    rounded = ReferenceRunner(model, checkpoint, 256, ENTRY_FORMATS["f16"])
    explained = distance(read_and_write(rounded, theirs.tokens)[1], theirs.logits)
    native = NativeRunner(model, checkpoint, Settings(choose_isa("auto"), 1, "float", 64), 256)
    found = distance(read_and_write(native, theirs.tokens)[1], theirs.logits)
    print(f"{name}: reference {exact:.1e}, native {found:.1e} of which f16 entries explain {explained:.1e}")
    assert found < 2 * explained + EXACT


def test_the_models_have_what_they_are_made_for(generated: Callable[[str], Generated]) -> None:
    assert (generated(SHARDED).folder / "model.safetensors.index.json").exists()
    near = load_model(open_checkpoint(generated("gemma3").folder)).layout
    assert {(group.window, group.layers) for group in near.groups} == {
        (WINDOW, (0, 1, 2, 3, 4, 6)), (None, (5,)),
    }  # fmt: skip
    assert sum(CHUNKS) == PROMPT > 3 * WINDOW
