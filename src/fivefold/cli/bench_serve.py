"""`bench serve`: servers under the load of many clients, ours and its peers' in alternating rounds."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fivefold.bench import (
    LONG_ANSWER,
    OURS,
    SERVER,
    LongPrompt,
    Plan,
    Process,
    Server,
    check_base,
    ended_with_us,
    find_tool,
    free_base,
    measure_servers,
    model_figures,
    parse_pairs,
    serve_lines,
    serve_report,
)
from fivefold.core.errors import InputError
from fivefold.executor import allowed_threads, choose_isa, read_bandwidth
from fivefold.formats import entry_format

from .bench_group import JsonFile, Model, PeerModel, Picture, Rounds, bench, check_outputs, deliver
from .options import DEFAULT_MODEL, Isa, Kv, Threads, find_model

CONTEXT_ROUNDING = 256
ROOM_FOR_TEMPLATE = 128
"""Tokens that a chat template may put around a prompt."""
BANDWIDTH_SECONDS = 0.2
TOKENS_OF_A_WORD = 1.1
"""At most, on average, for the short words of the prompts."""


class Scenario(StrEnum):
    """What arrives."""

    steady = "steady"
    long_prefill = "long-prefill"


class Endpoint(StrEnum):
    """How it is asked for."""

    chat = "chat"
    completions = "completions"


@dataclass(frozen=True, slots=True)
class Setup:
    """How servers are started: on which model, with which threads and instruction set, for how much."""

    model: Path | None
    threads: int
    isa: str
    kv: str
    slots: int
    context: int


@bench.command("serve")
def serve(
    model: Model = "",
    url: Annotated[str, typer.Option(help="A server of ours that runs already; else one is started.")] = "",
    clients: Annotated[int, typer.Option(min=1, help="Closed loop: clients that ask without pause.")] = 16,
    requests: Annotated[int, typer.Option(min=1, help="Requests of a round.")] = 64,
    seconds: Annotated[float, typer.Option(min=0, help="Seconds of a round, in place of --requests.")] = 0,
    rate: Annotated[float, typer.Option(min=0, help="Open loop: requests a second, at random times.")] = 0,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Words of a prompt, a token each.")] = 128,
    shared_tokens: Annotated[int, typer.Option(min=0, help="Of these, how many all prompts share.")] = 0,
    tokens: Annotated[
        int, typer.Option(min=0, help="Tokens of an answer; 0: 128, or 1024 with long-prefill.")
    ] = 0,
    scenario: Annotated[Scenario, typer.Option(help="long-prefill: a long prompt arrives meanwhile.")] = (
        Scenario.steady
    ),
    long_tokens: Annotated[int, typer.Option(min=1, help="Words of the long prompt.")] = 6000,
    endpoint: Annotated[Endpoint, typer.Option(help="chat or completions.")] = Endpoint.chat,
    peers: Annotated[
        list[str] | None,
        typer.Option(help="llama.cpp=FOLDER of llama-server, or NAME=http://... of a server that runs."),
    ] = None,
    peer_model: PeerModel = None,
    api_key: Annotated[str, typer.Option(help="The key that the servers ask for.")] = "",
    seed: Annotated[int, typer.Option(help="Other prompts and arrivals for another number.")] = 0,
    rounds: Rounds = 3,
    isa: Isa = "auto",
    threads: Threads = 0,
    kv: Kv = "f16",
    as_json: JsonFile = "",
    picture: Picture = "",
) -> None:
    """Tokens and requests a second of a server, and what its clients wait for."""
    check_outputs(as_json, picture)
    long = LongPrompt(long_tokens, seconds or 5.0) if scenario is Scenario.long_prefill else None
    plan = Plan(
        base="", model="", endpoint=endpoint.value, clients=clients, requests=0 if seconds else requests,
        words=prompt_tokens, tokens=tokens or (1024 if long else 128), seconds=seconds, rate=rate,
        shared=shared_tokens, seed=seed, key=api_key, long=long,
    )  # fmt: skip
    _check_plan(plan)
    path = find_model(model or DEFAULT_MODEL) if model or not url else None
    setup = _setup(plan, path, threads or allowed_threads(), (choose_isa(isa), entry_format(kv, "--kv").name))
    named = parse_pairs(peers or [], "--peers"), parse_pairs(peer_model or [], "--peer-model")
    with ended_with_us(), _servers(url, *named, setup) as servers:
        size = path.stat().st_size if path is not None else 1 << 27
        serving = measure_servers(
            servers, plan, rounds, lambda: read_bandwidth(setup.threads, size, BANDWIDTH_SECONDS)
        )
        subject = _subject(setup, servers[0], plan.key)
    answer: dict[str, Any] = serve_report(plan, serving, subject)
    deliver(answer, serve_lines(answer), as_json, picture)


def _check_plan(plan: Plan) -> None:
    """Refuse what makes no sense together."""
    if plan.shared >= plan.words:
        raise InputError(
            "all prompts would be alike", where="--shared-tokens", remedy="give fewer than --prompt-tokens"
        )
    if plan.long is not None and plan.rate:
        raise InputError(
            "clients of long-prefill ask without pause", where="--rate", remedy="leave it out there"
        )


def _setup(plan: Plan, model: Path | None, threads: int, kinds: tuple[str, str]) -> Setup:
    """Slots for all clients at once, each with room for the longest prompt and its answer."""
    words, long = plan.words * TOKENS_OF_A_WORD, plan.long.words * TOKENS_OF_A_WORD if plan.long else 0
    context = int(max(words + plan.tokens, long + LONG_ANSWER)) + ROOM_FOR_TEMPLATE
    context = -(-context // CONTEXT_ROUNDING) * CONTEXT_ROUNDING
    return Setup(model, threads, *kinds, plan.clients + (plan.long is not None), context)


def _subject(setup: Setup, ours: Server, key: str) -> dict[str, Any]:
    """The model and how our side runs; of a server that ran already only the model's name is known."""
    figures = model_figures(setup.model) if setup.model else {"model": ours.model(key), "sha256": None}
    started = ours.process is not None
    return {
        **figures,
        "instruction_set": setup.isa if started else None,
        "cache_format": setup.kv if started else None,
        "threads": setup.threads,
    }


