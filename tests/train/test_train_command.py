"""The command `train lookahead`: what it writes and says, and what it refuses in one line."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from fivefold.cli.app import status
from fivefold.files import read_lookahead_module
from fivefold.models import load_model


@pytest.fixture
def given(random_model: Any, examples: Any, tmp_path: Path) -> list[str]:
    checkpoint = random_model("qwen3")
    folder = examples(load_model(checkpoint), 4)
    return [
        "train", "lookahead", str(checkpoint.path), "--data", str(folder), "--out",
        str(tmp_path / "m.safetensors"), "--steps", "3", "--held-out", "1", "--rows", "2", "--rank", "2",
        "--documents", "1", "--threads", "1",
    ]  # fmt: skip


def test_a_module_is_written(
    given: list[str], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["fivefold", *given])
    assert status([*given, "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert answer["steps"] == 3 and answer["held_out"]["kl"] > 0
    assert "step 1 of 3, KL" in said.err and "held out: KL" in said.err
    module = read_lookahead_module(tmp_path / "m.safetensors")
    assert module.rows == 2 and module.origin.command.startswith("fivefold train lookahead ")
    assert answer["parameters"] == module.embeddings.size + sum(
        part.size for pair in module.pairs.values() for part in pair
    )
    assert status(given) == 2
    assert "go on with --resume" in capsys.readouterr().err
    assert status([*given, "--resume"]) == 0
    assert "going on after step 3 of 3" in capsys.readouterr().err


def test_without_torch_it_says_what_to_install(given: list[str], monkeypatch: Any, capsys: Any) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    assert status(given) == 2
    assert "pip install 'fivefold[train]'" in capsys.readouterr().err


def test_without_examples_it_says_so(given: list[str], tmp_path: Path, capsys: Any) -> None:
    given[4] = str(tmp_path / "nothing")
    assert status(given) == 2
    assert "no examples lie here" in capsys.readouterr().err
    given[6] = str(tmp_path / "m.gguf")
    assert status(given) == 2
    assert "let it end with .safetensors" in capsys.readouterr().err
