"""Which models are in memory: loaded when they are asked for, within one budget, and unloaded again.

Everybody who uses a model holds a lease of it. Loads run one after the other, each on a thread, in the
order in which they were asked for; all who ask for the same model wait for the same load, and one who
leaves does not end it. Room is made before anything is loaded: the model that was used least recently and
that nobody holds goes first. If all are held, the load waits a moment for one to become free, and then the
one used least recently takes no new requests, so that a busy model cannot keep the others out for ever. A
pinned model stays. A load that fails leaves its error to those who waited, and for some seconds to those
who come after them.

All methods are for one event loop. Nothing here knows names that clients use, or HTTP.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Generic

from fivefold.core.errors import FivefoldError, OverloadedError

from .figures import Totals
from .seats import AnyOpened, Lease, Loading, Recipe, Seat

PATIENCE_SECONDS = 2.0
"""How long a load waits for a model to become free before it asks one to take no more requests."""

FAILED_SECONDS = 5.0
"""How long a failed load is remembered: until then nobody waits for another try."""

FIRST_RATE = 300e6
"""Bytes a second of loading, before any was measured."""

_LOG = logging.getLogger("fivefold.engine")


class LoadError(FivefoldError):
    """A model could not be loaded; the error says why."""


class Residency(Generic[AnyOpened]):
    """The models in memory. `open_model` loads one, on a thread of its own."""

    def __init__(self, budget: int, open_model: Callable[[Recipe], AnyOpened]) -> None:
        self.budget = budget
        self.loads: dict[str, int] = {}
        self._open = open_model
        self._seats: dict[Recipe, Seat[AnyOpened]] = {}
        self._leaving: list[Seat[AnyOpened]] = []
        self._loading: dict[Recipe, Loading[AnyOpened]] = {}
        self._failed: dict[Recipe, tuple[float, FivefoldError]] = {}
        self._past: dict[str, Totals] = {}
        self._taken = 0
        self._going = 0  # of those that leave, until their memory is free
        self._rate = FIRST_RATE
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._unloads: set[asyncio.Task[None]] = set()
        self._timers: dict[Recipe, asyncio.TimerHandle] = {}
        self._closed = False

    @property
    def used(self) -> int:
        """Bytes of the budget that are taken: by models in memory, leaving, or being loaded."""
        return self._taken

    def adopt(self, recipe: Recipe, opened: AnyOpened) -> None:
        """Count a model that is in memory already. Its engine is started and ended here."""
        self._seats[recipe] = Seat(recipe, opened)
        self._taken += recipe.bytes
        self.loads[recipe.name] = self.loads.get(recipe.name, 0) + 1

    def resident(self, recipe: Recipe) -> AnyOpened | None:
        """The model if it is in memory and takes requests."""
        seat = self._seats.get(recipe)
        return None if seat is None else seat.opened

    def state(self, recipe: Recipe) -> str:
        """`loaded`, `loading`, `failed` or `unloaded`."""
        if recipe in self._seats:
            return "loaded"
        if recipe in self._loading:
            return "loading"
        return "failed" if recipe in self._failed else "unloaded"

    async def lease(
        self, recipe: Recipe, wait_seconds: float = math.inf, most: int = 1024
    ) -> Lease[AnyOpened]:
        """A lease of the model, which is loaded if it is not there.

        OverloadedError if it is not there within `wait_seconds` (the load goes on), or if `most` wait
        already; LoadError if it cannot be loaded.
        """
        seat = self._seats.get(recipe)
        if seat is not None:
            return self._hold(seat)
        loading = self._begin(recipe)
        if wait_seconds <= 0 or len(loading.waiters) >= most:
            raise self._busy(recipe)
        waiter: asyncio.Future[Lease[AnyOpened]] = asyncio.get_running_loop().create_future()
        loading.waiters.append(waiter)
        try:
            await asyncio.wait((waiter,), timeout=None if math.isinf(wait_seconds) else wait_seconds)
            if not waiter.done():
                raise self._busy(recipe)
            return waiter.result()
        except asyncio.CancelledError:
            if waiter.done() and waiter.exception() is None:
                waiter.result().release()
            raise
        finally:
            waiter.cancel()
            loading.waiters.remove(waiter)

    def fits(self, size: int) -> bool:
        """Whether so many bytes can be had without anybody having to leave."""
        return self._taken + size <= self.budget

    def retire(self, recipe: Recipe) -> None:
        """The model is wanted no longer: it goes as soon as nobody holds it."""
        self._failed.pop(recipe, None)
        loading = self._loading.get(recipe)
        if loading is not None:
            loading.retired = True
        seat = self._seats.get(recipe)
        if seat is not None:
            self._leave(seat)

    def renew(self, recipe: Recipe) -> None:
        """Take over what of an equal recipe may change while its model is in memory."""
        seat = self._seats.get(recipe)
        if seat is not None and seat.recipe is not recipe:
            self._seats[recipe] = self._seats.pop(recipe)
            seat.recipe = recipe
            if not seat.holders:
                self._released(seat)

    def opened(self) -> Iterator[tuple[str, AnyOpened]]:
        """Every model in memory with its recipe's name, those that are leaving too."""
        for seat in (*self._seats.values(), *self._leaving):
            yield seat.recipe.name, seat.opened

    @property
    def names(self) -> tuple[str, ...]:
        """Names of models that have been in memory and are no longer."""
        return tuple(self._past)

    def past(self, name: str) -> Totals:
        """The totals of all models of a name that are in memory no longer."""
        return self._past.get(name, Totals())

    def cancel_all(self) -> None:
        """End what is under way on every model, and let nobody wait any longer."""
        for _, opened in self.opened():
            opened.engine.cancel_all()
        stopping = OverloadedError("the server is stopping", remedy="ask again later")
        for loading in self._loading.values():
            _fail(loading, stopping)

    async def start(self) -> None:
        """Start the engines of adopted models."""
        for seat in self._seats.values():
            await seat.opened.engine.start()
            self._released(seat)

    async def close(self) -> None:
        """End everything; loads that have begun are waited for."""
        self._closed = True
        self.cancel_all()
        for timer in self._timers.values():
            timer.cancel()
        tasks = [loading.task for loading in self._loading.values() if loading.task is not None]
        self._changed.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._unloads, return_exceptions=True)
        await asyncio.gather(*(opened.engine.close() for _, opened in self.opened()))

    def _hold(self, seat: Seat[AnyOpened]) -> Lease[AnyOpened]:
        timer = self._timers.pop(seat.recipe, None)
        if timer is not None:
            timer.cancel()
        return Lease(seat, self._released)

    def _released(self, seat: Seat[AnyOpened]) -> None:
        if seat.holders:
            return
        self._changed.set()
        if seat.leaving:
            self._unload_soon(seat)
        elif seat.recipe.idle_seconds > 0 and not seat.recipe.pinned and not self._closed:
            loop = asyncio.get_running_loop()
            if seat.recipe in self._timers:
                self._timers.pop(seat.recipe).cancel()
            self._timers[seat.recipe] = loop.call_later(seat.recipe.idle_seconds, self._leave, seat)

    def _busy(self, recipe: Recipe) -> OverloadedError:
        seconds = min(max(1.0, recipe.bytes / self._rate), 120.0)
        return OverloadedError(
            "the model is being loaded", where=recipe.name, remedy="ask again later", retry_after=seconds
        )

    def _begin(self, recipe: Recipe) -> Loading[AnyOpened]:
        """The load that is under way, or a new one."""
        loading = self._loading.get(recipe)
        if loading is not None:
            loading.retired = False
            return loading
        if self._closed:
            raise OverloadedError("the server is stopping", remedy="ask again later")
        when, error = self._failed.get(recipe, (0.0, None))
        if error is not None and time.monotonic() - when < FAILED_SECONDS:
            raise _load_error(error)
        loading = self._loading[recipe] = Loading(recipe)
        loading.task = asyncio.get_running_loop().create_task(self._load(loading))
        return loading

    async def _load(self, loading: Loading[AnyOpened]) -> None:
        """Make room, load, and hand out leases; whatever goes wrong is told to those who wait."""
        recipe = loading.recipe
        try:
            async with self._turn:
                await self._make_room(recipe.bytes)
                seat = await self._seat(recipe)
        except Exception as error:
            told = error if isinstance(error, LoadError | OverloadedError) else _load_error(error)
            if not isinstance(error, FivefoldError):
                _LOG.exception("a model could not be loaded")
            del self._loading[recipe]
            if not loading.retired and not isinstance(told, OverloadedError):
                self._failed[recipe] = (time.monotonic(), told)
            _fail(loading, told)
            return
        del self._loading[recipe]
        self._failed.pop(recipe, None)
        self._seats[recipe] = seat
        self.loads[recipe.name] = self.loads.get(recipe.name, 0) + 1
        for waiter in loading.waiters:
            if not waiter.done():
                waiter.set_result(self._hold(seat))
        if loading.retired:
            self._leave(seat)
        elif not seat.holders:
            self._released(seat)

    async def _seat(self, recipe: Recipe) -> Seat[AnyOpened]:
        """Load a model for which there is room."""
        self._taken += recipe.bytes
        began = time.monotonic()
        try:
            opened = await asyncio.to_thread(self._open, recipe)
            await opened.engine.start()
        except BaseException:
            self._taken -= recipe.bytes
            raise
        self._rate = max(recipe.bytes / max(time.monotonic() - began, 0.001), 1e6)
        return Seat(recipe, opened)

    async def _make_room(self, size: int) -> None:
        """Unload until `size` bytes are free. LoadError if what must stay leaves no room."""
        patient = True
        while self._taken + size > self.budget:
            if self._closed:
                raise OverloadedError("the server is stopping", remedy="ask again later")
            loose = [seat for seat in self._seats.values() if not seat.recipe.pinned]
            idle = [seat for seat in loose if not seat.holders]
            if self._taken + size - self._going <= self.budget:
                await self._wait(None)
            elif not loose:
                raise LoadError(
                    f"it takes {size} bytes, and models that must stay have {self._taken} of {self.budget}",
                    remedy="give more memory, or pin fewer models",
                )  # fmt: skip
            elif patient and not idle:
                patient = await self._wait(PATIENCE_SECONDS)
            else:
                self._leave(min(idle or loose, key=lambda seat: seat.used))

    async def _wait(self, seconds: float | None) -> bool:
        """Until something has changed; False when nothing has for so long."""
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _leave(self, seat: Seat[AnyOpened]) -> None:
        """From now on nobody new gets this model; it goes when nobody holds it."""
        if seat.leaving:
            return
        seat.leaving = True
        del self._seats[seat.recipe]
        self._leaving.append(seat)
        self._going += seat.bytes
        if not seat.holders:
            self._unload_soon(seat)

    def _unload_soon(self, seat: Seat[AnyOpened]) -> None:
        task = asyncio.get_running_loop().create_task(self._unload(seat))
        self._unloads.add(task)
        task.add_done_callback(self._unloads.discard)

    async def _unload(self, seat: Seat[AnyOpened]) -> None:
        """End a model's engine and forget the model; its memory is free when this returns."""
        await seat.opened.engine.close()
        self._past[seat.recipe.name] = self.past(seat.recipe.name).plus(seat.opened.engine.figures())
        self._leaving.remove(seat)
        size = seat.bytes
        del seat.opened
        await asyncio.to_thread(gc.collect)
        self._going -= size
        self._taken -= size
        self._changed.set()


def _fail(loading: Loading[AnyOpened], error: FivefoldError) -> None:
    for waiter in loading.waiters:
        if not waiter.done():
            waiter.set_exception(error)


def _load_error(error: Exception) -> LoadError:
    if isinstance(error, FivefoldError):
        return LoadError(error.what, where=error.where, remedy=error.remedy)
    if isinstance(error, MemoryError):
        return LoadError(
            "there is not enough memory for it", remedy="give it less memory or a smaller context"
        )
    return LoadError("loading it failed by a fault of the engine", remedy="its log says more")
