"""`fivefold quantize` as people meet it: plans, figures, one line for what is wrong, interruptions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fivefold.cli.app import status
from fivefold.files import open_checkpoint

TINY = Path(__file__).parents[2] / "tests" / "engine" / "data" / "tiny.gguf"


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[str, str]:
    """What a command prints when all is well, and its notes."""
    assert status(["quantize", *(str(argument) for argument in arguments)]) == 0
    output, errors = capsys.readouterr()
    return output, errors


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path, ending: int = 2) -> str:
    assert status(["quantize", *(str(argument) for argument in arguments)]) == ending
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("fivefold: ")
    assert errors.count("\n") == 1
    assert "; " in errors
    return errors


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output, errors = told(capsys, TINY, tmp_path / "out.gguf", "--format", "q4_0", "--dry-run")
    lines = output.splitlines()
    assert lines[0].split() == ["tensor", "shape", "from", "to", "method", "bytes", "note"]
    row = next(line for line in lines if line.startswith("blk.0.ffn_up.weight"))
    assert row.split()[1:] == ["64", "x", "32", "q8_0", "q4_0", "sweep", "1152"]
    assert "bits per weight" in lines[-1]
    assert errors == ""
    assert list(tmp_path.iterdir()) == []


def test_figures_agree_with_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    output, _ = told(capsys, TINY, target, "--format", "q4_0", "--json")
    answer = json.loads(output)
    held = open_checkpoint(target).tensors
    assert answer["bytes"] == sum(tensor.stored_bytes for tensor in held.values())
    assert answer["file_bytes"] == target.stat().st_size
    assert {one["name"]: one["format"] for one in answer["tensors"]} == {
        name: tensor.format for name, tensor in held.items()
    }
    numbers = sum(one.data.size for one in held.values() if one.format == "f32") // 4
    numbers += sum(one.data.size // 18 * 32 for one in held.values() if one.format == "q4_0")
    numbers += sum(one.data.size // 34 * 32 for one in held.values() if one.format == "q8_0")
    assert answer["numbers"] == numbers
    assert answer["bits_per_weight"] == pytest.approx(8 * answer["bytes"] / numbers)
    dry, _ = told(capsys, TINY, target, "--format", "q4_0", "--json", "--dry-run")
    assert json.loads(dry) == answer


def test_a_note_for_each_tensor_that_falls_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The tiny model's rows have 32 numbers, half a block of nvfp4."""
    output, errors = told(capsys, TINY, tmp_path / "out.gguf", "--format", "nvfp4", "--head", "f16")
    notes = errors.splitlines()
    assert "blk.1.ffn_up.weight: q8_0: 32 columns do not fill blocks of nvfp4" in notes
    assert len(notes) == 2 * 6
    assert "bits per weight" in output
    assert output.splitlines()[-1] == str(tmp_path / "out.gguf")


def test_what_is_written_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    told(capsys, TINY, tmp_path / "out.gguf", "--format", "q4_0")
    assert status(["run", str(tmp_path / "out.gguf"), "-p", "a", "--max-tokens", "4", "--json"]) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "no format is given"),
        (["--format", "q2"], "--format: format 'q2' cannot be quantized to"),
        (["--format", "q4_0", "--head", "x"], "--head: format 'x' cannot be quantized to"),
        (["--format", "fp8"], "GGUF files have no fp8"),
        (["--format", "q4_0", "--calibrate", "none.txt"], "none.txt: no such file"),
        (["--recipe", "none.toml"], "none.toml: cannot be read"),
        (["--formt", "q4_0"], "No such option"),
    ],
)
def test_bad_options(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], says: str
) -> None:
    assert says in refused(capsys, TINY, tmp_path / "out.gguf", *options)
    assert list(tmp_path.iterdir()) == []


def test_bad_targets(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "into a Hugging Face folder" in refused(capsys, TINY, tmp_path / "out", "--format", "q4_0")
    assert "the target is the source" in refused(capsys, TINY, TINY, "--format", "q4_0")
    gone = tmp_path / "none" / "out.gguf"
    assert "its folder does not exist" in refused(capsys, TINY, gone, "--format", "q4_0", "--dry-run")
    assert "no such model or file" in refused(
        capsys, tmp_path / "no.gguf", tmp_path / "o.gguf", "--format", "q4_0"
    )


@pytest.mark.model
def test_an_interrupted_run_is_resumed(default_model: Path, tmp_path: Path) -> None:
    """By a signal in the middle of it; whichever tensor that is, the file is the same."""
    target, whole = tmp_path / "out.gguf", tmp_path / "whole.gguf"
    command = [
        sys.executable,
        "-m",
        "fivefold",
        "quantize",
        str(default_model),
        str(target),
        "--format",
        "mxfp4",
    ]
    journal = tmp_path / ".out.gguf.unfinished" / "journal"
    # A job in the background of a shell ignores the signal, and so would what it starts.
    heard = (
        "import signal as s; s.signal(s.SIGINT, s.default_int_handler); import fivefold.cli as c; c.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", heard, *command[3:]], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    while process.poll() is None and not (journal.exists() and len(journal.read_bytes().splitlines()) > 40):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert (process.returncode, output) == (130, b"")
    assert not target.exists()
    answer = subprocess.run([*command, "--resume", "--json"], check=True, capture_output=True).stdout
    assert 40 <= json.loads(answer)["resumed"] < 272
    command[5] = str(whole)
    subprocess.run(command, check=True, capture_output=True)
    assert target.read_bytes() == whole.read_bytes()
