"""The commands `bench ...` as people and scripts meet them: keys, files, errors."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fivefold.bench import Process, free_base
from fivefold.cli.app import status

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "engine" / "data" / "tiny.gguf"
DATA = Path(__file__).parent / "data"
FAKE = Path(__file__).parent / "fake_server.py"
Make = Callable[[str, str], Path]

SUBJECT = {
    "work", "model", "sha256", "processor", "machine", "instruction_set", "threads", "cache_format",
    "read_bandwidth", "read_bandwidth_rounds", "tokens", "sides", "ratios",
}  # fmt: skip
SPEED = SUBJECT | {"activations", "versions", "idle_processor_shares"}
STEP = SPEED | {"step_bytes", "step_flops"}
KEYS = {
    "decode": STEP | {"share_of_bandwidth"},
    "prefill": STEP,
    "batch": STEP | {"share_of_bandwidth", "requests", "prompt_tokens", "ratios_whole"},
    "depth": SPEED | {"depths"},
    "serve": SUBJECT
    | {
        "scenario", "loop", "endpoint", "clients", "requests", "seconds", "rate", "prompt_words",
        "shared_words", "long_words", "seed",
    },
}  # fmt: skip
SMALL = {
    "decode": ("--tokens", "6"),
    "prefill": ("--tokens", "40"),
    "batch": ("--batch", "3", "--prompt-tokens", "8", "--tokens", "12"),
    "depth": ("--depths", "0,20,60", "--tokens", "4"),
}


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fivefold.bench.serving.IDLE_PAUSE", 0.0)


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What a command prints when all is well."""
    ending = status(["bench", *(str(argument) for argument in arguments)])
    output, errors = capsys.readouterr()
    assert (ending, errors) == (0, "")
    return output


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path, ending: int = 2) -> str:
    """The one line of a command that fails."""
    assert status(["bench", *(str(argument) for argument in arguments)]) == ending
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("fivefold: ")
    assert errors.count("\n") == 1
    assert "; " in errors, "no remedy is given"
    return errors


@pytest.fixture
def tools(program: Make) -> Path:
    """A folder with llama.cpp's tools, which print what was recorded."""
    for name, recorded in (
        ("llama-bench", "llama_bench.json"), ("llama-batched-bench", "llama_batched_bench.jsonl"),
    ):  # fmt: skip
        program(name, f"cat '{DATA / recorded}'")
    return program("llama-server", f"exec '{sys.executable}' '{FAKE}' \"$@\"").parent


@pytest.mark.parametrize("work", SMALL)
def test_speed_is_measured_with_a_peer_under_documented_keys(
    work: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, tools: Path
) -> None:
    written, drawn = tmp_path / "figures.json", tmp_path / "picture.png"
    asked = (work, TINY, *SMALL[work], "--rounds", "2", "--json", written, "--picture", drawn)
    shown = told(capsys, *asked, "--peers", f"llama.cpp={tools}")
    assert "tokens/s" in shown
    assert "we are" in shown
    answer = json.loads(written.read_text())
    assert answer.keys() == KEYS[work]
    assert list(answer["sides"]) == ["fivefold", "llama.cpp"]
    assert drawn.read_bytes().startswith(b"\x89PNG")
    assert str(ROOT) not in written.read_text()
    assert str(tmp_path) not in written.read_text()
    assert len(answer["read_bandwidth_rounds"]) == 2
    theirs = answer["sides"]["llama.cpp"]
    each = theirs["depths"] if work == "depth" else [theirs]
    for side in each:
        assert len(side["rounds"]) == 2
        assert set(side["tried"]) == {"flash attention on", "flash attention off"}
        assert side["setting"] in side["tried"]
        assert side["median"] == max(side["tried"].values())


def test_ratios_and_shares_follow_from_the_medians(capsys: pytest.CaptureFixture[str], tools: Path) -> None:
    asked = ("batch", TINY, *SMALL["batch"], "--rounds", "3", "--peers", f"llama.cpp={tools}", "--json", "-")
    answer = json.loads(told(capsys, *asked))
    ours, theirs = answer["sides"]["fivefold"], answer["sides"]["llama.cpp"]
    assert answer["ratios"]["llama.cpp"] == pytest.approx(ours["median"] / theirs["median"], rel=1e-2)
    whole = ours["whole"]["median"] / theirs["whole"]["median"]
    assert answer["ratios_whole"]["llama.cpp"] == pytest.approx(whole, rel=1e-2)
    share = ours["median"] / 3 * answer["step_bytes"] / answer["read_bandwidth"]
    assert answer["share_of_bandwidth"] == pytest.approx(share, abs=1e-3)


