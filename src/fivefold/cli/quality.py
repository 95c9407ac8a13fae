"""The command `perplexity`: how well models predict a text, and how near they are to a reference."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from fivefold.bench import TextSetup, measure_models, quality_lines
from fivefold.core.errors import InputError
from fivefold.engine import LoadedModel, load

from .options import (
    AsJson,
    Isa,
    Threads,
    find_model,
    load_options,
    open_model,
    print_json,
)
from .terminal import app

SELF = "self"
EXECUTORS = ("auto", "native", "float32")

ReferenceExecutor = Annotated[
    str,
    typer.Option(
        help="How the reference runs. native: float activations, f16 cache entries. float32: the slow "
        "reference executor, all in float32 (the two differ by a KL of 5e-7). auto: float32 for "
        "`self`, else native."
    ),
]
Activations = Annotated[
    list[str] | None,
    typer.Option(help="Rows that meet quantized weights: int8 (the default) or float; may be given again."),
]
Kv = Annotated[
    list[str] | None,
    typer.Option(
        "--kv",
        help="How cache entries are stored: f16 (the default), bf16, int8, fp8; may be given again.",
    ),
]


@app.command("perplexity")
def perplexity(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="Pulled names, folders or .gguf files of one tokenizer."),
    ],
    text: Annotated[Path, typer.Option("--text", help="A text file.")],
    reference: Annotated[
        str, typer.Option(help="A model to compare with; `self` is the one model itself in float32.")
    ] = "",
    reference_executor: ReferenceExecutor = "auto",
    window: Annotated[int, typer.Option(min=2, help="Tokens a window.")] = 512,
    skip: Annotated[
        int, typer.Option(min=0, help="First positions of each window to leave out of the figures.")
    ] = 0,
    positions: Annotated[int, typer.Option(min=0, help="Most positions to score; 0 is all.")] = 0,
    resume: Annotated[
        Path | None,
        typer.Option(help="A file that keeps the state after each window; with it, go on from there."),
    ] = None,
    isa: Isa = "auto",
    threads: Threads = 0,
    activations: Activations = None,
    kv: Kv = None,
    as_json: AsJson = False,
) -> None:
    """Perplexity of a text; with a reference also KL and top-1 agreement, with standard errors.

    All models are scored in one pass over the text, the reference once. --activations and --kv are the
    models', not the reference's; given several times, each model runs in each of those ways.
    """
    executor = _executor(reference, reference_executor, len(models))
    content = _content(text)
    ways = [
        load_options(isa, threads, 0, rows, entries)
        for rows in activations or ["int8"]
        for entries in kv or ["f16"]
    ]
    loaded = [open_model(model, way) for model in models for way in ways]
    other = _reference(reference, executor, loaded[0], (isa, threads)) if reference else None
    setup = TextSetup(text.name, content, window, skip, positions, resume, executor)
    shown = _Progress(resume)
    try:
        answers = measure_models(loaded, other, setup, shown.told)
    except KeyboardInterrupt:
        shown.interrupted()
        raise
    finally:
        shown.clear()
    if as_json:
        print_json(answers[0] if len(answers) == 1 else answers)
    else:
        for line in quality_lines(answers):
            typer.echo(line)


def _content(text: Path) -> bytes:
    try:
        return text.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", where=str(text), remedy="name a text file"
        ) from error


def _executor(reference: str, asked: str, models: int) -> str:
    """native or float32; InputError for another, or where `self` would be several models."""
    if asked not in EXECUTORS:
        raise InputError(f"{asked!r} is not known", where="--reference-executor",
                         remedy=f"choose {', '.join(EXECUTORS)}")  # fmt: skip
    if reference == SELF and models > 1:
        raise InputError(f"`self` is one model, and there are {models}", where="--reference",
                         remedy="name the model to compare with")  # fmt: skip
    if asked == "auto":
        return "float32" if reference == SELF else "native"
    return asked


def _reference(name: str, executor: str, first: LoadedModel, how: tuple[str, int]) -> LoadedModel:
    """The reference, loaded."""
    path = first.path if name == SELF else find_model(name)
    options = load_options(*how, 0, "float", None, reference=executor == "float32")
    return load(path, options)


class _Progress:
    """One line on stderr, if that is a terminal: windows scored, positions a second, what is left."""

    def __init__(self, resume: Path | None) -> None:
        self.resume = resume
        self.shows = sys.stderr.isatty()
        self.windows = self.of = 0
        self.first: tuple[float, int] | None = None

    def told(self, windows: int, of: int, positions: int) -> None:
        """So many windows and positions are done."""
        self.windows, self.of = windows, of
        now = time.monotonic()
        if self.first is None:
            self.first = (now, positions)
        elif self.shows:
            since, before = self.first
            rate = (positions - before) / max(now - since, 1e-9)
            left = (of - windows) * (positions / windows) / max(rate, 1e-9)
            line = f"window {windows} of {of}, {rate:.0f} positions/s, {left / 60:.1f} minutes left"
            sys.stderr.write(f"\r{line:<78}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self.shows and self.first is not None:
            sys.stderr.write(f"\r{'':<78}\r")
            sys.stderr.flush()

    def interrupted(self) -> None:
        """Say where it stopped, and what goes on from there."""
        if self.resume is not None and self.of:
            self.clear()
            typer.echo(
                f"stopped after window {self.windows} of {self.of}; the same command goes on from there",
                err=True,
            )
