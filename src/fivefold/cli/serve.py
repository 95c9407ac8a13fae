"""The command `serve`: models behind OpenAI's protocol."""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from fivefold.core.errors import FivefoldError, InputError
from fivefold.files import Registration, register, running_folder
from fivefold.quantize import loaded_format
from fivefold.server import (
    Maker,
    Models,
    ServerConfig,
    Source,
    Table,
    available_memory,
    listen,
    model_config,
    overridden,
    parse_size,
    read_config,
)
from fivefold.server import run as run_server

from .options import (
    DEFAULT_MODEL,
    Activations,
    Context,
    Format,
    Isa,
    KvUnlessSaid,
    Threads,
    find_model,
    load_options,
)
from .terminal import app

_LOOPBACK = ("localhost", "::1")


@app.command("serve")
def serve(
    model: Annotated[str, typer.Argument(help="A pulled name, a folder or a .gguf file.")] = "",
    config: Annotated[Path | None, typer.Option(help="A fivefold.toml with [server] and [[model]].")] = None,
    host: Annotated[str, typer.Option(help="Address; 127.0.0.1 unless the file says else.")] = "",
    port: Annotated[int, typer.Option(min=-1, max=65535, help="Port; 8000 unless the file says else.")] = -1,
    api_key: Annotated[list[str] | None, typer.Option(help="A key clients must send; repeatable.")] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Listen beyond this machine, keyless.")] = False,
    memory: Annotated[str, typer.Option(help="For all weights and caches, as 8GB.")] = "",
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the model.")] = None,
    isa: Isa = "auto",
    threads: Threads = 0,
    context: Context = 0,
    activations: Activations = "int8",
    kv: KvUnlessSaid = None,
    form: Format = "auto",
) -> None:
    """Serve models over HTTP with OpenAI's protocol."""
    changes: dict[str, Any] = {}
    if host:
        changes["host"] = host
    if port >= 0:
        changes["port"] = port
    if memory:
        changes["memory"] = parse_size(memory, "--memory")

    def read() -> ServerConfig:
        chosen = _configuration(model, config, settings or [])
        keys = (*chosen.api_keys, *(api_key or ()))
        chosen = dataclasses.replace(chosen, **changes, api_keys=keys)
        _check_exposure(chosen, no_auth)
        return chosen

    chosen = read()
    options = load_options(isa, threads, context, activations, kv, form=form)
    maker = Maker(find_model, options, time.time, available_memory, loaded_format)
    with listen(chosen.host, chosen.port) as listener, ExitStack() as stack:
        address = f"http://{_shown(chosen.host)}:{listener.getsockname()[1]}"
        entry = _Entry(address, stack)

        def changed(table: Table) -> None:
            entry.write(table)
            with suppress(OSError):  # whoever read the first line may have gone since
                typer.echo(
                    f"serving {_names(table)} at {address}/v1, by the configuration that was read again"
                )
                _say_backends(table)

        source = Source(read, maker, changed) if config is not None else None
        models = Models.prepared(chosen, maker, source)
        entry.write(models.table)
        _say_backends(models.table)
        run_server(models, listener, lambda: typer.echo(f"serving {_names(models.table)} at {address}/v1"))


class _Entry:
    """What `fivefold ps` shows while the server runs; it runs as well where nothing can be written."""

    def __init__(self, address: str, stack: ExitStack) -> None:
        self._address = address
        self._stack = stack
        self._registration: Registration | None = None

    def write(self, table: Table) -> None:
        """Show the models of a table in place of those before."""
        paths = {entry.config.name: entry.recipe.path for entry in table.local}
        if self._registration is not None:
            self._registration.unregister()
        try:
            self._registration = self._stack.enter_context(register(running_folder(), self._address, paths))
        except FivefoldError as error:
            typer.echo(f"fivefold: {error.line()}", err=True)


def _say_backends(table: Table) -> None:
    """A line on stderr for each model that another backend than the native one runs."""
    for entry in table.local:
        if entry.notice:
            typer.echo(f"fivefold: {entry.config.name}: {entry.notice}", err=True)


def _names(table: Table) -> str:
    return ", ".join(entry.config.name for entry in table.entries)


def _configuration(model: str, path: Path | None, settings: list[str]) -> ServerConfig:
    """The file's configuration, or one model's; settings go over the only or the first model."""
    if path is None:
        name = model or DEFAULT_MODEL
        values = overridden({"source": name, "name": name, "aliases": ["default"]}, settings)
        if values.get("upstream") and not model:
            values = {**values, "source": ""}
        return ServerConfig((model_config(values, "--set"),))
    if model:
        raise InputError("a model and a configuration are given", where="serve", remedy="give one of them")
    return read_config(path, settings)


def _check_exposure(config: ServerConfig, no_auth: bool) -> None:
    """Beyond this machine only with a key, unless the user insists."""
    local = config.host in _LOOPBACK or config.host.startswith("127.")
    if not local and not config.api_keys and not no_auth:
        raise InputError(
            f"{config.host} can be reached from other machines, and no key is asked for", where="--host",
            remedy="give --api-key KEY, or --no-auth if that is meant",
        )  # fmt: skip
    if any(not key.strip() for key in config.api_keys):
        raise InputError("an API key is empty", where="--api-key", remedy="leave it out or give one")


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
