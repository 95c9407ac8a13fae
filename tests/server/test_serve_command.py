"""`fivefold serve` as a process: its one line, its exit statuses, and an end in peace."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fivefold.cli.app import status

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"


class Process:
    """A server on a free port, from its first line on."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [
            sys.executable,
            "-m",
            "fivefold",
            "serve",
            *map(str, arguments),
            "--port",
            "0",
            "--threads",
            "1",
        ]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.child.stdout is not None
        self.line = self.child.stdout.readline()
        match = re.fullmatch(r"serving (.+) at http://127\.0\.0\.1:(\d+)/v1\n", self.line)
        assert match is not None, self.line + self.end(signal.SIGKILL)[1]
        self.names, self.port = match[1], int(match[2])

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=30) as reply:
            return json.loads(reply.read())

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; the exit status and stderr."""
        if self.child.poll() is None:
            self.child.send_signal(number)
        _, errors = self.child.communicate(timeout=60)
        return self.child.returncode, errors


@contextlib.contextmanager
def process(*arguments: str | Path) -> Iterator[Process]:
    made = Process(*arguments)
    try:
        yield made
    finally:
        made.end(signal.SIGKILL)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path, ending: int = 2) -> str:
    """The one line of a command that fails. Its port is taken, so that it fails in any case."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = [] if "--port" in arguments else ["--port", str(taken.getsockname()[1])]
        assert status(["serve", *map(str, arguments), *port]) == ending
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("\n") == 1
    assert errors.startswith("fivefold: ")
    assert "; " in errors
    return errors


def test_serving_a_file_with_settings() -> None:
    with process(TINY, "--set", "name=tiny", "--set", "context=40", "--memory", "64MB") as server:
        assert server.names == "tiny"
        (model,) = server.ask("/v1/models")["data"]
        assert (model["id"], model["max_model_len"], model["root"]) == ("tiny", 40, str(TINY))
        assert abs(model["created"] - time.time()) < 600
        assert server.ask("/v1/completions", {"prompt": "a", "max_tokens": 2, "model": "default"})["choices"]
        assert server.end() == (0, "")


def test_serving_a_configuration_of_two_models(tmp_path: Path) -> None:
    path = tmp_path / "fivefold.toml"
    path.write_text(
        f'[server]\nport = 1\nmemory = "64MB"\n[[model]]\nsource = "{TINY}"\nname = "one"\n'
        f'[[model]]\nsource = "{TINY}"\nname = "two"\naliases = ["zwei"]\ncontext = 50\n'
    )
    with process("--config", path, "--set", "context=60") as server:
        assert server.names == "one, two"
        told = {model["id"]: model["max_model_len"] for model in server.ask("/v1/models")["data"]}
        assert told == {"one": 60, "two": 50}
        for name, answering in (("one", "one"), ("zwei", "two")):
            body = {"prompt": "a", "max_tokens": 1, "model": name}
            assert server.ask("/v1/completions", body)["model"] == answering
        assert server.end(signal.SIGINT) == (0, "")


def test_a_running_stream_may_finish_after_the_signal(default_model: Path) -> None:
    """No new request is taken meanwhile, and the exit status is 0.

    The answer is as long as this machine writes in a second or so, to be neither over before the signal
    nor cut off when the server's patience ends.
    """
    with process(default_model, "--context", "512") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        body = {"prompt": "Once", "max_tokens": 8, "ignore_eos": True, "return_token_ids": True}
        began = time.monotonic()
        connection.request("POST", "/v1/completions", json.dumps(body))
        connection.getresponse().read()
        count = min(max(int(8 / (time.monotonic() - began)), 8), 100)
        body |= {"max_tokens": count, "stream": True}
        connection.request("POST", "/v1/completions", json.dumps(body))
        reply = connection.getresponse()
        first = reply.readline()
        server.child.send_signal(signal.SIGTERM)
        data = first + reply.read()
        connection.close()
        code, errors = server.end()
        assert (code, errors) == (0, "")
    chunks = [json.loads(event[6:]) for event in data.decode().strip().split("\n\n")[:-1]]
    assert sum(len(chunk["choices"][0]["token_ids"]) for chunk in chunks) == count
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert data.endswith(b"data: [DONE]\n\n")
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", server.port), 5)


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(capsys, TINY, "--port", str(port), ending=1)
        assert f"127.0.0.1:{port}" in line


