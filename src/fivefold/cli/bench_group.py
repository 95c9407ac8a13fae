"""What the commands `bench ...` share: their group, their options, and where their figures go."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from fivefold.bench import check_picture, draw
from fivefold.core.errors import InputError

from .terminal import app

bench = typer.Typer(
    rich_markup_mode=None,
    help="Measure speed here, with peers in the same alternating rounds. All take --json.",
)
app.add_typer(bench, name="bench")

Model = Annotated[str, typer.Argument(help="A pulled name, a folder or a .gguf file.")]
JsonFile = Annotated[str, typer.Option("--json", help="A file for the figures, or - for stdout.")]
Picture = Annotated[str, typer.Option(help="A .png file for a picture of the figures.")]
Rounds = Annotated[int, typer.Option(min=1, help="Measured rounds, after one warm-up.")]
Peers = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=PATH, separated by commas: llama.cpp=FOLDER of its tools; openvino=, vllm= or "
        "transformers=PYTHON that has the package."
    ),
]
PeerModel = Annotated[
    list[str] | None,
    typer.Option(help="NAME=PATH of another file or folder of the same model, for one peer."),
]


def check_outputs(as_json: str, picture: str) -> None:
    """Refuse files that could not be written, before anything is measured."""
    if as_json and as_json != "-" and not Path(as_json).parent.is_dir():
        raise InputError("there is no such folder", where=f"--json {as_json}", remedy="make it first")
    if picture:
        check_picture(Path(picture))


def rising(text: str, where: str, least: int, most: int | None = None) -> list[int]:
    """Rising whole numbers from `least` to `most`, separated by commas; InputError for anything else."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    ordered = all(before < after for before, after in pairwise(numbers))
    if not numbers or not ordered or numbers[0] < least or (most is not None and numbers[-1] > most):
        limits = f"from {least} on" if most is None else f"from {least} to {most}"
        raise InputError(
            f"{text!r} are no rising numbers {limits}",
            where=where,
            remedy=f"give them like {','.join(str(max(least, 1) * each) for each in (1, 2, 3))}",
        )
    return numbers


def deliver(answer: dict[str, Any], lines: Iterable[str], as_json: str, picture: str) -> None:
    """The figures to where they are wanted, and as lines to stdout unless the JSON went there."""
    if picture:
        draw(answer, Path(picture))
    if as_json == "-":
        typer.echo(json.dumps(answer))
        return
    if as_json:
        Path(as_json).write_text(json.dumps(answer, indent=1) + "\n")
    for line in lines:
        typer.echo(line)
