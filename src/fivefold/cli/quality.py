"""The command `perplexity`: how well a model predicts a text, and how near it is to a reference."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fivefold.bench import measure_quality
from fivefold.core.errors import InputError, NotFiniteError
from fivefold.engine import load

from .options import (
    Activations,
    AsJson,
    Isa,
    Kv,
    ModelArgument,
    Threads,
    find_model,
    load_options,
    open_model,
    print_json,
)
from .terminal import app


@app.command("perplexity")
def perplexity(
    model: ModelArgument,
    text: Annotated[Path, typer.Option("--text", help="A text file.")],
    reference: Annotated[
        str, typer.Option(help="A model to compare with; `self` is this one in float32.")
    ] = "",
    window: Annotated[int, typer.Option(min=2, help="Tokens a window.")] = 512,
    skip: Annotated[
        int, typer.Option(min=0, help="First positions of each window to leave out of the figures.")
    ] = 0,
    positions: Annotated[int, typer.Option(min=0, help="Most positions to score; 0 is all.")] = 0,
    isa: Isa = "auto",
    threads: Threads = 0,
    activations: Activations = "int8",
    kv: Kv = "f16",
    as_json: AsJson = False,
) -> None:
    """Perplexity of a text; with a reference also KL and top-1 agreement, with standard errors."""
    try:
        content = text.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", where=str(text), remedy="name a text file"
        ) from error
    loaded = open_model(model, load_options(isa, threads, 0, activations, kv))
    other = None
    if reference:
        path = loaded.path if reference == "self" else find_model(reference)
        other = load(path, load_options(isa, threads, 0, "float", None, reference=True))
        if other.model.shape.vocabulary != loaded.model.shape.vocabulary:
            raise InputError("the two models have different vocabularies", where="--reference",
                             remedy="compare models of one tokenizer")  # fmt: skip
    tokens = loaded.vocabulary.encode(content)
    size = min(window, loaded.context)
    if skip >= size - 1:
        raise InputError(f"{skip} positions of windows of {size} tokens leave none", where="--skip",
                         remedy=f"give less than {size - 1}")  # fmt: skip
    try:
        figures = measure_quality(
            loaded.runner, tokens, size, other.runner if other else None, positions, skip
        )
    except NotFiniteError as error:
        raise error.of(loaded.path.name) from None
    answer = {
        "model": loaded.checkpoint.path.name, "text": text.name, "window": size, "skip": skip,
        "activations": activations, "cache_format": loaded.settings.cache_format,
        "instruction_set": loaded.settings.isa, **asdict(figures),
    }  # fmt: skip
    if as_json:
        print_json(answer)
        return
    for key, value in answer.items():
        if value is not None:
            typer.echo(f"{key:<22}{value:.6g}" if isinstance(value, float) else f"{key:<22}{value}")
