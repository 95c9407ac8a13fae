"""The commands `train records`, `train twin` and `bench twins`, from a list of packages to a comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twin_corpus import LISTED, make_tiny_corpus

from fivefold.cli.app import status

SIZES = ["--layers", "1", "--hidden", "16", "--heads", "2", "--ffn", "16", "--threads", "1", "--rows", "4000"]


def test_records_are_made_from_a_list(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "list.txt").write_text(LISTED)
    out = str(tmp_path / "corpus")
    given = ["train", "records", "--source", str(tmp_path / "list.txt"), "--out", out, "--vocabulary", "300"]
    assert status(given) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == ["training", "validation", "test"]
    assert status(given) == 2
    assert "the corpus is there already" in capsys.readouterr().err


def test_twins_are_trained_and_compared(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = make_tiny_corpus(tmp_path)
    trunk, twin = str(tmp_path / "trunk"), str(tmp_path / "twin")
    first = ["train", "twin", "--data", str(corpus), "--out", trunk, *SIZES]
    monkeypatch.setattr("sys.argv", ["fivefold", *first])
    assert status([*first, "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert answer["steps"] == 1 and 0 < answer["rows"] <= 4000 and answer["held_out"]["bits"] > 0
    assert "step 1 of 1, loss" in said.err and "bits a token" in said.err
    made = json.loads((tmp_path / "trunk" / "twin.json").read_text())
    assert made["command"].startswith("fivefold train twin ") and made["parameters"] == answer["parameters"]
    second = [
        "train",
        "twin",
        "--data",
        str(corpus),
        "--out",
        twin,
        "--form",
        "blocks",
        "--from",
        trunk,
        *SIZES,
    ]
    assert status(second) == 0
    assert capsys.readouterr().out.splitlines()[-1] == twin
    assert status([*second, "--resume"]) == 0
    assert "going on after step 1 of 1" in capsys.readouterr().err
    compared = ["bench", "twins", trunk, twin, "--questions", str(corpus), "--count", "2", "--chosen-on", "2",
                "--batch", "2", "--rounds", "1", "--threads", "1", "--longest", "8"]  # fmt: skip
    assert status([*compared, "--json", str(tmp_path / "twins.json")]) == 0
    assert "validation, 2 records" in capsys.readouterr().out
    assert json.loads((tmp_path / "twins.json").read_text())["work"] == "twins"
    assert status(["bench", "twins", twin, trunk, "--questions", str(corpus)]) == 2
    assert "the first twin writes token by token" in capsys.readouterr().err


def test_a_form_that_is_not_known_is_refused(tmp_path: Path, capsys: Any) -> None:
    corpus = make_tiny_corpus(tmp_path)
    out = str(tmp_path / "twin")
    assert status(["train", "twin", "--data", str(corpus), "--out", out, "--form", "tree", *SIZES]) == 2
    assert "--form: the form 'tree' is not known; choose autoregressive or blocks" in capsys.readouterr().err
