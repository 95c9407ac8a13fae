"""Training end to end on a tiny model: the loss falls, a stopped run goes on to the same bits."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fivefold.core.errors import InputError
from fivefold.files import lookahead_module_for, read_lookahead_module
from fivefold.models import load_model
from fivefold.train.lookahead.run import Run, Training
from fivefold.train.optimizer import Adam, Schedule
from fivefold.train.running import Places, train

SETTINGS = {"rows": 4, "rank": 2, "held_out": 2, "every": 5, "warm_up": 3, "rate": 2e-2}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def begin(random_model: Any, examples: Any, tmp_path: Path) -> Callable[..., Run]:
    """A run of so many steps for a Qwen3 model; every call is over the same model and examples."""
    checkpoint = random_model("qwen3")
    model = load_model(checkpoint)
    folder = examples(model, 6)

    def make(name: str, steps: int = 20, resume: bool = False, threads: int = 1, **changes: Any) -> Run:
        training = Training(steps=steps, **{**SETTINGS, **changes})
        places = Places(folder, tmp_path / f"{name}.safetensors")
        return Run(model, checkpoint, places, training, threads, resume)

    return make


def test_the_loss_falls_and_the_module_is_the_models(begin: Any, random_model: Any, tmp_path: Path) -> None:
    run = begin("one", 40)
    before = run.looked_at()
    told: list[Any] = []
    assert train(run, told.append, lambda: run.save("tiny", "fivefold train lookahead tiny"))
    after = run.looked_at()
    assert after["kl"] < 0.8 * before["kl"]
    assert before["single"]["64"] < after["single"]["64"] <= after["best"]["64"] + 1e-6
    assert [progress.step for progress in told] == list(range(1, 41)) and told[-1].left == 0
    module = read_lookahead_module(run.places.module)
    assert module.rows == 4 and module.rank == 2 and module.origin.steps == 40
    assert module.origin.lengths == (72, 72) and module.origin.model == "tiny"
    checkpoint = random_model("qwen3")
    fitting = lookahead_module_for(run.places.module, load_model(checkpoint), checkpoint)
    assert np.array_equal(fitting.embeddings, module.embeddings)
    lines = [json.loads(line) for line in run.places.curves.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 41))
    assert [line["step"] for line in lines if "held_out" in line] == list(range(5, 41, 5))
    assert run.places.picture.read_bytes().startswith(b"\x89PNG")


def test_a_stopped_run_goes_on_to_the_same_bits(begin: Any) -> None:
    whole = begin("whole")
    assert train(whole, lambda _: None, whole.save)
    first = begin("parts")

    def stop(progress: Any) -> None:
        if progress.step == 7:
            signal.raise_signal(signal.SIGTERM)

    assert not train(first, stop, first.save)
    assert first.done == 7
    for progress in first.steps():  # two steps more that nobody saved, and their lines
        if progress.step == 9:
            break
    second = begin("parts", resume=True, threads=2)  # on any number of threads
    assert second.done == 7
    assert train(second, lambda _: None, second.save)
    assert whole.places.module.read_bytes() == second.places.module.read_bytes()

    def numbers(run: Run) -> list[Any]:
        lines = [json.loads(line) for line in run.places.curves.read_text().splitlines()]
        return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]

    assert numbers(whole) == numbers(second)


def test_a_run_is_resumed_as_it_was_begun(begin: Any, tmp_path: Path) -> None:
    run = begin("one", 3)
    train(run, lambda _: None, run.save)
    with pytest.raises(InputError, match="state of another run lies there"):
        begin("one", 3)
    with pytest.raises(InputError, match="seed is 0 there and 5 here"):
        begin("one", 3, resume=True, seed=5)
    with pytest.raises(InputError, match="steps is 3 there and 4 here"):
        begin("one", 4, resume=True)
    with pytest.raises(InputError, match="no state of a run"):
        begin("other", 3, resume=True)
    (tmp_path / "one.state.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no state of a run"):
        begin("one", 3, resume=True)
    with pytest.raises(InputError, match="6 documents, and 6 are held out"):
        begin("two", 3, held_out=6)
    with pytest.raises(InputError, match=r"--rows: 0; give at least 1"):
        begin("two", 3, rows=0)


def test_another_seed_begins_elsewhere(begin: Any) -> None:
    runs = [begin(f"seed{seed}", 1, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (run.module().embeddings for run in runs)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_optimizer_is_adamw_without_decay() -> None:
    random = np.random.default_rng(0)
    start = random.standard_normal(12).astype(np.float32)
    ours, theirs = Adam(start, 1.0), torch.tensor(start, requires_grad=True)
    adamw = torch.optim.AdamW([theirs], lr=1.0, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = Schedule(0.01, 3, 10)
    for step in range(1, 11):
        gradient = torch.tensor(random.standard_normal(12).astype(np.float32))
        theirs.grad = gradient.clone()
        torch.nn.utils.clip_grad_norm_([theirs], 1.0)
        adamw.param_groups[0]["lr"] = schedule.at(step)
        adamw.step()
        ours.step(gradient, step, schedule.at(step))
    assert torch.allclose(ours.vector, theirs, atol=1e-6)
    assert schedule.at(1) == pytest.approx(0.01 / 3) and schedule.at(3) == 0.01
    assert schedule.at(10) == pytest.approx(0.0, abs=1e-9)
