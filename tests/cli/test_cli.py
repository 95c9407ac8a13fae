"""The command line as a stranger meets it: answers, one-line errors, exit statuses, interrupts."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import fivefold
from fivefold.cli.app import app, status
from fivefold.core.checkpoint import Tensor
from fivefold.core.layout import PAGE_SIZE
from fivefold.files import open_checkpoint, write_gguf

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "engine" / "data" / "tiny.gguf"
FIVEFOLD = [sys.executable, "-m", "fivefold"]


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What a command prints when all is well."""
    assert status([str(argument) for argument in arguments]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    return output


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path, ending: int = 2) -> str:
    """The one line on stderr of a command that fails."""
    assert status([str(argument) for argument in arguments]) == ending
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("fivefold: ")
    assert errors.count("\n") == 1
    assert "; " in errors, "no remedy is given"
    return errors


def altered(folder: Path, keys: dict[str, Any], **changes: Any) -> Path:
    """The tiny model with other metadata (None takes a key out), tensors left out or put in by `tensors`."""
    whole = open_checkpoint(TINY)
    metadata = {key: value for key, value in {**whole.metadata, **keys}.items() if value is not None}
    tensors = {**whole.tensors, **changes.get("tensors", {})}
    path = folder / "altered.gguf"
    write_gguf(path, metadata, [tensor for tensor in tensors.values() if tensor is not None])
    return path


