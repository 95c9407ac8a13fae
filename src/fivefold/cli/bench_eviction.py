"""`bench eviction`: what every eviction policy keeps at every budget, and what it costs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fivefold.backends import NativeRunner
from fivefold.bench.eviction import (
    Cost,
    Quality,
    Selected,
    check_measured,
    chosen_sets,
    cost_lines,
    draw_eviction,
    eviction_lines,
    measure_cost,
    measure_quality,
)
from fivefold.bench.eviction.measuring import LAST
from fivefold.bench.eviction.prompts import AskedDocument
from fivefold.core.errors import InputError
from fivefold.engine import LoadedModel, load
from fivefold.exercises import texts as held_texts
from fivefold.files import default_store, lookahead_module_for

from .bench_group import JsonFile, Model, Picture, Rounds, bench, check_outputs, deliver, rising
from .options import DEFAULT_MODEL, Activations, Isa, Kv, Threads, find_model, load_options

Texts = Annotated[
    Path | None,
    typer.Option("--texts", help="A folder for the packages that texts are of; missing ones are fetched."),
]


@bench.command("eviction")
def eviction(
    model: Model = DEFAULT_MODEL,
    module: Annotated[
        Path | None, typer.Option(help="A lookahead module's file, in place of the model's own.")
    ] = None,
    budgets: Annotated[
        str, typer.Option(help="Entries kept by each layer and KV head, rising.")
    ] = "64,128,256,512",
    policies: Annotated[str, typer.Option(help="Names, separated by commas; all that can be measured.")] = "",
    kinds: Annotated[str, typer.Option(help="Kinds of exercises, separated by commas; all.")] = "",
    lengths: Annotated[str, typer.Option(help="Lengths of the sets: 1k, 2k, 4k, 8k; all.")] = "",
    count: Annotated[int, typer.Option(min=1, help="Documents of each kind and length.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="What documents are drawn with.")] = 0,
    texts: Texts = None,
    state: Annotated[
        Path | None, typer.Option(help="A file of records; with it a stopped measurement goes on.")
    ] = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Measure time and throughput in place of quality.")
    ] = False,
    rounds: Rounds = 3,
    isa: Isa = "auto",
    threads: Threads = 0,
    activations: Activations = "int8",
    kv: Kv = "f16",
    as_json: JsonFile = "",
    picture: Picture = "",
) -> None:
    """KL, recall and retrieval of every policy at every budget against the full cache, on held-out texts.

    With --cost, time to first token, decoding and many conversations instead.
    """
    check_outputs(as_json, picture)
    for name in _names(policies):
        check_measured(name)
    options = replace(load_options(isa, threads, 0, activations, kv), drafter=False)
    if cost:
        wanted = Cost(rounds=rounds)
        loaded = with_module(load(find_model(model), replace(options, entries=wanted.entries)), module)
        found = measure_cost(loaded, wanted, state)
        deliver(found, cost_lines(found), as_json, picture)
        return
    selected = Selected(chosen_sets(_names(kinds), _names(lengths)), count, seed)
    asked = Quality(_names(policies), tuple(rising(budgets, "--budgets", 2 * LAST)), selected, state)
    loaded = with_module(load(find_model(model), replace(options, entries=1)), module)
    folder = texts or default_store() / "texts"
    answer = measure_quality(loaded, held_texts(folder, "held_out"), asked, _Progress())
    deliver(answer, eviction_lines(answer), as_json, "")
    if picture:
        draw_eviction(answer, Path(picture))


def with_module(loaded: LoadedModel, path: Path | None) -> LoadedModel:
    """The model with another lookahead module, if one is named."""
    if path is None:
        return loaded
    found = lookahead_module_for(path, loaded.model, loaded.checkpoint)
    if isinstance(loaded.runner, NativeRunner):
        loaded.runner.lookahead = found
    return loaded.with_lookahead(found)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",")) if text else ()
    if "" in names or len(set(names)) < len(names):
        raise InputError(f"{text!r} are no names", remedy="give different ones, separated by commas")
    return names


class _Progress:
    """A line on stderr for each document: which one, and how long the rest may take."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, document: AskedDocument, number: int, of: int) -> None:
        done = number - 1
        took = time.monotonic() - self._began
        left = f", about {took / done * (of - done) / 60:.0f} minutes left" if done else ""
        typer.echo(f"{document.name}: {len(document.prompts)} prompts; {number} of {of}{left}", err=True)