@contextmanager
def _servers(
    url: str, peers: Mapping[str, str], names: Mapping[str, str], setup: Setup
) -> Iterator[list[Server]]:
    """All servers, loaded and idle, ours first; those that were started are ended when the block is left."""
    for name in names:
        if name not in peers and not (name == OURS and url):
            raise InputError(
                f"{name} is not among the peers", where="--peer-model", remedy="name it in --peers"
            )
    commands: dict[str, list[str]] = {}
    known: dict[str, str] = {OURS: check_base(url, "--url")} if url else {}
    for name, path in peers.items():
        if path.startswith(("http:", "https:")):
            known[name] = check_base(path, "--peers")
        else:
            commands[name] = _llama_server(name, path, names.get(name), setup)
    with ExitStack() as stack:
        servers = []
        for name in (OURS, *peers):
            if name in known:
                servers.append(Server(name, known[name], names.get(name, "")))
                continue
            base, port = free_base()
            command = [*(_own_server(setup) if name == OURS else commands[name]), "--port", str(port)]
            process = Process(command, base)
            stack.callback(process.close)
            process.wait_until_healthy()
            servers.append(Server(name, base, process=process))
        yield servers


def _own_server(setup: Setup) -> list[str]:
    assert setup.model is not None
    return [
        sys.executable, "-m", "fivefold", "serve", str(setup.model), "--host", "127.0.0.1",
        "--threads", str(setup.threads), "--isa", setup.isa, "--kv", setup.kv,
        "--context", str(setup.context),
    ]  # fmt: skip


def _llama_server(name: str, path: str, model: str | None, setup: Setup) -> list[str]:
    if name != "llama.cpp":
        raise InputError(
            f"{name!r} cannot be started",
            where="--peers",
            remedy=f"start it and give {name}=http://HOST:PORT",
        )
    chosen = model or setup.model
    if chosen is None:
        raise InputError("llama-server needs a model", where="--peers", remedy="name the model's file too")
    return [
        str(find_tool(Path(path), SERVER)), "-m", str(chosen), "--host", "127.0.0.1", "-np", str(setup.slots),
        "-c", str(setup.slots * setup.context), "-t", str(setup.threads), "-tb", str(setup.threads),
        "--offline",
    ]  # fmt: skip
