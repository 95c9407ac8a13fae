"""`bench parallel`: what checked guesses bring over plain decoding, and that no token changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from fivefold.bench import Subject, Work, ended_with_us, open_peers, parse_pairs
from fivefold.bench.parallel import Parallel, domain_prompts, measure_parallel, parallel_lines
from fivefold.chat import ChatTemplate
from fivefold.engine import load
from fivefold.exercises import texts as held_texts
from fivefold.files import default_store

from .bench_eviction import Texts
from .bench_group import JsonFile, Model, PeerModel, Peers, Picture, Rounds, bench, check_outputs, deliver
from .options import DEFAULT_MODEL, Activations, Isa, Kv, Threads, find_model, load_options


@bench.command("parallel")
def parallel(
    model: Model = DEFAULT_MODEL,
    count: Annotated[int, typer.Option(min=2, help="Prompts of each domain.")] = 60,
    tokens: Annotated[int, typer.Option(min=8, help="Tokens of an answer at most.")] = 128,
    requests: Annotated[int, typer.Option("--batch", min=1, help="Requests at once.")] = 32,
    draws: Annotated[
        int, typer.Option("--chi-square", min=0, help="Draws each way by other seeds for the test; 0: none.")
    ] = 400,
    seed: Annotated[int, typer.Option(min=0, help="What passages are drawn with.")] = 0,
    texts: Texts = None,
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
    """Plain decoding and checked guesses on chat, quoting and editing; many at once; steps by rows."""
    check_outputs(as_json, picture)
    asked = Parallel(tokens, requests, rounds, draws=draws)
    options = load_options(isa, threads, 0, activations, kv)
    loaded = load(find_model(model), replace(options, entries=requests * 1024))
    folder = texts or default_store() / "texts"
    template = ChatTemplate.of(loaded.checkpoint, loaded.vocabulary)
    prompts = domain_prompts(held_texts(folder, "held_out"), template, loaded.vocabulary, count, seed)
    subject = Subject(loaded.checkpoint.path, loaded.settings.threads, loaded.model.shape.vocabulary)
    chosen, models = parse_pairs(peers or [], "--peers"), parse_pairs(peer_model or [], "--peer-model")
    with ended_with_us(), open_peers(chosen, models, subject, [Work("decode", 1, 1, tokens)]) as opened:
        answer = measure_parallel(loaded, prompts, asked, opened)
    deliver(answer, parallel_lines(answer), as_json, picture)