def test_depth_fits_a_line_through_all_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    answer = json.loads(told(capsys, "depth", TINY, *SMALL["depth"], "--rounds", "2", "--json", "-"))
    assert answer["depths"] == [0, 20, 60]
    fit = answer["sides"]["fivefold"]["fit"]
    assert fit.keys() == {"base_seconds", "seconds_per_entry", "residual_seconds", "r_squared"}
    predicted = [fit["base_seconds"] + fit["seconds_per_entry"] * depth for depth in answer["depths"]]
    seen = [1 / rate for each in answer["sides"]["fivefold"]["depths"] for rate in each["rounds"]]
    assert sum(predicted) / 3 == pytest.approx(sum(seen) / 6, rel=1e-2)
    one = json.loads(
        told(capsys, "depth", TINY, "--depths", "9", "--tokens", "2", "--rounds", "1", "--json", "-")
    )
    assert one["sides"]["fivefold"]["fit"] is None


@pytest.fixture
def base() -> Iterator[str]:
    """The address of a fake server that runs."""
    found, port = free_base()
    process = Process([sys.executable, str(FAKE), "--port", str(port)], found)
    process.wait_until_healthy(30)
    yield found
    process.close()


@pytest.mark.parametrize("scenario", ["steady", "long-prefill", "open"])
def test_servers_are_measured_under_documented_keys(
    scenario: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, tools: Path, base: str
) -> None:
    more: tuple[str, ...] = ("--requests", "4")
    if scenario == "open":
        more = ("--rate", "100", "--requests", "4")
    elif scenario == "long-prefill":
        more = ("--scenario", "long-prefill", "--seconds", "0.3", "--long-tokens", "50", "--tokens", "600")
    written, drawn = tmp_path / "figures.json", tmp_path / "picture.png"
    peers = f"llama.cpp={tools},other={base}"
    asked = (
        "serve",
        TINY,
        "--url",
        f"{base}/v1",
        "--clients",
        "2",
        "--prompt-tokens",
        "6",
        "--tokens",
        "3",
        *more,
    )
    outputs = ("--rounds", "1", "--json", written, "--picture", drawn)
    shown = told(capsys, *asked, "--peers", peers, *outputs)
    answer: dict[str, Any] = json.loads(written.read_text())
    assert answer.keys() == KEYS["serve"]
    assert list(answer["sides"]) == ["fivefold", "llama.cpp", "other"]
    assert answer["ratios"].keys() == {"llama.cpp", "other"}
    assert answer["loop"] == ("open" if scenario == "open" else "closed")
    assert answer["instruction_set"] is None
    assert str(tmp_path) not in written.read_text()
    assert drawn.read_bytes().startswith(b"\x89PNG")
    for side in answer["sides"].values():
        assert (side["errors"], side["first_error"]) == (0, "")
        assert side["tokens_counted"] is True
        gaps = side["gap_seconds_during" if scenario == "long-prefill" else "gap_seconds"]
        assert gaps.keys() == {"p50", "p90", "p95", "p99"}
        assert all(set(value) == {"median", "rounds"} for value in gaps.values())
    assert "idle_processor_share" in answer["sides"]["llama.cpp"]
    assert "llama.cpp" in shown


