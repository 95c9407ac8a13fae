"""`bench kernels`: matrix kernels by themselves, held against the machine's limits."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fivefold.bench import KernelSetup, kernel_lines, measure_kernels
from fivefold.core.errors import InputError
from fivefold.executor import allowed_threads, choose_isa
from fivefold.formats import FORMATS

from .bench_group import JsonFile, Picture, Rounds, bench, check_outputs, deliver, rising
from .options import Activations, Isa, Threads

MEGABYTE = 1 << 20
MOST_ROWS = 4096


@bench.command("kernels")
def kernels(
    formats: Annotated[
        str, typer.Option(help="Number formats, separated by commas; all: every one.")
    ] = "all",
    rows: Annotated[str, typer.Option(help="Rows of activations, from 1 on, rising.")] = (
        "1,2,3,4,5,6,7,8,12,16,32,64,256"
    ),
    size: Annotated[
        int, typer.Option(min=1, help="Megabytes of weights in a pass; few stay in the processor's cache.")
    ] = 96,
    rounds: Rounds = 5,
    isa: Isa = "auto",
    threads: Threads = 0,
    activations: Activations = "int8",
    as_json: JsonFile = "",
    picture: Picture = "",
) -> None:
    """Every matrix kernel: time by rows, GB/s, products a cycle, share of the roofline."""
    check_outputs(as_json, picture)
    chosen = list(FORMATS) if formats == "all" else formats.split(",")
    for form in chosen:
        if form not in FORMATS:
            raise InputError(
                f"{form!r} is not known", where="--formats", remedy=f"choose from {', '.join(FORMATS)}"
            )
    setup = KernelSetup(
        chosen, _rows(rows), choose_isa(isa), threads or allowed_threads(), activations, size * MEGABYTE
    )
    answer: dict[str, Any] = measure_kernels(setup, rounds)
    deliver(answer, kernel_lines(answer), as_json, picture)


def _rows(text: str) -> list[int]:
    """Rising numbers of rows that begin with 1, over which the others' times are given."""
    rows = rising(text, "--rows", 1, MOST_ROWS)
    if rows[0] != 1:
        raise InputError(
            f"{text!r} are no rising numbers that begin with 1",
            where="--rows",
            remedy="give them like 1,4,64",
        )
    return rows
