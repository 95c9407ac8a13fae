"""The command `quantize`: a model's numbers in fewer bits, as a GGUF file or a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from fivefold.files import open_checkpoint
from fivefold.quantize import (
    Plan,
    calibrate_plan,
    check_target,
    make_plan,
    needs_calibration,
    output_for,
    read_recipe,
    run_plan,
    summary_of,
)

from .options import AsJson, find_model, print_json
from .terminal import app


@app.command("quantize")
def quantize(
    source: Annotated[str, typer.Argument(help="A pulled name, hf:owner/repo, a folder or a .gguf file.")],
    target: Annotated[Path, typer.Argument(help="A .gguf file; for a Hugging Face folder, a new folder.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="nvfp4, mxfp4, q4_0, q5_0, q8_0; in folders fp8, fp8_tensor, fp8_block; f16, bf16, f32.",
        ),
    ] = "",
    recipe: Annotated[
        Path | None, typer.Option(help="A recipe in TOML: docs/quantize.md has its keys.")
    ] = None,
    calibrate: Annotated[Path | None, typer.Option(help="A text to calibrate with.")] = None,
    head: Annotated[
        str, typer.Option(help="Format of the head; GGUF: q8_0 for coarse formats, folders: as it is.")
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Continue what was interrupted.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a model again in a format of fewer bits, for any program that reads such files."""
    chosen = read_recipe(recipe, form, head, calibrate)
    checkpoint = open_checkpoint(find_model(source))
    plan = make_plan(checkpoint, chosen, output_for(checkpoint, target))
    check_target(plan, target)
    if dry_run:
        _print_plan(plan) if not as_json else print_json(_answer(plan, target, asdict(summary_of(plan))))
        return
    calibrated = None
    if needs_calibration(chosen):
        with _bar() as report:
            plan, calibrated = calibrate_plan(plan, lambda name: report(name, 0, 0))
    for item in plan.items:
        if item.note:
            typer.echo(f"{item.name}: {item.note}", err=True)
    with _bar() as report:
        made = run_plan(plan, target, resume=resume, calibrated=calibrated, report=report)
    if as_json:
        print_json(_answer(plan, target, asdict(made)))
        return
    typer.echo(_summary(plan, asdict(made)))
    typer.echo(str(target))


def _answer(plan: Plan, target: Path, figures: dict[str, Any]) -> dict[str, Any]:
    tensors = [
        {
            "name": item.name, "shape": list(item.source.shape), "source_format": item.source.format,
            "format": item.format, "method": item.method, "bytes": plan.bytes_of(item), "note": item.note,
        }
        for item in plan.items
    ]  # fmt: skip
    return {
        "source": str(plan.checkpoint.path), "target": str(target), **figures,
        "file_bytes": plan.layout.bytes, "tensors": tensors,
    }  # fmt: skip


def _print_plan(plan: Plan) -> None:
    """A line for each tensor, and the sums."""
    rows = [
        (
            item.name, " x ".join(map(str, item.source.shape)), item.source.format, item.format, item.method,
            str(plan.bytes_of(item)), item.note,
        )
        for item in plan.items
    ]  # fmt: skip
    heads = ("tensor", "shape", "from", "to", "method", "bytes", "note")
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    for row in (heads, *rows):
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    typer.echo(_summary(plan, asdict(summary_of(plan))))


def _summary(plan: Plan, figures: dict[str, Any]) -> str:
    forms = ", ".join(f"{form} {count / 1e6:.1f} MB" for form, count in figures["bytes_by_format"].items())
    resumed = f", {figures['resumed']} tensors were there already" if figures["resumed"] else ""
    return (
        f"{figures['bits_per_weight']:.3f} bits per weight, {figures['bytes'] / 1e6:.1f} MB ({forms}), "
        f"from {figures['source_bytes'] / 1e6:.1f} MB{resumed}"
    )


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr where that is a terminal; elsewhere a line for each step whose length is not known."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, refresh_per_second=5)
    task = bar.add_task("", total=None)

    said = ""

    def report(name: str, done: int, total: int) -> None:
        nonlocal said
        if console.is_terminal:
            bar.start()
        elif not total and name != said:
            typer.echo(name, err=True)
            said = name
        bar.update(task, description=name, completed=done, total=total or None)

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()
