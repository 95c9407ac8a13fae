"""A model is loaded with its side drafter, whose memory is known before, or without."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.backends import NativeRunner, drafter_bytes, drafter_tensors
from fivefold.core.batch import Commit, Span, Step
from fivefold.core.drafter import DRAFTER, Drafter, DrafterOrigin
from fivefold.core.errors import UnsupportedError
from fivefold.core.request import EvictionChoice, Request, SamplingParams
from fivefold.engine import Engine, LoadOptions, inspect_model, load, need_of, score
from fivefold.files import model_fingerprint, open_checkpoint, write_drafter
from fivefold.models import load_model
from fivefold.program import head_of

TINY = Path(__file__).parent / "data" / "tiny.gguf"
TOKENS = tuple(range(2, 40))


@pytest.fixture
def drafter(random_drafter: Any) -> Drafter:
    checkpoint = open_checkpoint(TINY)
    model = load_model(checkpoint)
    origin = DrafterOrigin("tiny", model_fingerprint(model, checkpoint))
    made: Drafter = replace(random_drafter(model, taps=(0, model.shape.layers - 1)), origin=origin)
    return made


@pytest.fixture
def path(tmp_path: Path, drafter: Drafter) -> Path:
    """A copy of the model with a drafter beside it."""
    copied = tmp_path / "tiny.gguf"
    shutil.copy(TINY, copied)
    write_drafter(tmp_path / "tiny.gguf.drafter.safetensors", drafter)
    return copied


@pytest.mark.parametrize("reference", [False, True])
def test_a_drafter_beside_the_model_is_loaded_and_guesses(path: Path, reference: bool) -> None:
    loaded, plain = load(path, LoadOptions(reference=reference)), load(TINY, LoadOptions(reference=reference))
    assert loaded.drafter is not None and plain.drafter is None
    np.testing.assert_array_equal(score(loaded.runner, TOKENS), score(plain.runner, TOKENS))
    runner: Any = loaded.runner
    sequence = runner.open()
    assert runner.draft([(sequence, 5, 2)]) == [[]], "nothing has run"
    runner.run(Step((Span.causal(sequence, np.array(TOKENS, np.int32), 0),)))
    runner.commit([Commit(sequence, np.arange(len(TOKENS), dtype=np.int32))])
    assert len(runner.draft([(sequence, 5, 2)])[0]) == 2
    runner.close(sequence)


def test_it_can_be_left_out(path: Path) -> None:
    loaded = load(path, LoadOptions(drafter=False))
    assert loaded.drafter is None and DRAFTER not in loaded.model.programs
    runner: Any = loaded.runner
    assert runner.draft([(runner.open(), 5, 2)]) == [[]]


def test_its_memory_is_counted(path: Path, drafter: Drafter) -> None:
    own, plain = need_of(path, LoadOptions()), need_of(TINY, LoadOptions())
    model = load_model(checkpoint := open_checkpoint(TINY))
    sizes = drafter_bytes(drafter, head_of(model))
    made = drafter_tensors(drafter, head_of(model), checkpoint.tensors.__getitem__)
    assert sizes == {name: one.stored_bytes for name, one in made.items()}
    assert own.weights == plain.weights + sum(sizes.values())
    assert own.bytes(96) - own.weights > plain.bytes(96) - plain.weights
    loaded = load(path, LoadOptions())
    assert isinstance(loaded.runner, NativeRunner)
    cache = own.bytes(own.least) - own.weights
    assert abs(loaded.runner.cache_bytes - cache) <= 0.05 * cache


def test_a_model_that_is_loaded_with_an_eviction_has_none(path: Path) -> None:
    assert load(path, LoadOptions(eviction="snapkv")).drafter is None
    loaded = load(path, LoadOptions())  # requests can be evicted all the same
    sampling = SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True)
    answers = []
    for engine in (Engine(load(TINY)), Engine(loaded)):
        engine.submit(Request("one", TOKENS, sampling, eviction=EvictionChoice("snapkv", 16)))
        tokens: list[int] = []
        while engine.busy:
            tokens += [token for event in engine.step() for token in event.tokens]
            engine.check_integrity()
        assert engine.figures().evictions == 1
        answers.append(tokens)
    assert answers[0] == answers[1] and len(answers[0]) == 8


def test_inspection_tells_of_it(path: Path, drafter: Drafter) -> None:
    told, plain = inspect_model(path), inspect_model(TINY)
    assert plain["drafter"] is None and told["refused"] == []
    assert told["drafter"]["slots"] == 3 and told["drafter"]["trained_for"] == "tiny"
    more = told["decode_weight_bytes"] - plain["decode_weight_bytes"]
    assert 0 < more < told["drafter"]["bytes"]


def test_the_model_is_the_same_with_and_without(path: Path) -> None:
    loaded = load(path)
    assert model_fingerprint(loaded.model, loaded.checkpoint) == loaded.drafter.origin.fingerprint  # type: ignore[union-attr]


def test_a_drafter_of_another_model_is_refused(path: Path, drafter: Drafter) -> None:
    beside = path.with_name("tiny.gguf.drafter.safetensors")
    write_drafter(beside, replace(drafter, origin=replace(drafter.origin, fingerprint="0" * 64)))
    for make in (load, need_of):
        with pytest.raises(UnsupportedError, match=r"made for tiny, and this model.*train one for it"):
            make(path, LoadOptions())  # type: ignore[operator]
    assert load(path, LoadOptions(drafter=False)).drafter is None
