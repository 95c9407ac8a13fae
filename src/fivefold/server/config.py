"""The configuration of a server: frozen, decided once, unknown keys refused.

`fivefold.toml` has a table `[server]` and one `[[model]]` for each model. Only the file is read here, no
model: what a model cannot do is found by `table`.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fivefold.core.errors import InputError
from fivefold.core.request import Caching, Decoding, EvictionChoice
from fivefold.engine import AUTO, NONE, caching_named, checked, chosen_denoiser, decoding_named
from fivefold.formats import entry_format

MOST_BYTES = 1 << 60
MOST_SECONDS = 86400.0
MOST_RETRIES = 10
MOST_KEY = 4096
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,), "Decoding": (str,), "Caching": (str,), "int": (int,), "bool": (bool,),
    "float": (int, float),
}  # fmt: skip
"""By a field's type: what a value in a file may be."""

_LEAST: Mapping[str, float] = {
    "context": 0, "memory": 0, "max_sequences": 1, "max_queue": 1, "wait": 0, "idle": 0,
    "eviction_every": 0, "eviction_least": 0, "upstream_timeout": 0.001, "upstream_connect_timeout": 0.001,
    "upstream_retries": 0, "upstream_check": 0.1,
}  # fmt: skip
_MOST: Mapping[str, float] = {
    "upstream_retries": MOST_RETRIES,
    **dict.fromkeys(
        ("wait", "idle", "upstream_timeout", "upstream_connect_timeout", "upstream_check"), MOST_SECONDS
    ),
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One `[[model]]`: the name that clients ask for, where the model is, and how it runs. Without a context,
    a format or a cache_format it has those that the server was started with. Either `source` or `upstream` is
    given; the keys of the other kind may stay in the file and have no effect."""

    source: str = ""
    name: str = "default"
    aliases: tuple[str, ...] = ()
    context: int = 0
    max_sequences: int = 64
    max_queue: int = 256
    prefix_cache: bool = True
    format: str = ""
    cache_format: str = ""
    eviction: str = NONE
    budget: float = 0
    eviction_every: int = 0
    eviction_least: int = 1024
    decoding: Decoding = AUTO
    denoiser: str = ""
    caching: Caching = "none"
    memory: int = 0
    wait: float = 300
    idle: float = 0
    pinned: bool = False
    upstream: str = ""
    upstream_model: str = ""
    upstream_key: str = field(default="", repr=False)
    upstream_key_file: str = ""
    upstream_timeout: float = 600
    upstream_connect_timeout: float = 5
    upstream_retries: int = 2
    upstream_check: float = 10

    @property
    def eviction_choice(self) -> EvictionChoice:
        """Of requests that say nothing of it."""
        if self.eviction == NONE:
            return EvictionChoice()
        return EvictionChoice(self.eviction, self.budget, self.eviction_every, self.eviction_least)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The `[server]` table and the models. `memory` is in bytes, for all models' weights and caches; 0: half
    of what the machine has free, at most 8 GB. `where` is the file, for errors."""

    models: tuple[ModelConfig, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    memory: int = 0
    where: str = field(default="", compare=False)

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


def read_config(path: Path, settings: Sequence[str] = ()) -> ServerConfig:
    """The configuration in a TOML file; InputError names file, key and remedy. `key=value` settings are
    put over the first model's."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot be read ({reason})", where=str(path), remedy="name a TOML file") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"cannot be read as TOML: {error}", where=str(path), remedy="mend it") from None
    unknown = sorted(tables.keys() - {"server", "model"})
    if unknown:
        raise InputError(f"unknown table {unknown[0]!r}", where=str(path), remedy="known are server, model")
    server, models = tables.get("server", {}), tables.get("model", [])
    if not isinstance(server, dict) or not isinstance(models, list) or not models:
        raise InputError("there is no [[model]]", where=str(path), remedy="add one with a source")
    chosen = [
        model_config(values, f"{path}: model {number}") for number, values in enumerate(models, start=1)
    ]
    if settings:
        chosen[0] = model_config(overridden(models[0], settings), "--set")
    _check_names(chosen, str(path))
    where = f"{path}: server"
    known = {one.name for one in fields(ServerConfig)} - {"models", "where"}
    _check_keys(server, known, where)
    values = _typed(server, ServerConfig, where)
    if not 0 <= values.get("port", 0) <= 65535:
        raise InputError(f"key port is {values['port']}", where=where, remedy="give 0 to 65535")
    return ServerConfig(tuple(chosen), **values, where=str(path))


def model_config(values: Any, where: str) -> ModelConfig:
    """One model's keys, checked."""
    if not isinstance(values, dict):
        raise InputError("is not a table", where=where, remedy="write [[model]]")
    _check_keys(values, {one.name for one in fields(ModelConfig)}, where)
    chosen = _typed(values, ModelConfig, where)
    if not chosen.get("source") and not chosen.get("upstream"):
        raise InputError(
            "key source is missing",
            where=where,
            remedy='add source = "smollm2-135m", or upstream = "http://host:port/v1"',
        )
    if chosen.get("source") and chosen.get("upstream"):
        raise InputError("keys source and upstream are both given", where=where, remedy="leave one out")
    if chosen.get("upstream"):
        chosen["upstream"] = _address(chosen["upstream"], where)
        chosen["upstream_key"] = _key(chosen, where)
    config = ModelConfig(**chosen)
    _check_decoding(config, where)
    _check_numbers(config, where)
    _check_eviction(config, where)
    if config.cache_format:
        entry_format(config.cache_format, f"{where}: key cache_format")
    for key, names in (("name", (config.name,)), ("aliases", config.aliases)):
        if not all(name.strip() and name.isprintable() for name in names):
            raise InputError(f"key {key} has an empty or unprintable name", where=where, remedy="mend it")
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


def _check_decoding(config: ModelConfig, where: str) -> None:
    """Refuse names that nobody knows; what a model cannot do is found with the model."""
    try:
        decoding_named(config.decoding)
        caching_named(config.caching)
        if config.denoiser:
            chosen_denoiser(config.denoiser)
    except InputError as error:
        raise InputError(error.what, where=f"{where}: key {error.where}", remedy=error.remedy) from None


def _check_numbers(config: ModelConfig, where: str) -> None:
    for key, least in _LEAST.items():
        value, most = getattr(config, key), _MOST.get(key, math.inf)
        if not (-math.inf < value < math.inf and least <= value <= most):
            bound = f"at least {least:g}" if math.isinf(most) else f"{least:g} to {most:g}"
            raise InputError(f"key {key} is {value}", where=where, remedy=f"give {bound}")


def _check_eviction(config: ModelConfig, where: str) -> None:
    """Refuse an eviction that no model can be served with."""
    try:
        checked(EvictionChoice(config.eviction, config.budget, config.eviction_every))
    except InputError as error:
        raise InputError(error.what, where=f"{where}: key {error.where}", remedy=error.remedy) from None


def _address(text: str, where: str) -> str:
    """The address of an upstream engine, to which paths such as /chat/completions are added."""
    try:
        parts = urlsplit(text)
        good = bool(parts.scheme in ("http", "https") and parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if (
        not good
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
        or not text.isprintable()
        or " " in text
    ):
        raise InputError(
            f"key upstream is {text[:200]!r}, which is not an address of an engine", where=where,
            remedy='write it as "http://HOST:PORT/v1", and a key as upstream_key',
        )  # fmt: skip
    return text.rstrip("/")


def _key(chosen: Mapping[str, Any], where: str) -> str:
    """The key that an upstream asks for: as it stands in the configuration, or in a file of its own."""
    key, name = str(chosen.get("upstream_key", "")), chosen.get("upstream_key_file", "")
    if key and name:
        raise InputError(
            "keys upstream_key and upstream_key_file are both given", where=where, remedy="leave one out"
        )
    where_key = f"{where}: key {'upstream_key_file' if name else 'upstream_key'}"
    if name:
        try:
            with Path(name).open(encoding="ascii") as file:
                key = file.read(MOST_KEY + 1).strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not plain text"
            raise InputError(
                f"{name} cannot be read ({reason})", where=where_key, remedy="name a file with the key"
            ) from None
    if (name and not key) or len(key) > MOST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise InputError("the key is empty or has characters that no key has", where=where_key,
                         remedy="give the key alone")  # fmt: skip
    return key


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
    """The values, each of its field's type; lists become tuples of texts, and sizes bytes."""
    types = {one.name: str(one.type) for one in fields(kind)}
    result: dict[str, Any] = {}
    for key, value in values.items():
        wanted = types[key]
        if key == "memory":
            result[key] = parse_size(value, f"{where}: key memory")
            continue
        if wanted.startswith("tuple"):
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise InputError(f"key {key} is not a list of texts", where=where, remedy='write ["a", "b"]')
            result[key] = tuple(value)
            continue
        expected = _TYPES[wanted]
        if not isinstance(value, expected) or (isinstance(value, bool) and wanted != "bool"):
            told = "" if "key" in key else f"{value!r:.100}, "  # a secret is told to nobody
            raise InputError(f"key {key} is {told}not of type {wanted}", where=where, remedy="mend it")
        result[key] = value
    return result
