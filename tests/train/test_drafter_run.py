"""Training a drafter end to end on a tiny model: the loss falls, a stopped run goes on to the same bits, and
what is trained guesses on the runner as it did in training."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fivefold.backends import NativeRunner
from fivefold.core.batch import Commit, Span, Step
from fivefold.core.errors import FileError, InputError, UnsupportedError
from fivefold.executor import Settings
from fivefold.files import drafter_for, model_fingerprint, read_drafter
from fivefold.models import load_model
from fivefold.program import tap_buffers, with_drafter
from fivefold.train.drafter.conversations import Conversation, Shard, list_shards, read_shard, write_shard
from fivefold.train.drafter.run import Run, Training
from fivefold.train.drafter.writing import Prompt, Writing, write_conversations
from fivefold.train.running import Places, train

TAPS = (0, 2)
SETTINGS = {
    "steps": 40, "slots": 3, "vocabulary": 60, "conversations": 4, "held_out": 4, "every": 10, "rate": 1e-3,
    "ffn": 96,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def runner_of(checkpoint: Any, drafter: Any = None, rows: int = 64) -> NativeRunner:
    model = load_model(checkpoint)
    model = model if drafter is None else with_drafter(model, drafter.shape)
    return NativeRunner(model, checkpoint, Settings("avx2", 1, "float", rows), 2048, drafter=drafter)


def written(
    checkpoint: Any, count: int, batch: int = 8, rows: int = 64, heat: float = 0.0
) -> list[Conversation]:
    """Conversations of a tiny model."""
    model, random = load_model(checkpoint), np.random.default_rng(5)
    prompts = [
        Prompt(tuple(random.integers(0, 80, 4 + number % 40).tolist()), "made up", heat, (number,))
        for number in range(count)
    ]
    taps = tap_buffers(model, TAPS)
    writing = Writing(
        runner_of(checkpoint, rows=rows), taps, model.main.outputs[0], frozenset({7}), 24, batch
    )
    return write_conversations(writing, prompts)


@pytest.fixture
def folder(random_model: Any, tmp_path: Path) -> Path:
    checkpoint = random_model("llama")
    fingerprint = model_fingerprint(load_model(checkpoint), checkpoint)
    every = written(checkpoint, 24)
    for name, part in (
        ("held-out-000", every[20:]),
        ("training-000", every[:12]),
        ("training-001", every[12:20]),
    ):
        write_shard(tmp_path / "data", Shard(name, fingerprint, TAPS, part, {"seed": 0}))
    return tmp_path / "data"


@pytest.fixture
def begun(random_model: Any, folder: Path, tmp_path: Path) -> Callable[..., Run]:
    checkpoint = random_model("llama")

    def make(name: str, resume: bool = False, threads: int = 1, **changes: Any) -> Run:
        training = Training(**{**SETTINGS, **changes})
        places = Places(folder, tmp_path / f"{name}.safetensors")
        return Run(load_model(checkpoint), checkpoint, places, training, threads, resume)

    return make


def test_what_is_written_is_the_models_own_whatever_runs_beside(random_model: Any) -> None:
    checkpoint = random_model("llama")
    together, apart = written(checkpoint, 9), written(checkpoint, 9, batch=1, rows=8)
    for ours, theirs in zip(together, apart, strict=True):
        np.testing.assert_array_equal(ours.tokens, theirs.tokens)
        np.testing.assert_array_equal(ours.hidden, theirs.hidden)
        assert len(ours.tokens) - ours.prompt == 24 or ours.tokens[-1] == 7
        assert ours.hidden.shape == (len(ours.tokens) - 1, 2, 64) and ours.hidden.dtype == np.float16
    model, one = load_model(checkpoint), together[3]
    runner, tap = runner_of(checkpoint), tap_buffers(model, (2,))
    rows = np.arange(len(one.tokens) - 1, dtype=np.int32)
    span = Span.causal(runner.open(), one.tokens[:-1], 0, rows)
    found = runner.run_tapped(Step((span,)), tap)
    np.testing.assert_array_equal(one.hidden[:, 1], found[tap[0]].astype(np.float16))
    chosen = found[model.main.outputs[0]].argmax(1)
    np.testing.assert_array_equal(one.tokens[one.prompt :], chosen[one.prompt - 1 :])


def test_answers_that_are_drawn_differ_and_are_the_same_again(random_model: Any) -> None:
    checkpoint = random_model("llama")
    greedy, drawn, again = (written(checkpoint, 3, heat=heat) for heat in (0.0, 2.0, 2.0))
    assert any(a.tokens.tolist() != b.tokens.tolist() for a, b in zip(greedy, drawn, strict=True))
    for ours, theirs in zip(drawn, again, strict=True):
        np.testing.assert_array_equal(ours.tokens, theirs.tokens)


def test_shards_are_read_as_they_were_written(folder: Path, random_model: Any) -> None:
    every = written(random_model("llama"), 24)
    assert [path.name for path in list_shards(folder)] == ["held-out-000", "training-000", "training-001"]
    shard = read_shard(folder / "training-001")
    assert shard.taps == TAPS and shard.settings == {"seed": 0} and len(shard.conversations) == 8
    for ours, theirs in zip(shard.conversations, every[12:20], strict=True):
        np.testing.assert_array_equal(ours.tokens, theirs.tokens)
        np.testing.assert_array_equal(ours.hidden, theirs.hidden)
        assert (ours.prompt, ours.kind) == (theirs.prompt, "made up")
    with pytest.raises(InputError, match="there already"):
        write_shard(folder, shard)
    np.save(folder / "training-001" / "tokens.npy", np.zeros(3, np.int32))
    with pytest.raises(FileError, match="do not fit"):
        read_shard(folder / "training-001")
    with pytest.raises(FileError, match="no conversations lie here"):
        list_shards(folder / "training-001")


@pytest.mark.parametrize("form", ["block", "serial"])
def test_the_loss_falls_and_guesses_are_those_of_training(
    begun: Any, random_model: Any, folder: Path, form: str
) -> None:
    run = begun("one", form=form)
    told: list[Any] = []
    assert train(run, told.append, lambda: run.save("tiny", "fivefold train drafter tiny"))
    first = np.mean([progress.line["loss"] for progress in told[:4]])
    last = np.mean([progress.line["loss"] for progress in told[-4:]])
    assert last < 0.8 * first
    assert [progress.step for progress in told] == list(range(1, 41)) and told[-1].left == 0
    lines = [json.loads(line) for line in run.places.curves.read_text().splitlines()]
    assert [line["step"] for line in lines if "held_out" in line] == [10, 20, 30, 40]
    assert run.places.picture.read_bytes().startswith(b"\x89PNG")

    checkpoint = random_model("llama")
    drafter = drafter_for(run.places.module, load_model(checkpoint), checkpoint)
    assert drafter.shape.form == form and drafter.origin.steps == 40 and drafter.origin.tokens == run.written
    hits = guessed_rightly(checkpoint, drafter, read_shard(folder / "training-000").conversations)
    blocks = [run._guessed(one, np.array([one.prompt + 2], np.int32), 3) for one in run._trained[:12]]
    theirs = [bool(logits[0, 0].argmax() == right[0, 0]) for _, logits, right in blocks]
    assert sum(a == b for a, b in zip(hits, theirs, strict=True)) >= 11  # its matrices are q8_0 in one


def guessed_rightly(checkpoint: Any, drafter: Any, conversations: Any) -> list[bool]:
    """Whether the first guess behind the third written token is what the model wrote."""
    runner, hits = runner_of(checkpoint, drafter), []
    for one in conversations:
        anchor, sequence = one.prompt + 2, runner.open()
        runner.run(Step((Span.causal(sequence, one.tokens[:anchor], 0),)))
        runner.commit([Commit(sequence, np.arange(anchor, dtype=np.int32))])
        guess = runner.draft([(sequence, int(one.tokens[anchor]), 3)])[0]
        assert 1 <= len(guess) <= 3
        hits.append(guess[0][0] == one.tokens[anchor + 1])
        runner.close(sequence)
    return hits


def test_a_stopped_run_goes_on_to_the_same_bits(begun: Any) -> None:
    whole = begun("whole", steps=12)
    assert train(whole, lambda _: None, whole.save)
    first = begun("parts", steps=12)

    def stop(progress: Any) -> None:
        if progress.step == 5:
            signal.raise_signal(signal.SIGTERM)

    assert not train(first, stop, first.save)
    second = begun("parts", steps=12, resume=True, threads=2)  # on any number of threads
    assert second.done == 5
    assert train(second, lambda _: None, second.save)
    assert whole.places.module.read_bytes() == second.places.module.read_bytes()
    with pytest.raises(InputError, match="state of another run lies there"):
        begun("parts", steps=12)
    with pytest.raises(InputError, match="slots is 3 there and 2 here"):
        begun("parts", steps=12, resume=True, slots=2)


def test_what_does_not_fit_is_refused(begun: Any, random_model: Any, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layer 1 is not stored; choose of 0, 2"):
        begun("one", taps=(1,))
    assert read_taps(begun("one", taps=(2,), steps=1)) == (2,)
    checkpoint = random_model("qwen3")
    with pytest.raises(UnsupportedError, match="written by another model"):
        Run(load_model(checkpoint), checkpoint, Places(folder, tmp_path / "x.safetensors"), Training())


def read_taps(run: Run) -> tuple[int, ...]:
    assert train(run, lambda _: None, run.save)
    return read_drafter(run.places.module).shape.taps
