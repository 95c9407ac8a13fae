"""The model behind a name is swapped while a client sends the same chat over and over: nothing fails."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from second_model import write_second_model

from fivefold.engine import AsyncEngine, Engine, EngineOptions, LoadOptions, load
from fivefold.server import ModelConfig, make_app, serve

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
CHAT: dict[str, Any] = {
    "model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 12, "temperature": 0,
    "ignore_eos": True,
}  # fmt: skip
SECONDS = 150


@dataclass(frozen=True)
class Answered:
    """One request of the loop: when it was sent, what came, and when."""

    sent: float
    text: str
    ended: float


class Client(threading.Thread):
    """Sends the same chat over and over, whole and streamed in turn, until it is told to stop."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.answers: list[Answered] = []
        self.failures: list[str] = []
        self.stop = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            sent = time.monotonic()
            try:
                text = ask(self.port, {**CHAT, "stream": number % 2 == 0})
                self.answers.append(Answered(sent, text, time.monotonic()))
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")

    def wait_for_more(self, count: int) -> None:
        before, deadline = len(self.answers), time.monotonic() + SECONDS
        while len(self.answers) < before + count:
            assert time.monotonic() < deadline, self.failures
            assert not self.failures
            time.sleep(0.01)


def ask(port: int, body: dict[str, Any]) -> str:
    """The text of an answer, which must be complete and under the name that was asked for."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        data = reply.read()
    if not body.get("stream"):
        told = json.loads(data)
        assert told["model"] == body["model"]
        assert told["choices"][0]["finish_reason"] == "length"
        return str(told["choices"][0]["message"]["content"])
    events = data.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert {chunk["model"] for chunk in chunks} == {body["model"]}
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def served(path: Path, name: str) -> Any:
    loaded = load(path, LoadOptions(entries=4000, threads=1))
    return serve(ModelConfig(str(path), name), loaded, AsyncEngine(Engine(loaded, EngineOptions())), 1)


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    """Three models of which no two answer alike; the third is for the engine elsewhere."""
    second, third = tmp_path / "second.gguf", tmp_path / "third.gguf"
    write_second_model(second)
    write_second_model(third, seed=9)
    return {"first": TINY, "second": second, "elsewhere": third}


@pytest.fixture
def expected(models: dict[str, Path], run_app: Callable[..., Any]) -> dict[str, str]:
    """What each model answers, alone."""
    found = {}
    for name, path in models.items():
        with run_app(make_app([served(path, "demo")])) as process:
            told = process.ask("/v1/chat/completions", CHAT).json
            found[name] = told["choices"][0]["message"]["content"]
    assert len(set(found.values())) == 3
    return found


@contextlib.contextmanager
def serving(config: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`fivefold serve` on a file, as a process."""
    command = [sys.executable, "-m", "fivefold", "serve", "--config", str(config), "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            match = re.fullmatch(r"serving demo at http://127\.0\.0\.1:(\d+)/v1\n", child.stdout.readline())
            assert match is not None, child.stderr and child.stderr.read()
            yield child, int(match[1])
        finally:
            child.kill()


def test_a_client_loop_goes_on_while_the_line_behind_the_name_changes(
    tmp_path: Path, models: dict[str, Path], expected: dict[str, str], run_server: Callable[..., Any]
) -> None:
    path = tmp_path / "fivefold.toml"
    with run_server(served(models["elsewhere"], "back")) as engine:
        lines = {
            "first": f'source = "{models["first"]}"',
            "second": f'source = "{models["second"]}"',
            "elsewhere": f'upstream = "{engine.url}"',
        }

        def write(which: str) -> None:
            path.write_text(
                f'[server]\nport = 0\nmemory = "64MB"\n[[model]]\nname = "demo"\n{lines[which]}\n'
                'memory = "4MB"\nupstream_model = "back"\n'
            )

        write("first")
        with serving(path) as (child, port):
            changes = [(0.0, 0.0, "first")]
            client = Client(port)
            client.start()
            try:
                for which in ("second", "elsewhere", "first", "elsewhere", "second"):
                    client.wait_for_more(4)
                    began = time.monotonic()
                    write(which)
                    by_signal = which == "first"
                    if by_signal:
                        child.send_signal(signal.SIGHUP)
                    else:
                        reload(port)
                    assert child.stdout is not None
                    assert "read again" in child.stdout.readline()
                    changes.append((began, time.monotonic(), which))
                client.wait_for_more(4)
            finally:
                client.stop.set()
                client.join(SECONDS)
            child.send_signal(signal.SIGTERM)
            assert child.stderr is not None
            assert child.stderr.read() == ""
            assert child.wait(SECONDS) == 0
    assert client.failures == []
    names = {text: name for name, text in expected.items()}
    assert {answer.text for answer in client.answers} <= set(names), "an answer is of no model, or of two"
    for answer in client.answers:
        allowed = configured(changes, answer)
        assert names[answer.text] in allowed, f"{allowed} was configured"
    assert {names[answer.text] for answer in client.answers} == {"first", "second", "elsewhere"}


def reload(port: int) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/admin/reload", method="POST")
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        assert json.load(reply)["models"] == {"demo": "changed"}


def configured(changes: list[tuple[float, float, str]], answer: Answered) -> set[str]:
    """The models that the name led to when a request was sent, or while it was on its way."""
    done = [which for _, ended, which in changes if ended <= answer.sent]
    meanwhile = [which for began, ended, which in changes if began <= answer.ended and answer.sent < ended]
    return {done[-1], *meanwhile}