def test_our_own_server_is_started_and_measured(
    default_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (
        "serve",
        default_model,
        "--clients",
        "2",
        "--requests",
        "4",
        "--prompt-tokens",
        "8",
        "--tokens",
        "6",
    )
    answer = json.loads(told(capsys, *asked, "--rounds", "1", "--json", "-"))
    side = answer["sides"]["fivefold"]
    assert (side["errors"], side["short_answers"], side["output_tokens"]) == (0, 0, 24)
    assert side["tokens_counted"] is True
    assert answer["instruction_set"] is not None


def test_a_terminated_measurement_ends_its_server(tmp_path: Path, tools: Path, base: str) -> None:
    """SIGTERM ends the command with the status of an interrupt, and llama-server with it."""
    noted = tmp_path / "number"
    server = tools / "llama-server"
    server.write_text(f"#!/bin/sh\necho $$ > '{noted}'\nexec '{sys.executable}' '{FAKE}' \"$@\"\n")
    command = [
        sys.executable, "-m", "fivefold", "bench", "serve", str(TINY), "--url", base, "--seconds", "60",
        "--peers", f"llama.cpp={tools}",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as bench:
        number = wait_for(noted)
        time.sleep(0.5)
        bench.send_signal(signal.SIGTERM)
        _, errors = bench.communicate(timeout=60)
    assert (bench.returncode, errors) == (130, b"")
    assert ended(number)


def test_a_terminated_measurement_ends_its_tool(tmp_path: Path, tools: Path) -> None:
    noted = tmp_path / "number"
    (tools / "llama-bench").write_text(f"#!/bin/sh\necho $$ > '{noted}'\nexec sleep 100\n")
    command = [sys.executable, "-m", "fivefold", "bench", "decode", str(TINY), "--tokens", "4"]
    peers = ["--peers", f"llama.cpp={tools}"]
    with subprocess.Popen([*command, *peers], stderr=subprocess.PIPE, cwd=ROOT) as bench:
        number = wait_for(noted)
        bench.send_signal(signal.SIGTERM)
        _, errors = bench.communicate(timeout=60)
    assert (bench.returncode, errors) == (130, b"")
    assert ended(number)


def ended(number: int) -> bool:
    """Whether a process is gone within some seconds, or is only waited for by nobody."""
    for _ in range(200):
        try:
            if Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def wait_for(noted: Path) -> int:
    """The number that a program writes to a file once it runs."""
    for _ in range(1200):
        if noted.exists() and noted.read_text().strip():
            return int(noted.read_text())
        time.sleep(0.05)
    pytest.fail("the program was not started")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing command"),
        (["nothing"], "nothing"),
        (["decode", TINY, "--tokens", "97"], "--tokens"),
        (["decode", TINY, "--tokens", "0"], "--tokens"),
        (["decode", TINY, "--tokens", "4", "--peers", "what"], "--peers"),
        (["decode", TINY, "--tokens", "4", "--peers", "ollama=/bin/sh"], "'ollama'"),
        (["decode", TINY, "--tokens", "4", "--peers", "llama.cpp=/no/such"], "/no/such"),
        (["decode", TINY, "--tokens", "4", "--peers", "vllm=/bin/sh"], "--peer-model vllm=FOLDER"),
        (["decode", TINY, "--tokens", "4", "--peer-model", "vllm=/"], "--peer-model"),
        (["decode", TINY, "--json", "/no/such/file"], "/no/such/file"),
        (["decode", TINY, "--picture", "/no/such/file.png"], "/no/such/file.png"),
        (["decode", TINY, "--picture", "file.doc"], "--picture"),
        (["batch", TINY, "--batch", "0"], "--batch"),
        (["batch", TINY, "--tokens", "90"], "--tokens"),
        (["depth", TINY, "--depths", "0,100"], "--depths"),
        (["depth", TINY, "--depths", "20,10"], "--depths"),
        (["depth", TINY, "--depths", "many"], "--depths"),
        (["depth", TINY, "--depths", ""], "--depths"),
        (["serve", TINY, "--url", "nowhere"], "--url"),
        (["serve", TINY, "--url", "http://127.0.0.1:9"], "nobody answers"),
        (["serve", TINY, "--peers", "vllm=/bin/sh"], "vllm=http://HOST:PORT"),
        (["serve", TINY, "--peers", "llama.cpp=/no/such"], "/no/such"),
        (["serve", TINY, "--peer-model", "vllm=x"], "--peer-model"),
        (["serve", TINY, "--shared-tokens", "128"], "--shared-tokens"),
        (["serve", TINY, "--scenario", "long-prefill", "--rate", "3"], "--rate"),
        (["serve", TINY, "--scenario", "other"], "--scenario"),
        (["serve", TINY, "--endpoint", "other"], "--endpoint"),
        (["serve", "/no/such.gguf"], "/no/such.gguf"),
    ],
    ids=lambda value: " ".join(map(str, value))[-50:] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused(capsys, *arguments)


def test_a_server_that_cannot_start_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("serve", TINY, "--prompt-tokens", "500", "--rounds", "1")
    assert "context" in refused(capsys, *asked, ending=1)


def test_every_command_of_the_group_takes_json_and_picture(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (*SMALL, "serve"):
        shown = told(capsys, command, "--help")
        assert "--json" in shown
        assert "--picture" in shown


def test_the_page_lists_every_key() -> None:
    page = (ROOT / "docs" / "bench.md").read_text()
    missing = {key for keys in KEYS.values() for key in keys if f"`{key}`" not in page}
    assert missing == set()
