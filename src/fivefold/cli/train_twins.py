"""The commands `train records` and `train twin`: two small models of one text that write differently."""

from __future__ import annotations

import importlib
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fivefold.executor import allowed_threads

from .options import AsJson, Threads, print_json
from .train import group, run_through, teller, trainer_of


@group.command("records")
def records(
    source: Annotated[Path, typer.Option("--source", help="What `apt-cache dumpavail` printed.")],
    out: Annotated[Path, typer.Option("--out", help="The folder of the corpus, to be made.")],
    vocabulary: Annotated[int, typer.Option(min=300, max=65535, help="Tokens of the tokenizer.")] = 4096,
    longest: Annotated[
        int, typer.Option(min=16, help="Tokens of a record at most; longer ones are left out.")
    ] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of records.")] = 0,
) -> None:
    """Make the corpus that twins learn from: records of Debian's packages, and a tokenizer of them.

    Whole source packages are held out, for validation and for the test.
    """
    trainer_of("twins")
    corpus: Any = importlib.import_module("fivefold.train.twins.corpus")
    described = corpus.make_corpus(source, out, corpus.Making(seed, vocabulary, longest))
    for split, counts in described["splits"].items():
        typer.echo(f"{split}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))


@group.command("twin")
def twin(
    data: Annotated[Path, typer.Option("--data", help="The folder of a corpus: fivefold train records.")],
    out: Annotated[Path, typer.Option("--out", help="The folder of the model; it is made.")],
    form: Annotated[
        str, typer.Option(help="How it writes: autoregressive, or blocks that are filled in any order.")
    ] = "autoregressive",
    block: Annotated[int, typer.Option(min=2, max=32, help="Tokens of a block.")] = 4,
    rows: Annotated[int, typer.Option(min=1, help="Rows to run through the network.")] = 10_000_000,
    begin: Annotated[
        str, typer.Option("--from", help="The folder of a twin whose weights it begins with.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the beginning, the order and the masks.")] = 0,
    rate: Annotated[float, typer.Option(min=0.0, help="Learning rate at its height.")] = 2e-3,
    room: Annotated[int, typer.Option(min=256, help="Rows of a part of a step, with its filling.")] = 2048,
    parts: Annotated[int, typer.Option(min=1, help="Parts of a step, one a thread.")] = 2,
    every: Annotated[int, typer.Option(min=1, help="Look at what is held out after so many steps.")] = 100,
    held_out: Annotated[int, typer.Option(min=1, help="Records that are looked at.")] = 128,
    layers: Annotated[int, typer.Option(min=1, help="Layers.")] = 6,
    hidden: Annotated[int, typer.Option(min=8, help="Numbers of a row.")] = 256,
    heads: Annotated[int, typer.Option(min=1, help="Query heads of 64 numbers; half as many KV heads.")] = 4,
    ffn: Annotated[int, typer.Option(min=8, help="Inner width.")] = 640,
    resume: Annotated[bool, typer.Option("--resume", help="Continue what was stopped.")] = False,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Train a small model of one of two forms from a corpus of records.

    The folder is a model's: `fivefold run OUT` runs it. The state is saved every 5 minutes and when the
    command is interrupted; with --resume it goes on to the same numbers. State, curves (.jsonl) and their
    picture (.png) lie beside the weights.
    """
    trainer = trainer_of("twins")
    running: Any = importlib.import_module("fivefold.train.running")
    training = trainer.Training(
        form=form, block=block, rows=rows, begin=begin, seed=seed, rate=rate, room=room, parts=parts,
        every=every, held_out=held_out, layers=layers, hidden=hidden, heads=heads,
        kv_heads=max(heads // 2, 1), ffn=ffn,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    places = running.Places(data, out / "model.safetensors")
    run = trainer.Run(places, training, threads or allowed_threads(), resume)
    command = shlex.join(["fivefold", *sys.argv[1:]])
    held = run_through(run, teller(_figures), lambda: run.save(command))
    if as_json:
        figures = {"steps": run.done, "rows": run.rows, "parameters": run.shape.parameters}
        print_json({"twin": str(out), **figures, "held_out": held})
        return
    typer.echo(f"held out: {_figures(held)}")
    typer.echo(str(out))


def _figures(held: dict[str, float]) -> str:
    return (
        f"{held['bits']:.3f} bits a token, {held['right']:.1%} right, {held['sure']:.1%} sure, "
        f"{held['sure_right']:.1%} of these right"
    )
