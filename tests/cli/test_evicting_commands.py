"""`--eviction` and `--budget` of `run` and `chat`, and what `inspect` says of a model's lookahead module."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from tiny_lookahead import ROWS, TINY, write_tiny_with_lookahead

from fivefold.cli.app import status

TEXT = "every entry of this prompt is one letter, and most of them go"
RUN = ("--raw", "-p", TEXT, "--max-tokens", "6", "--ignore-eos", "--threads", "1", "--json")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_with_lookahead(tmp_path_factory.mktemp("tiny"))


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    """The JSON that a command prints when all is well."""
    assert status([str(argument) for argument in arguments]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    return json.loads(output)


@pytest.mark.parametrize(
    ("eviction", "budget", "kept"), [("snapkv", "20", 20), ("lookahead", "0.5", 29), ("adakv", "16", 16)]
)
def test_a_prompt_is_evicted(
    capsys: pytest.CaptureFixture[str], tiny: Path, eviction: str, budget: str, kept: int
) -> None:
    plain = told(capsys, "run", tiny, *RUN)
    assert plain["kept_tokens"] is None
    assert told(capsys, "run", tiny, *RUN, "--eviction", "none")["tokens"] == plain["tokens"]
    evicted = told(capsys, "run", tiny, *RUN, "--eviction", eviction, "--budget", budget)
    assert evicted["kept_tokens"] == kept
    assert evicted["tokens"] != plain["tokens"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--eviction", "best", "--budget", "9"], "--eviction: there is no eviction policy 'best'; choose"),
        (["--eviction", "oracle", "--budget", "9"], "--eviction: eviction 'oracle' is for measurements"),
        (["--eviction", "snapkv"], "--budget: eviction 'snapkv' has no budget; give the entries"),
        (["--eviction", "snapkv", "--budget", "some"], "--budget: a budget cannot be 'some'; give a number"),
        (["--eviction", "snapkv", "--budget", "1.5"], "--budget: a budget cannot be 1.5; give a number"),
        (["--budget", "64"], "--budget: 64 is given, and nothing is evicted; choose an eviction too"),
        (["--eviction", "lookahead", "--budget", "9"], "train one: fivefold train lookahead "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["run", "chat"])
def test_what_is_wrong_is_one_line(
    capsys: pytest.CaptureFixture[str], command: str, options: list[str], line: str
) -> None:
    more = ["-p", TEXT] if command == "run" else []
    assert status([command, str(TINY), *more, *options]) == 2
    output, errors = capsys.readouterr()
    assert output == "" and errors.count("\n") == 1
    assert line in errors


def test_a_conversation_is_evicted(
    capsys: pytest.CaptureFixture[str], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hello, and some more words\n"))
    answer = told(
        capsys, "chat", tiny, "--max-tokens", "4", "--eviction", "window", "--budget", "16", "--json"
    )
    assert answer["kept_tokens"] == 16


def test_inspect_says_what_can_be_served(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    with_module, without = (told(capsys, "inspect", path, "--json") for path in (tiny, TINY))
    assert list(with_module) == list(without)
    assert without["lookahead"] is None
    assert with_module["lookahead"]["rows"] == ROWS
    assert with_module["lookahead"]["trained_for"] == "tiny"
    assert set(with_module["evictions"]) - set(without["evictions"]) == {"lookahead"}
    assert {"none", "snapkv", "adakv", "laq"} < set(without["evictions"])
    assert not {"oracle", "expected_attention"} & set(with_module["evictions"])
    assert status(["inspect", str(tiny)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("lookahead ") and "rows 4, rank 2" in line for line in lines)
