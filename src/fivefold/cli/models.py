"""Commands about models themselves: `pull` and `inspect`."""

from __future__ import annotations

from collections import Counter
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

from fivefold.executor import allowed_threads, choose_isa, processor
from fivefold.files import default_store, open_checkpoint, pull
from fivefold.formats import ENTRY_FORMATS
from fivefold.models import load_model
from fivefold.plan import step_cost

from .options import AsJson, ModelArgument, find_model, print_json
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
    name: Annotated[str, typer.Argument(help="A model, or the word cpu.")], as_json: AsJson = False
) -> None:
    """Say what a model is made of, or what this processor offers and what is chosen on it."""
    answer = _inspect_cpu() if name == "cpu" else _inspect_model(name)
    if as_json:
        print_json(answer)
        return
    for key, value in answer.items():
        typer.echo(f"{key:<22}{_words(value)}")


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


def _inspect_model(name: str) -> dict[str, Any]:
    path = find_model(name)
    checkpoint = open_checkpoint(path)
    model = load_model(checkpoint)
    formats: Counter[str] = Counter()
    for tensor in checkpoint.tensors.values():
        formats[tensor.format] += tensor.stored_bytes
    shape = model.shape
    entries = {
        name: int(model.layout.entry_bytes(form.number_bytes, form.scale_bytes))
        for name, form in ENTRY_FORMATS.items()
    }
    stored = {tensor.name: float(tensor.stored_bytes) for tensor in checkpoint.tensors.values()}
    decode = step_cost(model.main, stored, rows=1, depth=0)
    return {
        "path": str(path),
        "family": shape.family,
        "layers": shape.layers,
        "hidden": shape.hidden,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_size": shape.head_size,
        "ffn": shape.ffn,
        "vocabulary": shape.vocabulary,
        "context": shape.context,
        "bytes_by_format": dict(formats),
        "cache_bytes_a_token": entries["f16"],
        "cache_bytes_by_format": entries,
        "decode_weight_bytes": int(decode.weight_bytes),
        "decode_flops": int(decode.flops),
        "kernels": choose_isa(),
    }
