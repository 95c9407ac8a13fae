"""The models behind a server's names: found by name, brought into memory, and changed while requests run.

A change takes a whole configuration. What did not change stays as it is; requests under way end on the
model on which they began; and if anything of the new one is wrong, the old one stays. Where the memory has
room for both, the new model is loaded before it takes its name, so nobody waits; else the old one ends
first, and those who ask meanwhile wait, or come again, as the configuration says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.types import Receive

from fivefold.core.errors import FivefoldError, InputError
from fivefold.engine import EngineOptions, Lease, LoadError, LoadOptions, Recipe, Residency

from .body import gone
from .config import ServerConfig
from .errors import ApiError, bad_request
from .served import ServedModel, open_served
from .table import Entry, LocalEntry, Maker, Table, UpstreamEntry, place_of, placed

if TYPE_CHECKING:
    from .upstream import Upstream

_LOG = logging.getLogger("fivefold.server")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a configuration comes from when it is read again, and who is told of it."""

    read: Callable[[], ServerConfig]
    maker: Maker
    changed: Callable[[Table], None] = lambda _: None


class Models:
    """The table of names and the memory behind it. `source` is None where there is no file to read again."""

    def __init__(self, table: Table, residency: Residency[ServedModel], source: Source | None = None) -> None:
        self.residency = residency
        self._table = table
        self._source = source
        self._reloading = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    @classmethod
    def prepared(cls, config: ServerConfig, maker: Maker, source: Source | None = None) -> Models:
        """The models of a configuration, checked; those that must answer from the start are loaded."""
        table = maker.table(config)
        residency = Residency(table.budget, open_served)
        for entry in table.early:
            try:
                residency.adopt(entry.recipe, open_served(entry.recipe))
            except FivefoldError as error:
                raise placed(error, place_of(table.where, table.entries.index(entry)), "key source") from None
        return cls(table, residency, source)

    @classmethod
    def of(cls, served: Sequence[ServedModel], api_keys: Sequence[str] = ()) -> Models:
        """Models that are in memory already and stay there."""
        residency: Residency[ServedModel] = Residency(0, open_served)
        entries: list[Entry] = []
        for one in served:
            recipe = Recipe(one.config.name, Path(one.config.source), LoadOptions(), EngineOptions(), 0, True)
            residency.adopt(recipe, one)
            entries.append(LocalEntry(one.config, recipe, one.context, one.created))
        return cls(Table(tuple(entries), 0, tuple(api_keys)), residency)

    @property
    def table(self) -> Table:
        """The names as they are now."""
        return self._table

    @property
    def can_reload(self) -> bool:
        """Whether there is a file to read again."""
        return self._source is not None

    async def lease(self, entry: LocalEntry, receive: Receive) -> Lease[ServedModel]:
        """A model, in memory until the lease is released; ApiError if it cannot be had or the client left."""
        config, recipe = entry.config, entry.recipe
        most = config.max_sequences + config.max_queue
        asking = self.residency.lease(recipe, config.wait, most)
        try:
            if self.residency.resident(recipe) is not None:
                return await asking
            return await _unless_gone(asking, receive)
        except LoadError as error:
            headers = {"retry-after": "5", "x-should-retry": "false"}
            message = f"model {config.name!r} cannot be loaded: {error.line()}"
            raise ApiError(503, message, code="model_not_loaded", headers=headers) from None

    def state(self, entry: Entry) -> str:
        """How it is with an entry's model: loaded, loading, failed, unloaded; or up, down, unknown."""
        if isinstance(entry, UpstreamEntry):
            return {True: "up", False: "down", None: "unknown"}[entry.upstream.up]
        return self.residency.state(entry.recipe)

    def answers(self, entry: Entry) -> bool:
        """Whether a request would be answered: at once, or after a load that has not begun or failed."""
        if isinstance(entry, LocalEntry):
            resident = self.residency.resident(entry.recipe)
            if resident is not None:
                return resident.engine.healthy
        state = self.state(entry)
        return state == "up" or (state == "unloaded" and entry.config.wait > 0)

    async def start(self) -> None:
        """Start the engines of what is in memory, and look at the upstreams."""
        await self.residency.start()
        await asyncio.gather(*(upstream.start() for upstream in self._table.upstreams))

    async def close(self) -> None:
        """End everything, and what is under way with it."""
        self.cancel_all()
        await asyncio.gather(*(upstream.close() for upstream in self._table.upstreams), *self._closing)
        await self.residency.close()

    def cancel_all(self) -> None:
        """End what is under way with an error of its own."""
        self.residency.cancel_all()
        for upstream in self._table.upstreams:
            upstream.cancel_all()

    async def reload(self) -> dict[str, Any]:
        """Read the configuration again and take it; what changed, by name. FivefoldError changes nothing."""
        if self._source is None:
            raise InputError(
                "the server was started without a configuration file", where="reload",
                remedy="start it with --config",
            )  # fmt: skip
        async with self._reloading:
            before = self._table
            config = await asyncio.to_thread(self._source.read)
            if (config.host, config.port) != before.address:
                raise InputError(
                    "host or port has changed", where=f"{config.where}: server",
                    remedy="start the server again for that",
                )  # fmt: skip
            table = await asyncio.to_thread(self._source.maker.table, config, before)
            await self._switch(before, table)
            self._source.changed(table)
            return _changes(before, table)

    async def reload_logged(self) -> None:
        """The same for a signal, which nobody can answer: the log says what was wrong."""
        try:
            await self.reload()
        except FivefoldError as error:
            _LOG.warning("the configuration was not taken: %s", error.line())
        except Exception:
            _LOG.exception("the configuration was not taken")

    async def _switch(self, before: Table, table: Table) -> None:
        """Put one table in place of another, with the models that must answer at once."""
        fresh = _recipes(table) - _recipes(before)
        loaded = {entry.config.name for entry in before.local if self.state(entry) == "loaded"}
        were_early = {entry.recipe for entry in before.early}
        early = [
            entry.recipe
            for entry in table.local
            if self.state(entry) != "loaded"
            and (
                (entry in table.early and entry.recipe not in were_early)
                or (entry.recipe in fresh and entry.config.name in loaded)
            )
        ]
        added = [one for one in table.upstreams if one not in before.upstreams]
        gone_upstreams = [one for one in before.upstreams if one not in table.upstreams]
        await asyncio.gather(*(upstream.start() for upstream in added))
        self.residency.budget = table.budget
        with ExitStack() as held:
            try:
                if self.residency.fits(sum(recipe.bytes for recipe in early)):
                    await self._load(early, held)
                    self._install(table, before)
                else:
                    self._install(table, before)
                    await self._load(early, held)
            except BaseException:
                await self._go_back(before, table)
                raise
            finally:
                self._close(added if self._table is before else gone_upstreams)

    def _install(self, table: Table, before: Table) -> None:
        """From now on names lead to this table's models; those of the other that it has not are given up."""
        self._table = table
        self.residency.budget = table.budget
        for recipe in _recipes(before) - _recipes(table):
            self.residency.retire(recipe)
        for entry in table.local:
            self.residency.renew(entry.recipe)

    async def _go_back(self, before: Table, table: Table) -> None:
        """A table's models could not be had: the one before it stands again, its models in memory."""
        self._install(before, table)
        with ExitStack() as held, contextlib.suppress(FivefoldError):
            await self._load([entry.recipe for entry in before.early], held)

    async def _load(self, recipes: Iterable[Recipe], held: ExitStack) -> None:
        """Have models in memory for as long as `held` is open."""
        for recipe in recipes:
            held.enter_context(await self.residency.lease(recipe))

    def _close(self, upstreams: Iterable[Upstream]) -> None:
        """End upstreams when what is under way with them has ended."""
        for upstream in upstreams:
            task = asyncio.get_running_loop().create_task(upstream.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


async def _unless_gone(asking: Any, receive: Receive) -> Lease[ServedModel]:
    """Wait for a lease for as long as the client does."""
    wanted: asyncio.Future[Lease[ServedModel]] = asyncio.ensure_future(asking)
    leaving = asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait((wanted, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise bad_request("the client went away")
        return wanted.result()
    except asyncio.CancelledError:
        if wanted.done() and not wanted.cancelled() and wanted.exception() is None:
            wanted.result().release()
        raise
    finally:
        leaving.cancel()
        wanted.cancel()


def _recipes(table: Table) -> set[Recipe]:
    return {entry.recipe for entry in table.local}


def _changes(before: Table, table: Table) -> dict[str, Any]:
    """What is new, what has changed, and what has gone, by name."""
    old = {entry.config.name: entry.config for entry in before.entries}
    told = {
        entry.config.name: "added" if entry.config.name not in old
        else "unchanged" if entry.config == old[entry.config.name] else "changed"
        for entry in table.entries
    }  # fmt: skip
    return {"status": "ok", "models": told, "removed": [name for name in old if name not in told]}
