"""The command `perplexity`: several models in one pass, its state, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.bench.quality import measure
from fivefold.cli.app import status
from fivefold.core.checkpoint import Checkpoint
from fivefold.engine import load
from fivefold.files import open_checkpoint, write_gguf

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
OLD_KEYS = {
    "model", "text", "window", "skip", "activations", "cache_format", "instruction_set", "positions",
    "perplexity", "perplexity_error", "mean_kl", "mean_kl_error", "top1_agreement", "top1_agreement_error",
}  # fmt: skip


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """What a command that succeeds prints as JSON."""
    capsys.readouterr()
    assert status([*map(str, arguments), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{number} hello the man and 40{number % 7} " for number in range(40)))
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The tiny model with other numbers in one matrix."""
    whole: Checkpoint = open_checkpoint(TINY)
    name = next(name for name in sorted(whole.tensors) if "ffn_up" in name)
    tensor = whole.tensors[name]
    data = np.roll(np.asarray(tensor.data), tensor.data.size // 2)
    path = tmp_path / "other.gguf"
    changed = {**whole.tensors, name: type(tensor)(name, tensor.format, tensor.shape, data)}
    write_gguf(path, whole.metadata, changed.values())
    return path


def test_several_models_are_each_as_alone(
    capsys: pytest.CaptureFixture[str], text: Path, other: Path
) -> None:
    """The same bits, and the keys that there were before several models were possible."""
    how = ("--text", text, "--window", "40", "--skip", "5")
    both = told(capsys, "perplexity", TINY, other, *how, "--reference", TINY)
    assert [answer["model"] for answer in both] == ["tiny.gguf", "other.gguf"]
    for path, answer in zip((TINY, other), both, strict=True):
        assert told(capsys, "perplexity", path, *how, "--reference", TINY) == answer
        assert set(answer) >= OLD_KEYS
    first, second = both
    assert first["mean_kl"] < second["mean_kl"]
    assert first["reference_perplexity"] == second["reference_perplexity"]
    assert first["reference_executor"] == "native"
    assert first["weight_bytes"] == second["weight_bytes"] > 0
    alone = told(capsys, "perplexity", other, *how)
    assert alone["perplexity"] == second["perplexity"]
    assert alone["mean_kl"] is None and alone["log_ratio"] is None and alone["reference"] is None


def test_what_the_reference_runs_on(capsys: pytest.CaptureFixture[str], text: Path) -> None:
    """Native with float activations is the float model itself, so at no distance; the float32 executor is
    another program, near it; `self` is that one unless told otherwise."""
    ask = ("perplexity", TINY, "--text", text, "--window", "40", "--activations", "float")
    native = told(capsys, *ask, "--reference", TINY)
    assert (native["mean_kl"], native["max_kl"], native["log_ratio"]) == (0, 0, 0)
    slow = told(capsys, *ask, "--reference", TINY, "--reference-executor", "float32")
    assert 0 < slow["mean_kl"] < 1e-5
    own = told(capsys, *ask, "--reference", "self")
    assert own == slow
    assert own["reference_executor"] == "float32"
    fast = told(capsys, *ask, "--reference", "self", "--reference-executor", "native")
    assert fast == native


def test_a_table_for_people(capsys: pytest.CaptureFixture[str], text: Path, other: Path) -> None:
    ask = ["perplexity", str(TINY), str(other), "--text", str(text), "--window", "40"]
    assert status([*ask, "--reference", str(TINY)]) == 0
    output, errors = capsys.readouterr()
    lines = output.splitlines()
    assert [line.split()[0] for line in lines] == [
        "text.txt,",
        "reference",
        "model",
        "tiny.gguf",
        "other.gguf",
    ]
    assert len({len(line) for line in lines[2:]}) == 1
    assert errors == ""
    assert status(ask) == 0
    assert "KL" not in capsys.readouterr().out


def test_one_model_in_several_ways(capsys: pytest.CaptureFixture[str], text: Path) -> None:
    """Each of them as alone, in one pass; `self` is the one model still."""
    ask = ["perplexity", str(TINY), "--text", str(text), "--window", "40", "--reference", "self"]
    ways = [("int8", "f16"), ("int8", "fp8"), ("float", "f16"), ("float", "fp8")]
    both = ["--activations", "int8", "--activations", "float", "--kv", "f16", "--kv", "fp8"]
    found = told(capsys, *ask, *both)
    assert [(answer["activations"], answer["cache_format"]) for answer in found] == ways
    for answer, (rows, entries) in zip(found, ways, strict=True):
        assert answer == told(capsys, *ask, "--activations", rows, "--kv", entries)
    assert len({answer["mean_kl"] for answer in found}) == 4
    assert status([*ask, *both]) == 0
    assert "tiny.gguf (float, fp8) " in capsys.readouterr().out


class Stop(KeyboardInterrupt):
    """An interrupt at a chosen place."""


def interrupted_at(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a window, when so many have been begun."""
    plain = measure._score_window
    begun = 0

    def scored(*arguments: Any) -> None:
        nonlocal begun
        begun += 1
        if begun == count:
            tallies, models, window, skip, reference = arguments
            plain(tallies, models, window[: len(window) // 2], skip, reference)
            raise Stop
        plain(*arguments)

    monkeypatch.setattr(measure, "_score_window", scored)


@pytest.mark.parametrize("stops", [[1], [2], [4], [2, 1, 2]])
def test_an_interrupted_run_goes_on_with_the_same_bits(
    stops: list[int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: Path,
    other: Path,
    tmp_path: Path,
) -> None:
    ask = ("perplexity", TINY, other, "--text", text, "--window", "40", "--reference", TINY)
    whole = told(capsys, *ask)
    kept = tmp_path / "state.npz"
    for stop in stops:
        with monkeypatch.context() as patch:
            interrupted_at(stop, patch)
            assert status([*map(str, ask), "--resume", str(kept)]) == 130
    assert kept.exists() is (stops != [1])
    if kept.exists():
        assert "stopped after window" in capsys.readouterr().err
    resumed = told(capsys, *ask, "--resume", kept)
    assert resumed == whole
    assert told(capsys, *ask, "--resume", kept) == whole, "a finished one has nothing left to do"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_finished_state_runs_no_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: Path, tmp_path: Path
) -> None:
    ask = ("perplexity", TINY, "--text", text, "--window", "40", "--resume", tmp_path / "state.npz")
    first = told(capsys, *ask)
    monkeypatch.setattr(measure, "_score_window", None)
    assert told(capsys, *ask) == first


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--window", "41"], "--window is 40 there and 41 here"),
        (["--skip", "3"], "--skip is 0 there and 3 here"),
        (["--positions", "90"], "--positions is 0 there and 90 here"),
        (["--activations", "float"], "activations is int8 there and float here"),
        (["--kv", "int8"], "cache_format is f16 there and int8 here"),
        (["--reference-executor", "float32"], "reference executor is native there and float32 here"),
        (["--text", "other"], "text is "),
        (["--reference", "other"], "reference is "),
        (["other"], "model is "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_state_of_another_measurement_is_refused_by_name(
    changed: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    text: Path,
    other: Path,
    tmp_path: Path,
) -> None:
    kept = tmp_path / "state.npz"
    ask = ["perplexity", str(TINY), "--window", "40", "--resume", str(kept)]
    ask += ["--text", str(text), "--reference", str(TINY)]
    assert status(ask) == 0
    before = kept.read_bytes()
    again = tmp_path / "again.txt"
    again.write_text(text.read_text() + "more")
    names = {"--text": str(again), "--reference": str(other), "other": str(other)}
    if changed == ["other"]:
        changed = [str(other)]
    elif changed[-1] == "other":
        changed = [changed[0], names[changed[0]]]
    capsys.readouterr()
    assert status([*ask, *changed]) == 2
    said_so = capsys.readouterr().err
    assert said_so.startswith(f"fivefold: --resume: {kept} is the state of another measurement: ")
    assert said in said_so
    assert kept.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"what", b"PK\x03\x04 cut", b"\x80\x04N."])
def test_a_file_that_is_no_state_is_refused(
    content: bytes, capsys: pytest.CaptureFixture[str], text: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "state.npz"
    kept.write_bytes(content)
    assert (
        status(["perplexity", str(TINY), "--text", str(text), "--window", "40", "--resume", str(kept)]) == 2
    )
    assert f"--resume: {kept} is not a state that can be read" in capsys.readouterr().err
    assert kept.read_bytes() == content


def test_half_a_state_is_refused(capsys: pytest.CaptureFixture[str], text: Path, tmp_path: Path) -> None:
    """A state cut anywhere: never taken for a whole one."""
    kept = tmp_path / "state.npz"
    ask = ["perplexity", str(TINY), "--text", str(text), "--window", "40", "--resume", str(kept)]
    assert status(ask) == 0
    whole = kept.read_bytes()
    for size in range(1, len(whole), len(whole) // 7):
        kept.write_bytes(whole[:size])
        assert status(ask) == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--reference", "self"], "`self` is one model, and there are 2"),
        (["--reference-executor", "what"], "--reference-executor: 'what' is not known"),
        (["--resume", "/no/such/folder/state"], "--resume: /no/such/folder/state cannot be written"),
        (["--skip", "39"], "--skip"),
        (["--reference", "/no/such.gguf"], "/no/such.gguf"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], text: Path, other: Path
) -> None:
    ask = ["perplexity", str(TINY), str(other), "--text", str(text), "--window", "40"]
    assert status([*ask, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_models_of_other_tokens_are_refused(
    capsys: pytest.CaptureFixture[str], text: Path, other: Path
) -> None:
    whole = open_checkpoint(TINY)
    tokens = list(whole.metadata["tokenizer.ggml.tokens"])
    used = load(TINY).vocabulary.encode(text.read_bytes())
    first, second = used[1], next(token for token in used[2:] if token != used[1])
    tokens[first], tokens[second] = tokens[second], tokens[first]
    write_gguf(other, {**whole.metadata, "tokenizer.ggml.tokens": tokens}, whole.tensors.values())
    assert status(["perplexity", str(TINY), str(other), "--text", str(text)]) == 2
    error = capsys.readouterr().err
    assert "other.gguf beside tiny.gguf: the two models make different tokens of the text" in error


def test_progress_is_for_terminals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: Path
) -> None:
    ask = ["perplexity", str(TINY), "--text", str(text), "--window", "40", "--json"]
    assert status(ask) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert status(ask) == 0
    output, shown = capsys.readouterr()
    assert json.loads(output)["positions"] > 0
    assert "window 2 of " in shown and shown.endswith("\r")
