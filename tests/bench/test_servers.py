"""Servers that are started, awaited, watched and ended; and rounds over several of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fivefold.bench import LongPrompt, Plan, Process, Server, check_base, free_base, measure_servers
from fivefold.bench.processor_time import IdleShares, processor_seconds
from fivefold.bench.servers import get
from fivefold.bench.serving import plan_of_turn
from fivefold.core.errors import FivefoldError, InputError

FAKE = Path(__file__).parent / "fake_server.py"


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fivefold.bench.serving.IDLE_PAUSE", 0.0)


PLAN = Plan("", "", "chat", clients=2, requests=4, words=6, tokens=3, timeout=20, seed=2)


def started(name: str) -> Server:
    base, port = free_base()
    process = Process([sys.executable, str(FAKE), "--port", str(port)], base)
    process.wait_until_healthy(30)
    return Server(name, base, process=process)


def test_a_server_is_awaited_asked_for_its_model_and_ended() -> None:
    server = started("fake")
    assert server.process is not None
    assert check_base(server.base + "/v1/", "--url") == server.base
    assert server.model() == "fake-model"
    assert Server("fake", server.base, "other").model() == "other"
    server.process.check()
    server.process.close()
    with pytest.raises(FivefoldError, match="no answer"):
        get(server.base, "/health")


def test_a_server_that_ends_is_told_with_its_last_words(program: Callable[[str, str], Path]) -> None:
    process = Process([str(program("llama-server", "echo 'no such model' >&2; exit 5"))], free_base()[0])
    with pytest.raises(FivefoldError, match="llama-server ended with status 5: no such model"):
        process.wait_until_healthy(30)
    with pytest.raises(FivefoldError, match="status 5"):
        process.check()
    process.close()


def test_a_server_that_is_never_ready_is_told(program: Callable[[str, str], Path]) -> None:
    process = Process([str(program("llama-server", "echo loading; exec sleep 60"))], free_base()[0])
    with pytest.raises(FivefoldError, match=r"was not ready after 0.3 s: loading"):
        process.wait_until_healthy(0.3)
    process.close()


def test_a_server_that_is_no_program_is_told(tmp_path: Path) -> None:
    with pytest.raises(FivefoldError, match="cannot be run"):
        Process([str(tmp_path / "nothing")], "http://127.0.0.1:1")


@pytest.mark.parametrize("text", ["", "localhost", "https://x", "http://", "http://x:port", "ftp://x:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no address"):
        check_base(text, "--url")


def test_an_address_where_nobody_answers_is_refused() -> None:
    with pytest.raises(InputError, match="nobody answers"):
        check_base(free_base()[0], "--url")


def test_a_server_that_lists_no_model_is_told() -> None:
    server = started("fake")
    assert server.process is not None
    try:
        with pytest.raises(FivefoldError, match=r"lists no model \(HTTP status 404\).*--peer-model odd=NAME"):
            Server("odd", server.base + "/nowhere").model()
    finally:
        server.process.close()


def test_rounds_alternate_over_servers_that_stay_loaded() -> None:
    servers = [started("ours"), started("theirs")]
    try:
        serving = measure_servers(servers, PLAN, 2, lambda: 5.0)
    finally:
        for server in servers:
            assert server.process is not None
            server.process.close()
    assert list(serving.rounds) == ["ours", "theirs"]
    assert serving.bandwidths == [5.0, 5.0]
    for rounds in serving.rounds.values():
        assert [(figures["requests"], figures["errors"], figures["output_tokens"]) for figures in rounds] == [
            (4, 0, 12)
        ] * 2
    assert serving.idle_shares.keys() == {"ours", "theirs"}


def test_a_server_that_dies_under_load_is_told_by_its_last_words() -> None:
    server = started("ours")
    assert server.process is not None
    subprocess.run(["kill", "-9", str(server.process.number)], check=True)
    with pytest.raises(FivefoldError, match="ended with status -9"):
        measure_servers([Server("ours", server.base, "m", server.process)], PLAN, 1, lambda: 1.0)
    server.process.close()


def test_each_turn_has_prompts_of_its_own_and_the_warm_up_is_short() -> None:
    warm, first, second = (plan_of_turn(PLAN, turn) for turn in range(3))
    assert len({plan.prompt(0) for plan in (warm, first, second)}) == 3
    assert (first.requests, warm.requests) == (4, 4)
    timed = plan_of_turn(Plan("", "", "chat", 3, 0, 6, 3, seconds=60.0, rate=5.0), 0)
    assert (timed.requests, timed.seconds, timed.rate) == (6, 0.0, 0.0)
    long = plan_of_turn(Plan("", "", "chat", 3, 9, 6, 3, long=LongPrompt(6000, 5.0)), 0)
    assert long.long == LongPrompt(6, 1.0)


def test_processor_time_counts_a_process_and_what_it_started() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    shell = ["sh", "-c", f"'{sys.executable}' -c '{busy}'; true"]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert processor_seconds(process.pid) >= 0.25
        idle = IdleShares()
        with idle.watching({"shell": process.pid}):
            pass
        assert idle.shares["shell"] == 0.0
        process.communicate(b"\n")
    assert processor_seconds(process.pid) == 0.0