def test_a_host_that_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, TINY, "--host", "203.0.113.7", "--api-key", "k", "--port", "0", ending=1)
    assert "203.0.113.7" in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_beyond_this_machine_only_with_a_key(capsys: pytest.CaptureFixture[str], host: str) -> None:
    line = refused(capsys, TINY, "--host", host)
    assert "--api-key" in line
    assert "--no-auth" in line


def test_the_rule_holds_for_a_file_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "fivefold.toml"
    for host in ("0.0.0.0", ""):
        path.write_text(f'[server]\nhost = "{host}"\n[[model]]\nsource = "{TINY}"\n')
        assert "--no-auth" in refused(capsys, "--config", path)


def test_an_empty_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "empty" in refused(capsys, TINY, "--api-key", " ")
    path = tmp_path / "fivefold.toml"
    path.write_text(f'[server]\napi_keys = ["good", ""]\n[[model]]\nsource = "{TINY}"\n')
    assert "empty" in refused(capsys, "--config", path)


def test_keys_are_asked_for() -> None:
    with process(TINY, "--api-key", "one", "--api-key", "two") as server:
        assert server.ask("/health") == {"status": "ok"}
        for key, expected in (("one", 200), ("two", 200), ("three", 401), ("", 401)):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {key}"})
            assert connection.getresponse().status == expected
            connection.close()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--memory", "lots"], "--memory"),
        (["--set", "colour=red"], "colour"),
        (["--set", "context"], "--set"),
        (["--set", "decoding=fast"], "--set: key decoding: there is no decoding 'fast'; choose of auto"),
        (["--set", "eviction=lookahead"], "--set: key budget: eviction 'lookahead' has no budget"),
        (["--set", "eviction=best", "--set", "budget=64"], "there is no eviction policy 'best'"),
        (["--config", "none.toml"], "none.toml"),
    ],
)
def test_bad_options(capsys: pytest.CaptureFixture[str], arguments: list[str], named: str) -> None:
    model = [] if "--config" in arguments else [str(TINY)]
    assert named in refused(capsys, *model, *arguments)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--memory", "1KB"], "1000 bytes of memory"),
        (["--context", "97"], "--context"),
        (["--set", "eviction=lookahead", "--set", "budget=64"], "train one: fivefold train lookahead"),
        (
            ["--set", "decoding=diffusion"],
            "decoding: tiny.gguf is not a diffusion model; choose auto",
        ),
    ],
)
def test_what_loading_refuses(arguments: list[str], named: str) -> None:
    """The address was taken already; the process ends with the one line all the same."""
    command = [sys.executable, "-m", "fivefold", "serve", str(TINY), *arguments, "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert named in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_settings_cannot_give_two_models_one_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "fivefold.toml"
    path.write_text(f'[[model]]\nsource = "{TINY}"\n[[model]]\nsource = "{TINY}"\nname = "two"\n')
    assert "two models are called 'two'" in refused(capsys, "--config", path, "--set", "name=two")


def test_an_engine_elsewhere_behind_a_name_though_it_is_down() -> None:
    """It is no reason not to start; asking for it says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    with process(
        "--set", f"upstream={address}", "--set", "name=far", "--set", "upstream_retries=0"
    ) as server:
        assert server.names == "far"
        assert server.ask("/v1/models")["data"][0]["state"] == "down"
        for path, body in (("/health", None), ("/v1/completions", {"prompt": "a", "model": "default"})):
            with pytest.raises(urllib.error.HTTPError) as caught:
                server.ask(path, body)
            assert caught.value.code == 503
            assert json.loads(caught.value.read())["error"]["message"]
        code, errors = server.end()
        assert code == 0
        assert "the engine behind 'far'" in errors
        assert errors.count("\n") == 1
