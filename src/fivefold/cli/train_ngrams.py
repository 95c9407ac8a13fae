"""The command `train ngrams`: what a model usually writes, as a table that guesses its next tokens."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from fivefold.core.ngrams import MOST_ORDERS
from fivefold.files import open_checkpoint, write_ngrams
from fivefold.models import load_model
from fivefold.train.ngrams import Making, make_table

from .options import AsJson, ModelArgument, find_model, print_json
from .train import group


@group.command("ngrams")
def ngrams(
    model: ModelArgument,
    data: Annotated[
        list[Path], typer.Option("--data", help="A folder of conversations that the model wrote; repeatable.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The table, a .safetensors file.")],
    orders: Annotated[int, typer.Option(min=1, max=MOST_ORDERS, help="Tokens of the longest context.")] = 5,
    least: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Entries that are right less often are left out.")
    ] = 0.1,
    as_json: AsJson = False,
) -> None:
    """Make a table of n-grams for a model from conversations that it wrote (fivefold train conversations).

    It guesses the model's next tokens, which the model verifies: a guess costs a lookup. Takes seconds.
    """
    path = find_model(model)
    checkpoint = open_checkpoint(path)
    making = Making(orders, least, path.name, shlex.join(["fivefold", *sys.argv[1:]]))
    made = make_table(load_model(checkpoint), checkpoint, data, making)
    write_ngrams(out, made.table)
    shares = {kind: right / max(tried, 1) for kind, (tried, right) in sorted(made.tried.items())}
    if as_json:
        print_json(
            {"table": str(out), "entries": len(made.table.keys), "tokens": made.table.origin.tokens,
             "held_out": {kind: round(share, 4) for kind, share in shares.items()}}
        )  # fmt: skip
        return
    for kind, share in shares.items():
        typer.echo(f"held out, {kind}: {share:.1%} of {made.tried[kind][0]} tokens guessed")
    typer.echo(f"{out}: {len(made.table.keys)} entries of {made.table.origin.tokens} written tokens")
