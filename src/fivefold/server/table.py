"""What stands behind each name: a model of this machine or an upstream engine, checked beforehand.

A table is made from a configuration as a whole or not at all, and then never changes; a new configuration
makes a new one. What did not change keeps its entry, and so the model in memory. No weight is read here:
sizes come from the heads of files.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.types import Receive, Send

from fivefold.core.checkpoint import Conversion
from fivefold.core.errors import FivefoldError, InputError
from fivefold.engine import EngineOptions, LoadOptions, Need, Recipe, need_of

from .config import ModelConfig, ServerConfig
from .errors import ApiError

if TYPE_CHECKING:
    from .upstream import Upstream


@dataclass(frozen=True, slots=True, eq=False)
class LocalEntry:
    """A name whose model runs here. `notice` is a line for people if it does so on another backend."""

    config: ModelConfig
    recipe: Recipe
    context: int
    created: int
    notice: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class UpstreamEntry:
    """A name behind which another engine answers."""

    config: ModelConfig
    upstream: Upstream
    created: int
    relay: Callable[[Upstream, str, bytes, Receive, Send], Awaitable[None]]


Entry = LocalEntry | UpstreamEntry

_KEYS = {"--context": "key context"} | {
    key: f"key {key}" for key in ("eviction", "decoding", "denoiser", "caching")
}
"""By where an error was found that is not the source's: the key that says it."""


@dataclass(frozen=True, slots=True)
class Table:
    """All entries; the first is the default. `budget` is the memory of all models of this machine."""

    entries: tuple[Entry, ...]
    budget: int
    api_keys: tuple[str, ...] = ()
    address: tuple[str, int] = ("", 0)
    where: str = ""
    names: dict[str, Entry] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for entry in self.entries:
            for name in (entry.config.name, *entry.config.aliases):
                self.names.setdefault(name, entry)

    @property
    def default(self) -> Entry:
        """What answers requests that name no model."""
        return self.entries[0]

    @property
    def local(self) -> list[LocalEntry]:
        """The models of this machine."""
        return [entry for entry in self.entries if isinstance(entry, LocalEntry)]

    @property
    def upstreams(self) -> list[Upstream]:
        """The engines elsewhere."""
        return [entry.upstream for entry in self.entries if isinstance(entry, UpstreamEntry)]

    @property
    def early(self) -> list[LocalEntry]:
        """Those that are loaded before anybody asks: the default and the pinned ones."""
        return [one for one in self.local if one is self.entries[0] or one.config.pinned]

    def find(self, name: str | None) -> Entry:
        """The entry that a request names; 404 for a stranger."""
        if name is None:
            return self.default
        entry = self.names.get(name)
        if entry is None:
            known = ", ".join(self.names)
            message = f"there is no model {name[:100]!r} here; there are: {known}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return entry


