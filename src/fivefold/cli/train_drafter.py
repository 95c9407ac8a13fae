"""The commands `train conversations` and `train drafter`: a tiny model that guesses another's next tokens."""

from __future__ import annotations

import importlib
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fivefold.core.drafter import FORMS
from fivefold.core.errors import InputError
from fivefold.executor import allowed_threads
from fivefold.files import open_checkpoint
from fivefold.models import load_model

from .options import AsJson, ModelArgument, Threads, find_model, print_json
from .train import group, run_through, teller, trainer_of

Taps = Annotated[
    str, typer.Option(help="Layers whose outputs are read, as 1,15,27; an early, the middle, a late one.")
]


@group.command("drafter")
def drafter(
    model: ModelArgument,
    data: Annotated[Path, typer.Option("--data", help="A folder of conversations that the model wrote.")],
    out: Annotated[Path, typer.Option("--out", help="The drafter, a .safetensors file.")],
    form: Annotated[
        str,
        typer.Option(help=f"How guesses are made: {' or '.join(FORMS)}, one after the other."),
    ] = "block",
    layers: Annotated[int, typer.Option(min=1, help="Layers of the drafter.")] = 1,
    slots: Annotated[int, typer.Option(min=1, help="Guesses at a time, at most.")] = 4,
    vocabulary: Annotated[int, typer.Option(min=1, help="Tokens that its head knows.")] = 8192,
    taps: Taps = "",
    kv_heads: Annotated[int, typer.Option(min=0, help="KV heads of its layers; 0 is the model's.")] = 0,
    ffn: Annotated[int, typer.Option(min=0, help="Inner width of its layers; 0 is the model's.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="How often each conversation is seen.")] = 6,
    steps: Annotated[int, typer.Option(min=0, help="Steps of training; 0 is by --epochs.")] = 0,
    conversations: Annotated[int, typer.Option(min=1, help="Conversations of a step.")] = 8,
    density: Annotated[
        float, typer.Option(min=0.001, max=1, help="Guesses that are trained, for each token written.")
    ] = 1.0,
    rate: Annotated[float, typer.Option(min=0.0, help="Learning rate at its height.")] = 6e-4,
    gamma: Annotated[
        float, typer.Option(min=0.1, help="Slots over which a guess's weight falls by e.")
    ] = 2.5,
    every: Annotated[int, typer.Option(min=1, help="Look at what is held out after so many steps.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the beginning and of the order.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue what was stopped.")] = False,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Train a side drafter for a model from conversations that it wrote.

    The state is saved every 5 minutes and when the command is interrupted; with --resume it goes on to the
    same numbers. State, curves (.jsonl) and their picture (.png) lie beside the drafter.
    """
    trainer = trainer_of("drafter")
    running: Any = importlib.import_module("fivefold.train.running")
    if form not in FORMS:
        raise InputError(f"{form!r} is not known", where="--form", remedy=f"choose {' or '.join(FORMS)}")
    path = find_model(model)
    checkpoint = open_checkpoint(path)
    training = trainer.Training(
        steps=steps, epochs=epochs, seed=seed, form=form, layers=layers, slots=slots, vocabulary=vocabulary,
        taps=_taps(taps), kv_heads=kv_heads, ffn=ffn, conversations=conversations, density=density, rate=rate,
        gamma=gamma, every=every,
    )  # fmt: skip
    places, at_once = running.Places(data, out), threads or allowed_threads()
    run = trainer.Run(load_model(checkpoint), checkpoint, places, training, at_once, resume)
    name, command = path.name, shlex.join(["fivefold", *sys.argv[1:]])
    held = run_through(run, teller(_figures), lambda: run.save(name, command))
    if as_json:
        parameters = run.network.plan.count
        print_json({"drafter": str(out), "steps": run.done, "parameters": parameters, "held_out": held})
        return
    typer.echo(f"held out: {_figures(held)}")
    typer.echo(str(out))


@group.command("conversations")
def conversations(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("--out", help="The folder of conversations; what it has is kept.")],
    texts: Annotated[
        Path | None, typer.Option("--texts", help="Where packages with texts are kept, or fetched to.")
    ] = None,
    records: Annotated[
        Path | None, typer.Option("--records", help="In place of them, the corpus of a twin: its records.")
    ] = None,
    count: Annotated[int, typer.Option("--conversations", min=1, help="To train with.")] = 4096,
    held_out: Annotated[int, typer.Option(min=1, help="More, on what is held out.")] = 128,
    answer: Annotated[int, typer.Option(min=2, help="Tokens that the model writes in each, at most.")] = 256,
    shortest: Annotated[int, typer.Option(min=16, help="Tokens of a passage, at least.")] = 64,
    longest: Annotated[int, typer.Option(min=16, help="Tokens of a passage, at most.")] = 640,
    sampled: Annotated[
        float, typer.Option(min=0, max=1, help="The share of answers that are drawn, not the likeliest.")
    ] = 0.25,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of answers that are drawn.")] = 0.7,
    general: Annotated[
        float, typer.Option(min=0, max=1, help="The share of questions about a word of a text.")
    ] = 0.3,
    everyday: Annotated[float, typer.Option(min=0, max=1, help="The share of everyday questions.")] = 0.0,
    taps: Taps = "",
    batch: Annotated[int, typer.Option(min=1, help="Conversations that run at once.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="What is drawn.")] = 0,
    threads: Threads = 0,
) -> None:
    """Have a model write conversations to train its drafter with, and keep its hidden states.

    A token takes 2 bytes for each number of a tapped layer: 3.5 kB for three layers of 576. A folder that is
    not complete is filled up.
    """
    collecting: Any = importlib.import_module("fivefold.train.drafter.collecting")
    asking: Any = importlib.import_module("fivefold.train.drafter.asking")
    completing: Any = importlib.import_module("fivefold.train.drafter.completing")
    unused = (shortest, longest, general, everyday) != (64, 640, 0.3, 0.0)
    if records is not None and unused:
        raise InputError("--shortest, --longest, --general and --everyday say how texts are asked about",
                         where="--records", remedy="leave them out")  # fmt: skip
    source = texts or records
    if source is None or (texts and records):
        raise InputError("one source of prompts is needed", where="--texts, --records",
                         remedy="give the folder of packages, or the corpus of a twin")  # fmt: skip
    asked = (
        asking.Asking((shortest, longest), seed, sampled=sampled, temperature=temperature, general=general,
                      everyday=everyday)
        if texts
        else completing.Corpus(source).asking(seed, sampled, temperature)
    )  # fmt: skip
    collection = collecting.Collection(count, held_out, answer, batch=batch, taps=_taps(taps), asking=asked)
    made = collecting.collect_conversations(
        find_model(model), source, out, collection, threads, lambda said: typer.echo(said.line(), err=True)
    )
    typer.echo(f"{made} shards written in {out}")


def _taps(given: str) -> tuple[int, ...]:
    """Layers from a list of numbers; empty for the usual ones."""
    parts = [part.strip() for part in given.split(",") if part.strip()]
    if not all(part.isdigit() for part in parts):
        raise InputError(f"{given!r} are no layers", where="--taps", remedy="give numbers, such as 1,15,27")
    return tuple(sorted({int(part) for part in parts}))


def _figures(held: dict[str, Any]) -> str:
    agreement = " ".join(f"{one:.3f}" for one in held["agreement"])
    tokens = " ".join(f"{one:.2f}" for one in held["tokens"])
    return f"loss {held['loss']:.4f}, agreement by slot {agreement}, tokens a round {tokens}"
