"""Sixty-four clients for five minutes over real connections; what they ask, and when they leave, is random.

Every stream that is read to its end ends as it should; the engine's books balance after every step; and when
all are gone, so are their pages.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from fivefold.core.request import TokenEvent
from fivefold.engine import AsyncEngine, Engine, EngineOptions, LoadOptions, load
from fivefold.server import ModelConfig, make_app, serve

CLIENT = Path(__file__).parent / "client.py"
SECONDS = 300


class CheckedEngine(Engine):
    """Looks at its own books after every step."""

    steps_checked = 0

    def step(self) -> list[TokenEvent]:
        events = super().step()
        self.check_integrity()
        self.steps_checked += 1
        return events


def soak(model: Path, clients: int, seconds: float, prefix_cache: bool) -> dict[str, Any]:
    """Serve the model to the clients; what happened."""
    loaded = load(model, LoadOptions(entries=40_000))
    engine = CheckedEngine(loaded, EngineOptions(prefix_cache=prefix_cache))
    before = engine.figures().cache
    app = make_app([serve(ModelConfig("soak"), loaded, AsyncEngine(engine), 0)])
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    server = uvicorn.Server(uvicorn.Config(app, http="httptools", ws="none", log_level="error"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    command = [sys.executable, str(CLIENT), str(listener.getsockname()[1]), str(seconds), str(clients)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
        deadline = time.monotonic() + 30
        while engine.busy and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        server.should_exit = True
        thread.join(60)
    assert done.returncode == 0, done.stderr[-2000:]
    after = engine.figures()
    assert not engine.busy
    assert after.cache.free + after.cache.kept == before.free, "pages are lost"
    assert prefix_cache or after.cache.free == before.free
    return {
        "outcomes": json.loads(done.stdout), "steps_checked": engine.steps_checked,
        "preemptions": after.preemptions,
        "output_tokens": after.output_tokens, "prompt_tokens": after.prompt_tokens,
        "cached_tokens": after.cached_tokens,
    }  # fmt: skip


@pytest.mark.soak
@pytest.mark.parametrize("prefix_cache", [True, False], ids=["shared", "apart"])
def test_sixty_four_clients(default_model: Path, prefix_cache: bool) -> None:
    found = soak(default_model, 64, SECONDS if prefix_cache else 60, prefix_cache)
    print(json.dumps(found))
    assert found["outcomes"]["length"] > 0
    assert found["outcomes"]["left"] > 0  # how many, depends on the machine's speed


def test_some_clients_for_a_moment(default_model: Path) -> None:
    """The same in short, as part of the ordinary tests."""
    found = soak(default_model, 12, 2, prefix_cache=True)
    assert sum(found["outcomes"].values()) > 0
