"""The configuration of a server: frozen, decided once, unknown keys refused.

`fivefold.toml` has a table `[server]` and one `[[model]]` for each model. Keys of what is planned and not
built are known here, so that a file can hold them at the value that means "not used"; any other value is
refused by name.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from fivefold.core.errors import InputError
from fivefold.formats import entry_format

MOST_BYTES = 1 << 60
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_PLANNED: Mapping[str, tuple[Any, ...]] = {
    "format": ("auto",),
    "eviction": ("none",),
    "budget": (0,),
    "decoding": ("auto", "autoregressive"),
    "upstream": ("",),
}
"""Keys of what is planned, with the values that they may have today."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One `[[model]]`: the name that clients ask for, where the model is, and how it runs. Without a context
    or a cache_format it has those that the server was started with."""

    source: str
    name: str = "default"
    aliases: tuple[str, ...] = ()
    context: int = 0
    max_sequences: int = 64
    max_queue: int = 256
    prefix_cache: bool = True
    format: str = "auto"
    cache_format: str = ""
    eviction: str = "none"
    budget: float = 0
    decoding: str = "auto"
    upstream: str = ""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The `[server]` table and the models. `memory` is in bytes, for all models' weights and caches; 0: half
    of what the machine has free, at most 8 GB."""

    models: tuple[ModelConfig, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = ()
    memory: int = field(default=0)

    def __post_init__(self) -> None:
        _check_names(self.models)


def parse_size(text: Any, where: str) -> int:
    """Bytes of a size such as 8GB, 512MiB or a plain number."""
    if isinstance(text, int) and not isinstance(text, bool) and 0 <= text <= MOST_BYTES:
        return text
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    unit = None if match is None else _UNITS.get(match[2].upper())
    if match is None or unit is None:
        raise InputError(f"{text!r:.50} is not a size", where=where, remedy='write it as "8GB" or "512MiB"')
    size = int(Fraction(match[1]) * unit)
    if size > MOST_BYTES:
        raise InputError(f"{text[:50]!r} is more than any machine has", where=where, remedy="give less")
    return size


def read_config(path: Path) -> ServerConfig:
    """The configuration in a TOML file; InputError names file, key and remedy."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), remedy="name a TOML file") from None
    unknown = sorted(tables.keys() - {"server", "model"})
    if unknown:
        raise InputError(f"unknown table {unknown[0]!r}", where=str(path), remedy="known are server, model")
    server, models = tables.get("server", {}), tables.get("model", [])
    if not isinstance(server, dict) or not isinstance(models, list) or not models:
        raise InputError("there is no [[model]]", where=str(path), remedy="add one with a source")
    chosen = [
        model_config(values, f"{path}: model {number}") for number, values in enumerate(models, start=1)
    ]
    _check_names(chosen, str(path))
    where = f"{path}: server"
    known = {one.name for one in fields(ServerConfig)} - {"models"}
    _check_keys(server, known, where)
    values = dict(server)
    if "memory" in values:
        values["memory"] = parse_size(values["memory"], f"{where}: memory")
    return ServerConfig(tuple(chosen), **_typed(values, ServerConfig, where))


def model_config(values: Any, where: str) -> ModelConfig:
    """One model's keys, checked."""
    if not isinstance(values, dict):
        raise InputError("is not a table", where=where, remedy="write [[model]]")
    _check_keys(values, {one.name for one in fields(ModelConfig)}, where)
    if "source" not in values:
        raise InputError("key source is missing", where=where, remedy='add one: source = "smollm2-135m"')
    config = ModelConfig(**_typed(values, ModelConfig, where))
    for key, allowed in _PLANNED.items():
        if getattr(config, key) not in allowed:
            raise InputError(
                f"key {key} is {getattr(config, key)!r}, which is planned and not built", where=where,
                remedy=f"leave it out or write {' or '.join(map(repr, allowed))}",
            )  # fmt: skip
    if config.cache_format:
        entry_format(config.cache_format, f"{where}: key cache_format")
    for key in ("max_sequences", "max_queue"):
        if getattr(config, key) < 1:
            raise InputError(f"key {key} is {getattr(config, key)}", where=where, remedy="give at least 1")
    return config


def overridden(values: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """A model's keys with `key=value` settings put over them; values are read as TOML, else as text."""
    result = dict(values)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise InputError(
                f"{setting!r} is not key=value", where="--set", remedy="for example context=4096"
            )
        try:
            result[key] = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            result[key] = text
    return result


def _check_keys(values: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise InputError(
                f"unknown key {key!r}", where=where, remedy=f"known are {', '.join(sorted(known))}"
            )


def _check_names(models: Sequence[ModelConfig], where: str = "model") -> None:
    """A name may lead to one model only; a model that is called twice the same is no harm."""
    names = [name for model in models for name in {model.name, *model.aliases}]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two models are called {name!r}", where=where, remedy="rename one")


def _typed(values: Mapping[str, Any], kind: type[Any], where: str) -> dict[str, Any]:
    """The values, each of its field's type; lists become tuples of texts."""
    types = {one.name: str(one.type) for one in fields(kind)}
    result: dict[str, Any] = {}
    for key, value in values.items():
        wanted = types[key]
        if wanted.startswith("tuple"):
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise InputError(f"key {key} is not a list of texts", where=where, remedy='write ["a", "b"]')
            result[key] = tuple(value)
            continue
        expected: tuple[type, ...] = {"str": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}[
            wanted
        ]
        if not isinstance(value, expected) or (isinstance(value, bool) and wanted != "bool"):
            raise InputError(f"key {key} is {value!r}, not of type {wanted}", where=where, remedy="mend it")
        result[key] = value
    return result
