"""The command `train lookahead`: learned rows that tell which cache entries an answer will need."""

from __future__ import annotations

import importlib
import importlib.util
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from fivefold.core.errors import UnsupportedError
from fivefold.executor import allowed_threads
from fivefold.files import open_checkpoint
from fivefold.models import load_model

from .options import AsJson, ModelArgument, Threads, find_model, print_json
from .terminal import app

group = typer.Typer(help="Train learned parts that stand beside a frozen model.", rich_markup_mode=None)
app.add_typer(group, name="train")

INTERRUPTED = 130
TOLD_EVERY = 10

LOSSES = {"loss": "loss", "kl": "KL"}
"""What people call the loss of a run, by its key."""


@group.command("lookahead")
def lookahead(
    model: ModelArgument,
    data: Annotated[Path, typer.Option("--data", help="A folder of stored examples, outside of any source.")],
    out: Annotated[Path, typer.Option("--out", help="The module, a .safetensors file.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 1500,
    documents: Annotated[
        int, typer.Option(min=1, help="Documents of a step, with all of their questions; one a thread.")
    ] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of the beginning and of the documents' order.")] = 0,
    rows: Annotated[int, typer.Option(min=1, help="Lookahead rows.")] = 16,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the pairs on matrices.")] = 8,
    alpha: Annotated[
        float, typer.Option(min=0.01, help="What pairs add is multiplied by alpha / rank.")
    ] = 32,
    rate: Annotated[float, typer.Option(min=0.0, help="Learning rate at its height.")] = 2e-3,
    held_out: Annotated[
        int, typer.Option(min=1, help="Documents, the last by name, that are only looked at.")
    ] = 8,
    every: Annotated[int, typer.Option(min=1, help="Look at them after so many steps.")] = 100,
    each_query: Annotated[
        bool, typer.Option("--each-query", help="Compare query heads, and not their mean for a KV head.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue what was stopped.")] = False,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Train a lookahead module for a model from stored examples.

    The state is saved every 5 minutes and when the command is interrupted; with --resume it goes on to the
    same numbers. State, curves (.jsonl) and their picture (.png) lie beside the module.
    """
    trainer = trainer_of("lookahead")
    path = find_model(model)
    checkpoint = open_checkpoint(path)
    training = trainer.Training(
        steps=steps, seed=seed, rows=rows, rank=rank, alpha=alpha, documents=documents, rate=rate,
        held_out=held_out, every=every, each_query=each_query,
    )  # fmt: skip
    running: Any = importlib.import_module("fivefold.train.running")
    places, at_once = running.Places(data, out), threads or allowed_threads()
    run = trainer.Run(load_model(checkpoint), checkpoint, places, training, at_once, resume)
    name, command = path.name, shlex.join(["fivefold", *sys.argv[1:]])
    held = run_through(run, teller(_figures, "kl"), lambda: run.save(name, command))
    if as_json:
        print_json({"module": str(out), "steps": run.done, "parameters": run.plan.count, "held_out": held})
        return
    typer.echo(f"held out: {_figures(held)}")
    typer.echo(str(out))


@group.command("examples")
def make_examples(
    model: ModelArgument,
    texts: Annotated[
        Path, typer.Option("--texts", help="Where packages with texts are kept, or fetched to.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder of examples; what it has is kept.")],
    documents: Annotated[int, typer.Option(min=1, help="Documents; each has several questions.")] = 320,
    shortest: Annotated[int, typer.Option(min=64, help="Tokens of a document, at least.")] = 512,
    longest: Annotated[int, typer.Option(min=64, help="Tokens of a document, at most.")] = 4096,
    seed: Annotated[int, typer.Option(min=0, help="What is drawn.")] = 0,
    kinds: Annotated[str, typer.Option(help="Kinds of exercises, separated by commas; all.")] = "",
    right: Annotated[
        bool,
        typer.Option("--right", help="Only questions that the model answers rightly, where that is known."),
    ] = False,
    threads: Threads = 0,
) -> None:
    """Make examples to train a lookahead module with: the model reads texts and answers questions.

    A document of 2,000 tokens with its questions takes about 50 MB. A folder that is not complete is filled
    up.
    """
    collecting: Any = importlib.import_module("fivefold.train.lookahead.collecting")
    collection = collecting.Collection(documents, (shortest, longest), seed, right=right)
    if kinds:
        collection = replace(collection, kinds={name.strip(): 1.0 for name in kinds.split(",")})
    made = collecting.collect_examples(
        find_model(model), texts, out, collection, threads, lambda said: typer.echo(said.line(), err=True)
    )
    typer.echo(f"{made} documents made in {out}")


def trainer_of(kind: str) -> Any:
    """What trains learned parts of a kind; UnsupportedError says what to install."""
    if importlib.util.find_spec("torch") is None:
        raise UnsupportedError(
            "training needs torch, which is not installed", remedy="pip install 'fivefold[train]'"
        )
    return importlib.import_module(f"fivefold.train.{kind}.run")


def run_through(run: Any, told: Callable[[Any], None], save: Callable[[], object]) -> dict[str, Any]:
    """Train to the end, from where the run was stopped if it was; the figures of what is held out. Leaves the
    command with a word if it is stopped before."""
    running: Any = importlib.import_module("fivefold.train.running")
    if run.done:
        typer.echo(f"going on after step {run.done} of {run.count}", err=True)
    if not running.train(run, told, save):
        typer.echo(f"stopped after step {run.done} of {run.count}; --resume goes on from there", err=True)
        raise typer.Exit(INTERRUPTED)
    held: dict[str, Any] = run.looked_at()
    return held


def teller(figures: Callable[[Any], str], loss: str = "loss") -> Callable[[Any], None]:
    """What tells of a run's progress: a line on stderr every few steps, and wherever what is held out was
    looked at; `figures` says what was found there, `loss` is the key of the loss."""

    def tell(progress: Any) -> None:
        held = progress.line.get("held_out")
        if progress.step % TOLD_EVERY and held is None and progress.step > 1:
            return
        line = (
            f"step {progress.step} of {progress.steps}, {LOSSES[loss]} {progress.line[loss]:.4f}, "
            f"{progress.seconds:.2f} s a step, {progress.left / 60:.1f} minutes left"
        )
        typer.echo(line if held is None else f"{line}; held out: {figures(held)}", err=True)

    return tell


def _figures(held: dict[str, Any]) -> str:
    single, best = held["single"], held["best"]
    parts = [
        f"recall at {budget} {found:.3f} ({single[budget]:.3f} unpooled) of {best[budget]:.3f}"
        for budget, found in held["recall"].items()
    ]
    return ", ".join([f"KL {held['kl']:.4f}", *parts])
