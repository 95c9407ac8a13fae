"""`bench decode`, `prefill`, `batch` and `depth`: tokens a second of one model in this process."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from fivefold.bench import (
    Comparison,
    GrowthSetup,
    Subject,
    Work,
    compare,
    depth_report,
    ended_with_us,
    growth_lines,
    measure_growth,
    open_peers,
    parse_pairs,
    speed_lines,
    speed_report,
)
from fivefold.core.errors import InputError
from fivefold.core.layout import PAGE_SIZE
from fivefold.engine import LoadedModel, LoadOptions, load

from .bench_group import (
    JsonFile,
    Model,
    PeerModel,
    Peers,
    Picture,
    Rounds,
    bench,
    check_outputs,
    deliver,
    rising,
)
from .options import DEFAULT_MODEL, Activations, Isa, Kv, Threads, find_model, load_options

Named = tuple[list[str] | None, list[str] | None]


@bench.command("decode")
def decode(
    model: Model = DEFAULT_MODEL,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens written in a round.")] = 128,
    peers: Peers = None,
    peer_model: PeerModel = None,
    rounds: Rounds = 5,
    isa: Isa = "auto",
    threads: Threads = 0,
    activations: Activations = "int8",
    kv: Kv = "f16",
    as_json: JsonFile = "",
    picture: Picture = "",
) -> None:
    """Tokens a second of one sequence from its beginning."""
    work = Work("decode", 1, 1, tokens)
    options = load_options(isa, threads, 0, activations, kv)
    _one(model, work, options, (peers, peer_model), rounds, (as_json, picture))


@bench.command("prefill")
def prefill(
    model: Model = DEFAULT_MODEL,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 512,
    peers: Peers = None,
    peer_model: PeerModel = None,
    rounds: Rounds = 5,
    isa: Isa = "auto",
    threads: Threads = 0,
    activations: Activations = "int8",
    kv: Kv = "f16",
    as_json: JsonFile = "",
    picture: Picture = "",
) -> None:
    """Tokens a second of reading one prompt."""
    work = Work("prefill", 1, tokens, 1)
    options = load_options(isa, threads, 0, activations, kv)
    _one(model, work, options, (peers, peer_model), rounds, (as_json, picture))


@bench.command("batch")
def batch(
    model: Model = DEFAULT_MODEL,
    requests: Annotated[int, typer.Option("--batch", min=1, help="Requests at once.")] = 32,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each prompt.")] = 32,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens written for each request.")] = 128,
    peers: Peers = None,
    peer_model: PeerModel = None,
    rounds: Rounds = 5,
    isa: Isa = "auto",
    threads: Threads = 0,
    activations: Activations = "int8",
    kv: Kv = "f16",
    as_json: JsonFile = "",
    picture: Picture = "",
) -> None:
    """Tokens a second of many short requests at once, through the engine."""
    work = Work("batch", requests, prompt_tokens, tokens)
    options = load_options(isa, threads, 0, activations, kv)
    # Whole pages for each, and one more that an engine keeps free for each that runs.
    pages = -(-work.entries // PAGE_SIZE) + 1
    options = replace(options, entries=requests * pages * PAGE_SIZE, max_rows=max(512, requests))
    _one(model, work, options, (peers, peer_model), rounds, (as_json, picture))


@bench.command("depth")
def depth(
    model: Model = DEFAULT_MODEL,
    depths: Annotated[str, typer.Option(help="Entries in the cache, rising.")] = "0,1000,2000,4000,6000",
    tokens: Annotated[int, typer.Option(min=1, help="Tokens written at each depth.")] = 32,
    peers: Peers = None,
    peer_model: PeerModel = None,
    rounds: Rounds = 3,
    isa: Isa = "auto",
    threads: Threads = 0,
    activations: Activations = "int8",
    kv: Kv = "f16",
    as_json: JsonFile = "",
    picture: Picture = "",
) -> None:
    """Tokens a second of one sequence far into a text, and the line of a step's time against depth."""
    works = [Work("depth", 1, each, tokens) for each in rising(depths, "--depths", 0)]
    options = load_options(isa, threads, 0, activations, kv)
    outputs = (as_json, picture)
    check_outputs(*outputs)
    loaded, comparison = _compared(model, works, options, (peers, peer_model), rounds)
    answer = depth_report(loaded, works, comparison)
    deliver(answer, speed_lines(answer), *outputs)


@bench.command("growth")
def growth(
    model: Model = DEFAULT_MODEL,
    depths: Annotated[str, typer.Option(help="Entries in the cache, rising.")] = "0,500,1000,2000,4000,6000",
    lengths: Annotated[
        str, typer.Option(help="Tokens of the prompt, rising.")
    ] = "64,128,256,512,1024,2048,4096",
    rows: Annotated[str, typer.Option(help="Sequences in a step, rising.")] = "1,2,3,4,6,8,12,16,24,32,48,64",
    rounds: Rounds = 3,
    isa: Isa = "auto",
    threads: Threads = 0,
    activations: Activations = "int8",
    kv: Kv = "f16",
    as_json: JsonFile = "",
    picture: Picture = "",
) -> None:
    """How a step's time grows with depth and with rows, and a prompt's with its length; a fit for each."""
    check_outputs(as_json, picture)
    setup = GrowthSetup(
        rising(depths, "--depths", 0), rising(lengths, "--lengths", 1), rising(rows, "--rows", 1)
    )
    loaded = load(find_model(model), load_options(isa, threads, 0, activations, kv))
    answer: dict[str, Any] = measure_growth(loaded, setup, rounds)
    deliver(answer, growth_lines(answer), as_json, picture)


def _one(
    model: str, work: Work, options: LoadOptions, named: Named, rounds: int, outputs: tuple[str, str]
) -> None:
    """A measurement of one work."""
    check_outputs(*outputs)
    loaded, comparison = _compared(model, [work], options, named, rounds)
    answer: dict[str, Any] = speed_report(loaded, work, comparison)
    deliver(answer, speed_lines(answer), *outputs)


def _compared(
    model: str, works: list[Work], options: LoadOptions, named: Named, rounds: int
) -> tuple[LoadedModel, Comparison]:
    """The model, and all works on it and on the peers."""
    peers, peer_models = named
    chosen = parse_pairs(peers or [], "--peers")
    models = parse_pairs(peer_models or [], "--peer-model")
    loaded = load(find_model(model), options)
    most = max(work.entries for work in works)
    if most > loaded.context:
        raise InputError(
            f"{most} tokens, with those that are written, are more than the context of {loaded.context}",
            where="--depths" if works[0].kind == "depth" else "--tokens", remedy="give fewer",
        )  # fmt: skip
    subject = Subject(loaded.checkpoint.path, loaded.settings.threads, loaded.model.shape.vocabulary)
    with ended_with_us(), open_peers(chosen, models, subject, works) as opened:
        return loaded, compare(loaded, works, opened, rounds)
