"""Commands about what is on this machine: `list` and `rm` for pulled models, `ps` for running servers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from fivefold.core.errors import InputError
from fivefold.files import (
    default_store,
    leftovers,
    list_models,
    list_running,
    pulled_model,
    remove_leftovers,
    remove_model,
    running_folder,
)

from .options import AsJson, print_json
from .terminal import app


@app.command("list")
def list_pulled(as_json: AsJson = False) -> None:
    """Show the models that were pulled: size, licence, date, source and path."""
    store = default_store()
    models: list[dict[str, Any]] = [
        {
            "name": model.record.name, "size": model.record.size, "licence": model.record.licence,
            "date": model.record.date, "source": model.record.source, "path": str(model.path),
        }
        for model in list_models(store)
    ]  # fmt: skip
    rest: list[dict[str, Any]] = [
        {"name": one.name, "size": one.size, "path": str(one.path)} for one in leftovers(store)
    ]
    if as_json:
        print_json({"models": models, "unfinished": rest})
        return
    rows = [[*one.values()] for one in models]
    _print_table(("name", "size", "licence", "date", "source", "path"), rows)
    for one in rest:
        typer.echo(f"unfinished: {one['name']}, {_bytes(one['size'])}; `fivefold rm --partial` frees it")


@app.command("rm")
def remove(
    name: Annotated[str, typer.Argument(help="A pulled model, as `fivefold list` names it.")] = "",
    partial: Annotated[bool, typer.Option(help="Free what unfinished pulls have left, too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a pulled model, or what unfinished pulls have left."""
    store = default_store()
    if not name and not partial:
        raise InputError("nothing is named", where="rm", remedy="name a model, or give --partial")
    model = pulled_model(name, store) if name else None
    rest = leftovers(store) if partial else []
    if model is not None and not yes:
        _confirm(f"delete {model.record.name}, {_bytes(model.record.size)}, from {model.folder}?")
    if rest and not yes:
        _confirm(f"delete {len(rest)} unfinished, {_bytes(sum(one.size for one in rest))}?")
    removed: dict[str, int] = {}
    if model is not None:
        removed[model.record.name] = remove_model(model, list_running(running_folder()))
    if partial:
        removed |= {one.name: one.size for one in remove_leftovers(store)}
    if as_json:
        print_json({"removed": list(removed), "freed": sum(removed.values())})
        return
    for one, size in removed.items():
        typer.echo(f"deleted {one}, {_bytes(size)}")
    if not removed:
        typer.echo("what is unfinished is being pulled just now" if rest else "nothing is unfinished")


@app.command("ps")
def running(as_json: AsJson = False) -> None:
    """Show the servers that run on this machine, and their models."""
    servers = list_running(running_folder())
    if as_json:
        listed = [
            {
                "pid": server.pid, "address": server.address, "started": server.started,
                "models": [{"name": name, "path": str(path)} for name, path in server.models.items()],
            }
            for server in servers
        ]  # fmt: skip
        print_json({"servers": listed})
        return
    rows = [[server.pid, server.address, server.started, ", ".join(server.models)] for server in servers]
    _print_table(("pid", "address", "started", "models"), rows)


def _confirm(question: str) -> None:
    """Ask on the terminal; InputError where nobody can answer, and where the answer is no."""
    if not sys.stdin.isatty():
        raise InputError("nobody can be asked here", where="rm", remedy="give --yes if that is meant")
    typer.echo(f"{question} [y/N] ", err=True, nl=False)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InputError("nothing was deleted", where="rm", remedy="answer y if that is meant")


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as what stands in them; the last is not filled up."""
    texts = [
        [_bytes(value) if head == "size" else str(value) for head, value in zip(heads, row, strict=True)]
        for row in rows
    ]
    widths = [max(len(row[column]) for row in (heads, *texts)) for column in range(len(heads))]
    for row in (heads, *texts):
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
