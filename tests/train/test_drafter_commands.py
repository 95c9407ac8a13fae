"""The commands `train conversations` and `train drafter`: what they write and say, and what they refuse."""

from __future__ import annotations

import importlib.util
import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.cli.app import status
from fivefold.files import model_fingerprint, read_drafter
from fivefold.models import load_model
from fivefold.train.drafter.conversations import Conversation, Shard, write_shard


@pytest.fixture
def given(random_model: Any, tmp_path: Path) -> list[str]:
    checkpoint = random_model("qwen3")
    fingerprint = model_fingerprint(load_model(checkpoint), checkpoint)
    random = np.random.default_rng(2)

    def made_up() -> Conversation:
        tokens = random.integers(0, 80, 20).astype(np.int32)
        return Conversation(tokens, 8, random.standard_normal((19, 2, 64)).astype(np.float16))

    for name in ("held-out-000", "training-000"):
        write_shard(tmp_path / "data", Shard(name, fingerprint, (0, 2), [made_up() for _ in range(3)]))
    return [
        "train", "drafter", str(checkpoint.path), "--data", str(tmp_path / "data"), "--out",
        str(tmp_path / "d.safetensors"), "--steps", "3", "--slots", "2", "--vocabulary", "50",
        "--threads", "1",
    ]  # fmt: skip


def test_a_drafter_is_written(
    given: list[str], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["fivefold", *given])
    assert status([*given, "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert answer["steps"] == 3 and len(answer["held_out"]["agreement"]) == 2
    assert "step 1 of 3, loss" in said.err and "held out: loss" in said.err
    drafter = read_drafter(tmp_path / "d.safetensors")
    assert drafter.shape.taps == (0, 2) and drafter.shape.vocabulary == 50
    assert drafter.origin.command.startswith("fivefold train drafter ")
    counted = sum(prod(part.shape) for part in drafter.weights.values()) + drafter.slots.size
    assert answer["parameters"] == counted
    assert status([*given, "--resume"]) == 0
    assert "going on after step 3 of 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--form", "tree"], "--form: 'tree' is not known; choose block or serial"),
        (["--taps", "a,b"], "--taps: 'a,b' are no layers"),
        (["--taps", "1"], "--taps: layer 1 is not stored; choose of 0, 2"),
        (["--data", "/nowhere"], "no conversations lie here"),
        (["--out", "/tmp/d.gguf"], "let it end with .safetensors"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    given: list[str], options: list[str], line: str, capsys: Any
) -> None:
    assert status([*given, *options]) == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "one source of prompts is needed"),
        (["--texts", ".", "--records", "."], "one source of prompts is needed"),
        (["--records", ".", "--longest", "100"], "say how texts are asked about"),
        (["--records", "/nowhere"], "no records can be read"),
    ],
)
def test_where_prompts_come_from_is_said_once(options: list[str], line: str, capsys: Any) -> None:
    assert status(["train", "conversations", "tiny.gguf", "--out", "/nowhere/data", *options]) == 2
    assert line in capsys.readouterr().err


def test_without_torch_it_says_what_to_install(given: list[str], monkeypatch: Any, capsys: Any) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    assert status(given) == 2
    assert "pip install 'fivefold[train]'" in capsys.readouterr().err
