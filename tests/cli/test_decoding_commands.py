"""`--decoding` of `run` and `chat`: the same answer, told with its figures; errors are one line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from fivefold.cli.app import status

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
RUN = (
    "--raw", "-p", "one two one two one two", "--max-tokens", "60", "--ignore-eos", "--threads", "1",
    "--frequency-penalty", "-1.0", "--json",
)  # fmt: skip


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON that a command prints when all is well."""
    assert status(list(arguments)) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    return json.loads(output)


def test_the_answer_is_the_same_in_fewer_steps(capsys: pytest.CaptureFixture[str]) -> None:
    plain = told(capsys, "run", str(TINY), *RUN, "--decoding", "autoregressive")
    assert (plain["steps"], plain["guessed_tokens"], plain["accepted_tokens"]) == (60, 0, 0)
    for more in ((), ("--decoding", "auto"), ("--decoding", "speculative")):
        answer = told(capsys, "run", str(TINY), *RUN, *more)
        assert answer["tokens"] == plain["tokens"]
        assert 0 < answer["accepted_tokens"] <= answer["guessed_tokens"]
        assert answer["steps"] + answer["accepted_tokens"] in (60, 61), "the last token may have been guessed"


def test_a_conversation_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hello, and some more words\n"))
    answer = told(capsys, "chat", str(TINY), "--max-tokens", "9", "--decoding", "autoregressive", "--json")
    assert (answer["guessed_tokens"], answer["steps"]) == (0, answer["output_tokens"])


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("fast", "--decoding: there is no decoding 'fast'; choose of auto, autoregressive, speculative"),
        ("diffusion", "decoding: tiny.gguf is not a diffusion model; choose auto, speculative or auto"),
    ],
)
@pytest.mark.parametrize("command", ["run", "chat"])
def test_what_is_wrong_is_one_line(
    capsys: pytest.CaptureFixture[str], command: str, name: str, line: str
) -> None:
    more = ["-p", "hello"] if command == "run" else []
    assert status([command, str(TINY), *more, "--decoding", name]) == 2
    output, errors = capsys.readouterr()
    assert output == "" and errors.count("\n") == 1
    assert line in errors
