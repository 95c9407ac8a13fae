"""The command `serve`: models behind OpenAI's protocol."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fivefold.core.errors import FivefoldError, InputError
from fivefold.files import register, running_folder
from fivefold.server import (
    ModelConfig,
    ServerConfig,
    listen,
    load_models,
    model_config,
    overridden,
    parse_size,
    read_config,
)
from fivefold.server import run as run_server

from .options import DEFAULT_MODEL, Activations, Context, Isa, Kv, Threads, find_model, load_options
from .terminal import app

_LOOPBACK = ("localhost", "::1")


@app.command("serve")
def serve(
    model: Annotated[str, typer.Argument(help="A pulled name, a folder or a .gguf file.")] = "",
    config: Annotated[Path | None, typer.Option(help="A fivefold.toml with [server] and [[model]].")] = None,
    host: Annotated[str, typer.Option(help="Address; 127.0.0.1 unless the file says else.")] = "",
    port: Annotated[int, typer.Option(min=-1, max=65535, help="Port; 8000 unless the file says else.")] = -1,
    api_key: Annotated[list[str] | None, typer.Option(help="A key clients must send; repeatable.")] = None,
    no_auth: Annotated[bool, typer.Option(help="Listen beyond this machine without any key.")] = False,
    memory: Annotated[str, typer.Option(help="For all weights and caches, as 8GB.")] = "",
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the model.")] = None,
    isa: Isa = "auto",
    threads: Threads = 0,
    context: Context = 0,
    activations: Activations = "int8",
    kv: Kv = "f16",
) -> None:
    """Serve models over HTTP with OpenAI's protocol."""
    chosen = _configuration(model, config, settings or [])
    changes: dict[str, Any] = {}
    if host:
        changes["host"] = host
    if port >= 0:
        changes["port"] = port
    if api_key:
        changes["api_keys"] = (*chosen.api_keys, *api_key)
    if memory:
        changes["memory"] = parse_size(memory, "--memory")
    chosen = dataclasses.replace(chosen, **changes)
    _check_exposure(chosen, no_auth)
    options = load_options(isa, threads, context, activations, kv)
    with listen(chosen.host, chosen.port) as listener:
        served = load_models(chosen, find_model, options, int(time.time()))
        address = f"http://{_shown(chosen.host)}:{listener.getsockname()[1]}"
        names = ", ".join(one.name for one in chosen.models)

        def ready() -> None:
            typer.echo(f"serving {names} at {address}/v1")

        with _entry(address, {one.config.name: one.engine.loaded.path for one in served}):
            run_server(served, listener, chosen.api_keys, ready)


@contextmanager
def _entry(address: str, models: Mapping[str, Path]) -> Iterator[None]:
    """What `fivefold ps` shows while the server runs; it runs as well where nothing can be written."""
    with ExitStack() as stack:
        try:
            stack.enter_context(register(running_folder(), address, models))
        except FivefoldError as error:
            typer.echo(f"fivefold: {error.line()}", err=True)
        yield


def _configuration(model: str, path: Path | None, settings: list[str]) -> ServerConfig:
    """The file's configuration, or one model's; settings go over the only or the first model."""
    if path is None:
        name = model or DEFAULT_MODEL
        values = overridden({"source": name, "name": name, "aliases": ["default"]}, settings)
        return ServerConfig((model_config(values, "--set"),))
    chosen = read_config(path)
    if model:
        raise InputError("a model and a configuration are given", where="serve", remedy="give one of them")
    if settings:
        first = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(chosen.models[0]).items()
        }
        changed = model_config(overridden(first, settings), "--set")
        models: tuple[ModelConfig, ...] = (changed, *chosen.models[1:])
        return dataclasses.replace(chosen, models=models)
    return chosen


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
