"""What fuzzing kept is replayed, and valid inputs are changed in the same ways, with less time to it."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FUZZ = Path(__file__).parents[2] / "fuzz"
CORPUS = FUZZ / "corpus"
READERS = ["gguf", "safetensors", "folder", "tokenizer"]
KEPT_BYTES = 1_000_000


@pytest.fixture(scope="module")
def fuzz() -> Iterator[SimpleNamespace]:
    """The modules beside the corpus, and a room for the files of inputs."""
    sys.path.insert(0, str(FUZZ))
    try:
        import change_gguf
        import change_json
        import targets
    finally:
        sys.path.remove(str(FUZZ))
    room = targets.Room()
    yield SimpleNamespace(
        check=targets.check,
        room=room,
        changes={
            "gguf": change_gguf.change,
            "safetensors": change_json.change_safetensors,
            "folder": change_json.change_sections,
            "tokenizer": change_json.change_sections,
        },
    )
    room.close()


def kept(target: str) -> list[Path]:
    return sorted((CORPUS / target).iterdir())


@pytest.mark.parametrize("target", READERS)
def test_what_was_kept_opens_or_is_refused(fuzz: Any, target: str) -> None:
    inputs = kept(target)
    assert inputs
    for path in inputs:
        try:
            fuzz.check(target, fuzz.room, path.read_bytes())
        except BaseException as error:
            error.add_note(f"with the input {path}")
            raise


@pytest.mark.parametrize("target", READERS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_inputs_open_or_are_refused(fuzz: Any, target: str, seed: int) -> None:
    chosen = random.Random(seed)
    data = chosen.choice(kept(target)).read_bytes()
    fuzz.check(target, fuzz.room, fuzz.changes[target](data, chosen))


def test_the_corpus_stays_small() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < KEPT_BYTES
