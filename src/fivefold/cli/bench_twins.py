"""`bench twins`: two models that differ in how they write, how well and how fast they complete records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fivefold.bench.twins import Compared, Twins, measure_twins, read_questions, twins_lines
from fivefold.engine import load

from .bench_group import JsonFile, Rounds, bench, check_outputs, deliver, rising
from .options import Activations, Format, Isa, Kv, Threads, find_model, load_options


@bench.command("twins")
def twins(
    autoregressive: Annotated[str, typer.Argument(help="The twin that writes token by token.")],
    questions: Annotated[
        Path, typer.Option("--questions", help="A folder with test.jsonl; for BLOCKS, validation.jsonl.")
    ],
    blocks: Annotated[
        str,
        typer.Argument(help="The twin that writes by blocks; left out: the first one with its drafter."),
    ] = "",
    count: Annotated[int, typer.Option(min=2, help="Records that are timed.")] = 200,
    chosen_on: Annotated[
        int, typer.Option(min=2, help="Records that the setting of BLOCKS is chosen on.")
    ] = 400,
    batches: Annotated[str, typer.Option("--batch", help="Numbers of requests at once.")] = "4,16,32",
    longest: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 256,
    rounds: Rounds = 3,
    isa: Isa = "auto",
    threads: Threads = 0,
    activations: Activations = "int8",
    kv: Kv = "f16",
    form: Format = "auto",
    as_json: JsonFile = "",
) -> None:
    """Complete records token by token and by blocks: quality on the test, time alone and with many at once.
    What is compared, and when it holds, is docs/decisions/0016.

    Blocks are filled by a diffusion model, whose setting the validation chooses, or by a drafter beside the
    first model, which checks them.
    """
    check_outputs(as_json, "")
    together = tuple(rising(batches, "--batch", 2))
    options = replace(load_options(isa, threads, 0, activations, kv, form=form), entries=512 * max(together))
    plain = load(find_model(autoregressive), replace(options, drafter=False))
    both = Twins(plain, load(find_model(blocks or autoregressive), options))
    asked = Compared(chosen_on, count, rounds, together, most=longest)
    test = read_questions(questions / "test.jsonl")
    validation = [] if both.checked else read_questions(questions / "validation.jsonl")
    answer = measure_twins(both, validation, test, asked)
    deliver(answer, twins_lines(answer), as_json, "")
