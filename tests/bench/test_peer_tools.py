"""llama.cpp's tools: what they are asked, and what is made of what they print, recorded and spoiled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fivefold.bench import Subject, Work, open_peers, parse_pairs
from fivefold.bench.peers import LlamaCpp, find_tool
from fivefold.bench.peers.llama_cpp import batched_arguments, bench_arguments, read_batched, read_bench
from fivefold.core.errors import FivefoldError, InputError

DATA = Path(__file__).parent / "data"
BENCH = (DATA / "llama_bench.json").read_text()
BATCHED = (DATA / "llama_batched_bench.jsonl").read_text()
Make = Callable[[str, str], Path]


def subject(tmp_path: Path) -> Subject:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    return Subject(model, 2, 1000)


def test_a_recorded_llama_bench_is_read() -> None:
    reading, version = read_bench(BENCH)
    recorded = json.loads(BENCH)[0]
    assert (reading.rate, version) == (recorded["avg_ts"], recorded["build_commit"])
    # Tokens over nanoseconds give the same rate, so the key means what we take it for.
    assert reading.rate == pytest.approx(recorded["n_gen"] / recorded["avg_ns"] * 1e9, rel=1e-4)


def test_a_recorded_llama_batched_bench_is_read() -> None:
    reading = read_batched(BATCHED)
    recorded = json.loads(BATCHED)
    written = recorded["pl"] * recorded["tg"]
    assert reading.rate == pytest.approx(written / recorded["t_tg"], rel=1e-4)
    assert reading.whole == pytest.approx(written / recorded["t"], rel=1e-4)
    assert read_batched("a line of the log\n" + BATCHED + "\n\n") == reading


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (Work("decode", 1, 1, 64), "-p 0 -n 64"),
        (Work("prefill", 1, 512, 1), "-p 512 -n 0"),
        (Work("depth", 1, 4000, 32), "-p 0 -n 32 -d 4000"),
    ],
)
def test_llama_bench_is_asked_for_the_same_work(work: Work, words: str) -> None:
    asked = " ".join(bench_arguments(work, "on"))
    assert asked == f"-r 1 -o json -fa on {words}"


def test_llama_batched_bench_has_room_for_whole_multiples() -> None:
    asked = batched_arguments(Work("batch", 32, 32, 128), "off")
    assert asked[asked.index("-c") + 1] == str(32 * 256)
    assert asked[asked.index("-npl") + 1] == "32"
    roomy = batched_arguments(Work("batch", 4, 300, 300), "off")
    assert roomy[roomy.index("-c") + 1] == str(4 * 768)


@pytest.mark.parametrize("kind", ["decode", "batch"])
def test_a_round_runs_the_tool_in_each_setting(kind: str, tmp_path: Path, program: Make) -> None:
    log = tmp_path / "log"
    for name, printed in (("llama-bench", BENCH), ("llama-batched-bench", BATCHED)):
        tool = program(name, f"echo \"{name} $*\" >> '{log}'\ncat <<'END'\n{printed}\nEND")
    peer = LlamaCpp(tool.parent, subject(tmp_path))
    work = Work("batch", 4, 16, 8) if kind == "batch" else Work("decode", 1, 1, 8)
    peer.require(work)
    rates = {peer.measure(work, setting, 1).rate for setting in peer.settings}
    assert rates == {json.loads(BATCHED)["speed_tg"] if kind == "batch" else json.loads(BENCH)[0]["avg_ts"]}
    calls = log.read_text().splitlines()
    assert [("-fa on" in call, "-fa off" in call) for call in calls] == [(True, False), (False, True)]
    assert all("-t 2" in call and "model.gguf" in call for call in calls)


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "hello",
        "[]",
        "{}",
        '[{"avg_ts": "fast"}]',
        '[{"avg_ts": 0}]',
        '[{"avg_ts": -1}]',
        '[{"avg_ts": null}]',
    ],
)
def test_what_is_no_figure_is_an_error(printed: str, tmp_path: Path, program: Make) -> None:
    program("llama-batched-bench", f"echo '{printed}'")
    tool = program("llama-bench", f"echo '{printed}'")
    peer = LlamaCpp(tool.parent, subject(tmp_path))
    for work in (Work("decode", 1, 1, 8), Work("batch", 2, 8, 8)):
        with pytest.raises(FivefoldError, match="gave no figures") as raised:
            peer.measure(work, "flash attention on", 1)
        assert str(tool.parent) in raised.value.line()


def test_a_tool_that_fails_is_told_with_its_last_words(tmp_path: Path, program: Make) -> None:
    tool = program("llama-bench", "echo 'unknown model architecture' >&2; exit 3")
    peer = LlamaCpp(tool, subject(tmp_path))
    with pytest.raises(FivefoldError, match=r"status 3: unknown model architecture"):
        peer.measure(Work("decode", 1, 1, 8), "flash attention on", 1)


def test_a_tool_that_is_no_program_is_told(tmp_path: Path, program: Make) -> None:
    tool = program("llama-bench", "exit 0")
    tool.chmod(0o644)
    peer = LlamaCpp(tool, subject(tmp_path))
    with pytest.raises(FivefoldError, match="cannot be run"):
        peer.measure(Work("decode", 1, 1, 8), "flash attention on", 1)


def test_tools_are_found_in_a_folder_and_beside_each_other(program: Make) -> None:
    bench = program("llama-bench", "")
    server = program("llama-server", "")
    assert find_tool(bench.parent, "llama-server") == server
    assert find_tool(bench, "llama-server") == server
    assert find_tool(bench, "llama-bench") == bench
    with pytest.raises(InputError, match="llama-batched-bench"):
        find_tool(bench.parent, "llama-batched-bench")


def test_a_tool_here_is_not_taken_from_the_search_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`.` and a bare name mean what lies here: a name without a folder would be looked up in PATH."""
    (tmp_path / "llama-bench").touch()
    monkeypatch.chdir(tmp_path)
    for tool in (Path(), Path("llama-bench")):
        assert find_tool(tool, "llama-bench") == tmp_path / "llama-bench"


def test_names_and_paths_are_parsed() -> None:
    given = ["a=1,b=/x/y", " c=z "]
    assert parse_pairs(given, "--peers") == {"a": "1", "b": "/x/y", "c": "z"}
    assert parse_pairs([""], "--peers") == {}
    for bad in (["a"], ["=x"], ["a="], ["a=1", "a=2"]):
        with pytest.raises(InputError, match="--peers"):
            parse_pairs(bad, "--peers")


@pytest.mark.parametrize(
    ("named", "models", "said"),
    [
        ({"ollama": "/bin/sh"}, {}, "'ollama' is not known"),
        ({"llama.cpp": "/no/such"}, {}, "/no/such"),
        ({"llama.cpp": "/"}, {}, "llama-bench"),
        ({"vllm": "/bin/sh"}, {}, "--peer-model vllm=FOLDER"),
        ({"transformers": "/bin/sh"}, {}, "--peer-model transformers=FOLDER"),
        ({"openvino": "/bin/sh"}, {"openvino": "/no/such"}, "/no/such"),
        ({}, {"vllm": "/"}, "not among the peers"),
    ],
)
def test_peers_that_cannot_be_are_refused_before_anything_is_loaded(
    named: dict[str, str], models: dict[str, str], said: str, tmp_path: Path
) -> None:
    works = [Work("decode", 1, 1, 4)]
    with pytest.raises(InputError, match=said), open_peers(named, models, subject(tmp_path), works):
        pass