def test_run_answers_and_its_figures_agree(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("run", TINY, "-p", "the man", "--max-tokens", "8")
    text = told(capsys, *asked)
    figures = json.loads(told(capsys, *asked, "--json"))
    assert text == figures["text"] + "\n"
    assert len(figures["tokens"]) == figures["output_tokens"] == 8
    assert figures["finish_reason"] == "length"
    assert len(figures["prompt_token_ids"]) == figures["prompt_tokens"]
    raw = json.loads(told(capsys, *asked, "--raw", "--json", "--logprobs", "2"))
    assert raw["prompt_tokens"] < figures["prompt_tokens"]
    assert [entry["token"] for entry in raw["logprobs"]] == raw["tokens"]


def test_run_repeats_with_its_seed_only(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("run", TINY, "-p", "the man", "--max-tokens", "8", "--temperature", "1", "--seed")
    assert told(capsys, *asked, "1") == told(capsys, *asked, "1") != told(capsys, *asked, "2")


def test_run_takes_bias_and_stop(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("run", TINY, "-p", "x", "--max-tokens", "6", "--logit-bias", "101=100")
    assert told(capsys, *asked) == "cccccc\n"
    assert told(capsys, *asked, "--stop", "cc") == "\n"


def test_chat_keeps_its_history_and_resets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "a line of some length here\n\nb\n/reset\na line of some length here\n/exit\nnever\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    asked = ("chat", TINY, "--json", "--max-tokens", "3", "--temperature", "0")
    first, second, third = map(json.loads, told(capsys, *asked).splitlines())
    assert second["prompt_token_ids"][: first["prompt_tokens"]] == first["prompt_token_ids"]
    assert second["cached_tokens"] >= first["prompt_tokens"] // PAGE_SIZE * PAGE_SIZE > 0
    assert third["tokens"] == first["tokens"]


def test_chat_goes_on_after_mistakes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"/model none\n/what\n{'long ' * 90}\n/model {TINY}\nhi"))
    assert status(["chat", str(TINY), "--max-tokens", "2"]) == 0
    output, errors = capsys.readouterr()
    assert len(output.splitlines()) >= 1
    assert [line.split(" ")[0] for line in errors.splitlines()] == ["fivefold:", "commands:", "fivefold:"]
    assert "/reset" in errors


def test_inspect(capsys: pytest.CaptureFixture[str]) -> None:
    cpu = json.loads(told(capsys, "inspect", "cpu", "--json"))
    assert cpu["chosen"] in cpu["instruction_sets"]
    model = json.loads(told(capsys, "inspect", TINY, "--json"))
    assert (model["family"], model["layers"], model["hidden"]) == ("llama", 2, 32)
    assert "vocabulary" in told(capsys, "inspect", TINY)


def test_inspect_says_what_each_part_is_and_what_will_be_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good = json.loads(told(capsys, "inspect", TINY, "--json"))
    assert good["refused"] == []
    assert set(good["formats_by_part"]["blk.*.attn_q.weight"]) == {"q8_0"}
    assert sum(sum(one.values()) for one in good["formats_by_part"].values()) == good["bytes"]
    assert good["bytes"] == sum(good["bytes_by_format"].values())
    assert (good["tokens"], good["end_tokens"], good["tool_dialect"]) == (265, ["<|end|>"], "plain")
    assert good["context_cache_bytes"] == 96 * good["cache_bytes_a_token"]
    for keys, reason in (
        ({"general.architecture": "elephant"}, "architecture 'elephant' is not known"),
        ({"llama.attention.sliding_window": 7}, "sliding_window"),
        ({"tokenizer.ggml.pre": "strange"}, "strange"),
        ({"tokenizer.chat_template": None}, "no chat template"),
        ({"tokenizer.chat_template": "{% if %}"}, "malformed"),
    ):
        bad = json.loads(told(capsys, "inspect", altered(tmp_path, keys), "--json"))
        assert [reason in line for line in bad["refused"]] == [True], bad["refused"]
        assert bad["bytes"] == good["bytes"]
    assert "refused               nothing" in told(capsys, "inspect", TINY)
    assert "malformed" in told(capsys, "inspect", altered(tmp_path, {"tokenizer.chat_template": "{% if %}"}))


def test_perplexity_against_itself(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("hello the man " * 12)
    asked = ("perplexity", TINY, "--text", text, "--window", "64", "--json", "--reference", "self")
    figures = json.loads(told(capsys, *asked, "--activations", "float"))
    assert figures["mean_kl"] < 1e-5
    assert figures["text"] == "text.txt"
    assert json.loads(told(capsys, *asked))["mean_kl"] > figures["mean_kl"]


@pytest.mark.parametrize("work", ["decode", "prefill"])
def test_bench_writes_figures_without_paths(
    work: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    written = tmp_path / "figures.json"
    shown = told(capsys, "bench", work, TINY, "--tokens", "8", "--rounds", "2", "--json", written)
    assert "tokens/s" in shown
    figures = json.loads(written.read_text())
    assert len(figures["sides"]["fivefold"]["rounds"]) == 2
    assert figures["model"] == "tiny.gguf"
    assert str(ROOT) not in written.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "--prompt"),
        (["run", "-p", "hi", "--max-tokens", "0"], "--max-tokens"),
        (["run", "-p", "hi", "--max-tokens", "many"], "--max-tokens"),
        (["run", "-p", "hi", "--bogus"], "--bogus"),
        (["run", "-p"], "-p"),
        (["run", "nothing", "-p", "hi"], "'nothing': no such model or file"),
        (["run", TINY, "-p", "hi", "--isa", "none"], "--isa"),
        (["run", TINY, "-p", "hi", "--threads", "5000"], "--threads"),
        (["run", TINY, "-p", "hi", "--context", "97"], "--context"),
        (["run", TINY, "-p", "hi " * 99], "the context 96"),
        (["run", TINY, "-p", "hi", "--activations", "none"], "--activations"),
        (["run", TINY, "-p", "hi", "--kv", "f32"], "--kv"),
        (["bench", "serve", TINY, "--kv", "q8"], "--kv"),
        (["run", TINY, "-p", "hi", "--top-p", "2"], "top_p"),
        (["run", TINY, "-p", "hi", "--temperature", "nan"], "temperature"),
        (["run", TINY, "-p", "hi", "--logit-bias", "5"], "--logit-bias"),
        (["run", TINY, "-p", "hi", "--logit-bias", "999=1"], "--logit-bias: token 999 is not in the vocab"),
        (["run", TINY, "-p", "hi", "--logit-bias", "-1=1"], "--logit-bias"),
        (["run", TINY, "-p", "hi", "--logit-bias", "1_0=1"], "--logit-bias: '1_0=1' is not TOKEN=NUMBER"),
        (["run", TINY, "-p", "hi", "--logit-bias", "5=1=2"], "--logit-bias"),
        (["run", TINY, "-p", "hi", "--logit-bias", "5=nan"], "--logit-bias: the bias of token 5 is nan"),
        (["run", TINY, "-p", "hi", "--logit-bias", "5=-inf"], "give a number from -100 to 100"),
        (["run", TINY, "-p", "hi", "--logit-bias", "5=100.5"], "the bias of token 5 is 100.5"),
        (["run", TINY, "-p", "hi", "--logit-bias", "9" * 30 + "=1"], "--logit-bias"),
        (["run", TINY, "-p", "hi", *(["--logit-bias", "5=1"] * 1025)], "1025 biases"),
        (["run", TINY, "-p", "hi", "--stop", ""], "stop"),
        (["nothing"], "'nothing'"),
        (["pull", "hf:what"], "hf:what"),
        (["inspect", "no\nsuch"], "no such model"),
        (["perplexity", TINY], "--text"),
        (["perplexity", TINY, "--text", "/no/such.txt"], "/no/such.txt"),
        (["perplexity", TINY, "--text", "/dev/null"], "--text"),
        (["bench", "nothing"], "nothing"),
        (["bench", "decode", TINY, "--tokens", "97"], "--tokens"),
        (["bench", "decode", TINY, "--tokens", "4", "--peers", "what"], "--peers"),
        (["bench", "decode", TINY, "--tokens", "4", "--peers", "llama.cpp=/no/such"], "/no/such"),
        (["bench", "decode", TINY, "--json", "/no/such/file"], "/no/such/file"),
    ],
    ids=lambda value: " ".join(map(str, value))[:50] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *arguments)


