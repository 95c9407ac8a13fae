"""Commands about models themselves: `pull` and `inspect`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from fivefold.engine import LoadOptions, inspect_model
from fivefold.executor import allowed_threads, choose_isa, processor
from fivefold.files import default_store, pull
from fivefold.quantize import loaded_format

from .options import AsJson, Format, ModelArgument, find_model, print_json
from .terminal import app


@app.command("pull")
def pull_model(name: ModelArgument, as_json: AsJson = False) -> None:
    """Fetch a model: a catalogue name, or hf:owner/repo[@revision][:file]. Continues what was cut off."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, refresh_per_second=5)
    tasks: dict[str, Any] = {}

    def report(what: str, done: int, total: int | None) -> None:
        if not console.is_terminal:
            return
        bar.start()
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)

    try:
        path = pull(name, default_store(), report)
    finally:
        if bar.live.is_started:
            bar.stop()
    print_json({"name": name, "path": str(path)}) if as_json else typer.echo(str(path))


@app.command("inspect")
def inspect(
    name: Annotated[str, typer.Argument(help="A model, or the word cpu.")],
    form: Format = "auto",
    as_json: AsJson = False,
) -> None:
    """Say what a model is made of and what of it will be refused, or what this processor offers."""
    options = LoadOptions(conversion=loaded_format(form, "--format"))
    answer = _inspect_cpu() if name == "cpu" else inspect_model(find_model(name), options)
    if as_json:
        print_json(answer)
        return
    for key, value in answer.items():
        for part, text in _rows(key, value):
            typer.echo(f"{part:<21} {text}")


def _rows(key: str, value: Any) -> list[tuple[str, str]]:
    """One line for a figure; one for each where there are several that need a line of their own."""
    if key.endswith("formats_by_part"):
        lines = [f"{part}: {_words(formats)}" for part, formats in value.items()]
    elif key == "refused":
        lines = value or ["nothing"]
    elif key == "cache_groups":
        lines = [_words(group) for group in value]
    else:
        lines = [_words(value)]
    return [(key if number == 0 else "", line) for number, line in enumerate(lines)]


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _inspect_cpu() -> dict[str, Any]:
    chip = processor()
    return {
        "processor": chip.name,
        "features": list(chip.features),
        "instruction_sets": list(chip.instruction_sets),
        "chosen": choose_isa(),
        "threads": allowed_threads(),
    }