def _no_conversion(name: str, where: str) -> Conversion | None:
    """Of a server that was made without any: all is loaded as it is stored."""
    if name == "auto":
        return None
    raise InputError(f"{name!r:.60} needs a conversion at load", where=where, remedy="write 'auto'")


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes tables. `find` turns a source into a path; `options` are the command's own."""

    find: Callable[[str], Path]
    options: LoadOptions
    clock: Callable[[], float]
    memory: Callable[[], int]
    """What the machine can give, where no memory is configured."""

    conversion: Callable[[str, str], Conversion | None] = _no_conversion
    """From a format's name, and where it stands, to what matrices are loaded as; None is as stored."""

    def table(self, config: ServerConfig, before: Table | None = None) -> Table:
        """The table of a configuration; InputError says in one line what is wrong, and where."""
        budget = config.memory or (before.budget if before is not None else self.memory())
        known = {} if before is None else {entry.config.name: entry for entry in before.entries}
        share = _share([one for one in config.models if not one.upstream], budget)
        entries: list[Entry] = []
        for number, one in enumerate(config.models):
            entry = known.get(one.name)
            if one.upstream:
                same = isinstance(entry, UpstreamEntry) and entry.config == one
                entries.append(entry if entry and same else self._upstream(one, self._where(config, one)))
                continue
            where = self._where(config, one)
            old = entry if isinstance(entry, LocalEntry) and entry.recipe.bytes <= budget else None
            early = number == 0 or one.pinned
            entries.append(self._local(one, old, where, (one.memory or share, budget), early))
        table = Table(tuple(entries), budget, config.api_keys, (config.host, config.port), config.where)
        _check_room(table, config.where)
        return table

    @staticmethod
    def _where(config: ServerConfig, one: ModelConfig) -> str:
        """Which part of the file an error is about; nothing where there is no file."""
        return place_of(config.where, config.models.index(one))

    def _upstream(self, config: ModelConfig, where: str) -> UpstreamEntry:
        relay = importlib.import_module(f"{__package__}.relay")  # its HTTP client takes time to import
        try:
            upstream = relay.Upstream(config)
        except FivefoldError as error:
            raise placed(error, where, "key upstream") from None
        return UpstreamEntry(config, upstream, int(self.clock()), relay.relay)

    def _local(
        self, config: ModelConfig, old: LocalEntry | None, where: str, memory: tuple[int, int], early: bool
    ) -> LocalEntry:
        """The entry of a model; the old one's recipe where nothing of it has changed."""
        options = dataclasses.replace(
            self.options,
            context=config.context or self.options.context,
            cache_format=config.cache_format or self.options.cache_format,
            sequences=min(config.max_sequences, self.options.sequences),
            eviction=config.eviction,
            decoding=config.decoding,
            denoiser=config.denoiser,
            caching=config.caching,
        )
        if config.format:
            place = f"{where}: key format" if where else "key format"
            options = dataclasses.replace(options, conversion=self.conversion(config.format, place))
        try:
            path = self.find(config.source)
        except FivefoldError as error:
            raise placed(error, where, "key source") from None
        if old is not None and _same(old.config, config) and old.recipe.path == path:
            recipe = dataclasses.replace(old.recipe, pinned=config.pinned, idle_seconds=config.idle)
            return LocalEntry(config, recipe, old.context, old.created, old.notice)
        try:
            need = need_of(path, options, with_vocabulary=not early)
        except FivefoldError as error:
            raise placed(error, where, _KEYS.get(error.where, "key source")) from None
        try:
            entries = _entries(need, config.memory, *memory)
        except FivefoldError as error:
            raise placed(error, where, "key memory" if config.memory else "key source") from None
        engine = EngineOptions(
            config.max_sequences, config.max_queue, config.prefix_cache, eviction=config.eviction_choice,
            decoding=config.decoding, denoiser=config.denoiser, caching=config.caching,
        )  # fmt: skip
        chosen = dataclasses.replace(options, context=need.context, entries=entries)
        recipe = Recipe(config.name, path, chosen, engine, need.bytes(entries), config.pinned, config.idle)
        return LocalEntry(config, recipe, need.context, int(self.clock()), need.notice)


def place_of(where: str, index: int) -> str:
    """A model's place in a file, for errors; nothing where there is no file."""
    return f"{where}: model {index + 1}" if where else ""


def placed(error: FivefoldError, where: str, key: str) -> FivefoldError:
    """The same error with the place in the file before it, if there is a file."""
    if not where:
        return error
    place = f"{where}: {key}"
    if error.where and error.where not in _KEYS and not error.where.startswith("--"):
        place = f"{place}: {error.where}"
    return InputError(error.what, where=place, remedy=error.remedy)


def _share(models: Sequence[ModelConfig], budget: int) -> int:
    """What each model may take that does not say so itself: an equal part of what the others leave."""
    given = [one.memory for one in models if one.memory]
    rest = len(models) - len(given)
    left = budget - sum(given)
    return (left if left > 0 else budget) // max(rest, 1)


def _entries(need: Need, own: int, wanted: int, budget: int) -> int:
    """Entries of a model's cache: what fits in its own memory or in its share, at least what it must have."""
    if own or need.least_bytes >= budget:
        return need.entries(min(own or budget, budget))
    return need.entries(max(wanted, need.least_bytes + 1))


def _same(old: ModelConfig, new: ModelConfig) -> bool:
    """Whether a line says the same of the model in memory; names and patience may differ."""
    free = ("aliases", "wait", "idle", "pinned", "source")
    kept = {key: getattr(old, key) for key in free}
    changed = {
        one.name: getattr(old, one.name)
        for one in dataclasses.fields(ModelConfig)
        if one.name.startswith("upstream")
    }
    return dataclasses.replace(new, **kept, **changed) == old


def _check_room(table: Table, where: str) -> None:
    """Refuse a model for which there can never be room beside those that stay."""
    pinned = [one for one in table.local if one.config.pinned]
    for one in table.local:
        others = sum(other.recipe.bytes for other in pinned if other is not one)
        if one.recipe.bytes + others > table.budget:
            raise InputError(
                f"model {one.config.name!r} takes {one.recipe.bytes} bytes, pinned models {others}, and the "
                f"memory is {table.budget}", where=where or "memory",
                remedy="give more memory, a key memory for each model, or pin fewer",
            )  # fmt: skip