def small(name: str, form: str, shape: tuple[int, ...], size: int) -> dict[str, Tensor]:
    return {name: Tensor(name, form, shape, np.zeros(size, np.uint8))}


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "architecture": ({"general.architecture": "mamba"}, {}, "'mamba'"),
    "no architecture": ({"general.architecture": None}, {}, "general.architecture"),
    "unknown key": ({"llama.expert_count": 8}, {}, "llama.expert_count"),
    "missing key": ({"llama.embedding_length": None}, {}, "llama.embedding_length"),
    "wrong key": ({"llama.block_count": "two"}, {}, "llama.block_count"),
    "layers": ({"llama.block_count": 3}, {}, "blk.2.attn_norm.weight"),
    "value length": ({"llama.attention.value_length": 16}, {}, "llama.attention.value_length"),
    "vocabulary size": ({"llama.vocab_size": 7}, {}, "llama.vocab_size"),
    "rope": ({"llama.rope.scaling.type": "su"}, {}, "llama.rope.scaling.type"),
    "tokenizer": ({"tokenizer.ggml.model": "rwkv"}, {}, "tokenizer.ggml.model"),
    "no tokens": ({"tokenizer.ggml.tokens": None}, {}, "tokenizer.ggml.tokens"),
    "more tokens": (
        {"tokenizer.ggml.tokens": [f"t{i}" for i in range(300)], "tokenizer.ggml.merges": None,
         "tokenizer.ggml.token_type": None}, {}, "tokenizer.ggml."),
    "no template": ({"tokenizer.chat_template": None}, {}, "tokenizer.chat_template"),
    "bad template": ({"tokenizer.chat_template": "{% if"}, {}, "tokenizer.chat_template"),
    "missing tensor": ({}, {"output_norm.weight": None}, "output_norm.weight"),
    "shape": ({}, small("output_norm.weight", "f32", (16,), 64), "output_norm.weight"),
    "format": ({}, small("blk.0.ffn_down.weight", "i8", (32, 64), 2048), "i8"),
    "vector format": ({}, small("blk.0.ffn_norm.weight", "i32", (32,), 128), "i32"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_model_is_refused_by_file_and_key(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, tensors, said = FAULTS[fault]
    line = refused(capsys, "run", altered(tmp_path, keys, tensors=tensors), "-p", "hi")
    assert said in line
    assert "altered.gguf" in line or "tokenizer.chat_template" in line


def test_a_file_cut_short_is_refused_wherever_it_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = TINY.read_bytes()
    path = tmp_path / "cut.gguf"
    for size in (0, 3, 20, 200, 3000, 9000, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:size])
        assert "cut.gguf" in refused(capsys, "run", path, "-p", "hi")


def test_faults_of_the_program_and_the_machine_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, said in [
        (RuntimeError("odd\nthing"), "RuntimeError: odd thing"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError"),
        (MemoryError(), "not enough memory"),
        (OSError(5, "Input/output error", "a-file"), "a-file: Input/output error"),
    ]:

        def failing(*given: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("fivefold.cli.generate.open_model", failing)
        assert said in refused(capsys, "run", TINY, "-p", "hi", ending=1)


def test_a_peer_that_prints_no_figures_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tool = tmp_path / "llama-bench"
    tool.write_text("#!/bin/sh\necho hello\n")
    tool.chmod(0o755)
    asked = ("bench", "decode", TINY, "--tokens", "4", "--peers", f"llama.cpp={tmp_path}")
    assert str(tmp_path) in refused(capsys, *asked, ending=1)


def test_help_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys)
    for command in ("pull", "run", "chat", "inspect", "perplexity", "bench"):
        assert command in shown
        assert "--json" in told(capsys, command, "--help")


def commands(group: Any = None, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands by the words that name them, groups too."""
    group = group or typer.main.get_command(app)
    yield names, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*names, name))


def test_help_loses_no_word_of_what_it_tells(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets too: `hf:owner/repo[@revision][:file]` and `[server]` are no marks of a style."""
    seen = set()
    for names, command in commands():
        shown = "".join(told(capsys, *names, "--help").split())
        for text in (command.help, *(getattr(one, "help", None) for one in command.params)):
            assert "".join((text or "").split()) in shown, names
            seen |= set(re.findall(r"\[[^]]+\]", text or ""))
    assert {"[@revision]", "[:file]", "[server]"} <= seen


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "--version") == f"fivefold {metadata.version('fivefold')}\n"
    assert metadata.version("fivefold") == fivefold.__version__


def test_a_template_that_is_none_is_told_when_a_server_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = altered(tmp_path, {"tokenizer.chat_template": "{{ x }}\n{% if"})
    line = refused(capsys, "serve", path, "--port", "0")
    assert f"{path}: tokenizer.chat_template: the chat template is malformed in line 2" in line


def test_pull_of_a_path_wants_a_model_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert told(capsys, "pull", TINY) == f"{TINY}\n"
    assert f"{tmp_path}: no model file in this folder" in refused(capsys, "pull", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "no config.json" in refused(capsys, "pull", tmp_path)
    text = tmp_path / "text.txt"
    text.write_text("no model")
    assert "text.txt" in refused(capsys, "pull", text)


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    """A command that heeds interrupts, even where a shell started these tests with interrupts ignored."""
    command = [*FIVEFOLD, *map(str, arguments)]
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_run_with_130(default_model: Path) -> None:
    asked = ("run", default_model, "--raw", "-p", "Once", "--max-tokens", "8000", "--ignore-eos")
    with start(*asked) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == b""


def test_a_closed_pipe_ends_run_without_a_word(default_model: Path) -> None:
    with start(
        "run", default_model, "--raw", "-p", "Once", "--max-tokens", "2000", "--ignore-eos"
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


def test_a_full_disk_and_bytes_that_are_no_text_are_no_traceback() -> None:
    asked: list[str | bytes] = [*FIVEFOLD, "run", str(TINY), "-p", b"\xff\xfe", "--max-tokens", "2"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(asked, stdout=full, stderr=subprocess.PIPE, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith(b"fivefold: ")
    assert done.stderr.count(b"\n") == 1
