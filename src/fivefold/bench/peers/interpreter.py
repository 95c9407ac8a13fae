"""Peers that are Python packages: a process in the interpreter that the user names, asked round by round.

It loads the model once, by a small script of ours that it runs by its path, so nothing of fivefold need be
installed there. Between two rounds it waits on its standard input and costs nothing.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fivefold.core.errors import FivefoldError, InputError

from ..last_words import LastWords
from ..work import Reading, Timeline, Work
from .peer import Subject

SCRIPT = Path(__file__).parent / "scripts" / "answer_rounds.py"


@dataclass(frozen=True, slots=True)
class Package:
    """A package that can be a peer: what pip calls it, and whether it opens GGUF files itself."""

    install: str
    reads_gguf: bool
    variables: tuple[str, ...] = ()


PACKAGES = {
    "openvino": Package("openvino-genai", True),
    "vllm": Package(
        "vllm",
        False,
        ("OMP_NUM_THREADS={threads}", "VLLM_CPU_OMP_THREADS_BIND=0-{last}", "VLLM_LOGGING_LEVEL=ERROR"),
    ),
    "transformers": Package("transformers", False),
}
"""By the name that users give; each has an engine of that name in `scripts`."""


class InterpreterPeer:
    """A package in another interpreter, with one model loaded."""

    settings = ("",)

    def __init__(self, name: str, python: Path, subject: Subject, sizes: Sequence[Work]) -> None:
        self.name = name
        self.version = ""
        self._python = python
        self._vocabulary = subject.vocabulary
        self._words = LastWords()
        options = {
            "model": str(subject.model),
            "threads": subject.threads,
            "requests": max(work.requests for work in sizes),
            "entries": max(work.entries for work in sizes) + 1,
        }
        variables = [
            text.format(threads=subject.threads, last=subject.threads - 1)
            for text in PACKAGES[name].variables
        ]
        command = [str(python), str(SCRIPT), name, json.dumps(options)]
        try:
            self._process = subprocess.Popen(
                ["env", *variables, *command] if variables else command,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words.file, text=True,
            )  # fmt: skip
        except OSError as error:
            self._words.close()
            raise InputError(
                f"cannot be run ({error.strerror})", where=str(python), remedy="name a Python interpreter"
            ) from None

    @property
    def process(self) -> int:
        """The number of its process."""
        return self._process.pid

    def load(self) -> None:
        """Wait until the model is loaded. InputError with the reason if it cannot be."""
        answer = self._answer()
        if "error" in answer:
            package = PACKAGES[self.name].install
            raise InputError(
                f"{self.name} could not load the model: {answer['error']}", where=str(self._python),
                remedy=f"check that {package} is installed there and reads this model (--peer-model)",
            )  # fmt: skip
        self.version = str(answer.get("version", ""))

    def measure(self, work: Work, setting: str, turn: int) -> Reading:
        """One round, with the prompts of that turn."""
        more = 1 if work.kind == "depth" else 0  # the first token belongs to the reading of the prompt
        asked = {"prompts": work.prompts(self._vocabulary, turn), "tokens": work.tokens + more}
        answer = self._ask(asked)
        try:
            return Timeline(answer["seconds"], answer["written"]).reading(work)
        except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
            raise FivefoldError(
                f"{self.name} gave no figures ({error!r})",
                where=str(self._python),
                remedy="check its version",
            ) from None

    def close(self) -> None:
        """End the process: it ends with its input, or is ended."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._words.close()

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None
        answer = self._answer()
        if "error" in answer:
            raise FivefoldError(
                f"{self.name} failed: {answer['error']}", where=str(self._python), remedy="try smaller sizes"
            )
        return answer

    def _answer(self) -> dict[str, Any]:
        """The next line of the process, which must be a JSON object."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise FivefoldError(
                f"{self.name} gave no figures ({line[:80]!r})", where=str(self._python),
                remedy="name the Python interpreter that it is installed in",
            )  # fmt: skip
        return answer

    def _died(self) -> FivefoldError:
        """The error of a process that is no more, with the last line it wrote."""
        ending = self._process.wait()
        return FivefoldError(
            f"{self.name} ended with status {ending}: {self._words.last()}", where=str(self._python),
            remedy="try smaller sizes, or check that it runs there",
        )  # fmt: skip
