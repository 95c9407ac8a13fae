"""Models in and out of memory: one budget, shared loads, nobody unloaded in use, failures without a trace."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fivefold.core.errors import FileError, OverloadedError
from fivefold.core.runner import CacheFigures
from fivefold.engine import (
    EngineFigures,
    EngineOptions,
    LoadError,
    LoadOptions,
    Recipe,
    Residency,
)
from fivefold.engine import residency as residency_module

TINY = Path(__file__).parent / "data" / "tiny.gguf"


class FakeEngine:
    """An engine that counts its starts and ends."""

    def __init__(self) -> None:
        self.started = self.closed = self.cancelled = 0

    async def start(self) -> None:
        self.started += 1

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1

    def cancel_all(self) -> None:
        self.cancelled += 1

    def figures(self) -> EngineFigures:
        return EngineFigures(0, 0, CacheFigures(1, 1, 0, 1), 1, 0, 10, 5, 7, 1, 0.1)


class FakeModel:
    """What a load gives; it knows whether it is still in memory."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.engine: Any = FakeEngine()


class Loads:
    """Loads fake models, one for each recipe, and looks that the budget is never passed."""

    def __init__(self, budget: int, seconds: float = 0.0) -> None:
        self.made: list[FakeModel] = []
        self.wrong: dict[str, Exception] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.seconds = seconds
        self.most = 0
        self.at_once = 0
        self.residency: Residency[Any] = Residency(budget, self.open)

    def open(self, recipe: Recipe) -> FakeModel:
        self.at_once += 1
        assert self.at_once == 1, "two loads at once"
        assert self.gate.wait(60)
        time.sleep(self.seconds)
        living = sum(one.recipe.bytes for one in self.made if not one.engine.closed)
        self.most = max(self.most, living + recipe.bytes)
        self.at_once -= 1
        if recipe.name in self.wrong:
            raise self.wrong[recipe.name]
        self.made.append(FakeModel(recipe))
        return self.made[-1]

    @property
    def names(self) -> list[str]:
        return [one.recipe.name for one in self.made]

    @property
    def living(self) -> set[str]:
        return {one.recipe.name for one in self.made if not one.engine.closed}


def recipe(name: str, size: int = 10, **more: Any) -> Recipe:
    return Recipe(name, Path(name), LoadOptions(), EngineOptions(), size, **more)


def run(work: Awaitable[None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(work, 120)

    asyncio.run(bounded())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency_module, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(residency_module, "FAILED_SECONDS", 0.2)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.001)


def test_a_model_is_loaded_once_for_all_who_ask() -> None:
    async def work() -> None:
        loads = Loads(100, 0.02)
        leases = await asyncio.gather(*(loads.residency.lease(recipe("a")) for _ in range(20)))
        assert loads.names == ["a"]
        assert len({id(lease.opened) for lease in leases}) == 1
        assert loads.made[0].engine.started == 1
        for lease in leases:
            lease.release()
            lease.release()
        assert loads.residency.used == 10
        with await loads.residency.lease(recipe("a")) as again:
            assert again is loads.made[0]
        assert loads.names == ["a"]
        await loads.residency.close()
        assert loads.made[0].engine.closed == 1

    run(work())


def test_the_least_recently_used_goes_and_what_is_in_use_stays() -> None:
    async def work() -> None:
        loads = Loads(30)
        held = await loads.residency.lease(recipe("a"))
        for name in ("b", "c", "b", "d"):
            (await loads.residency.lease(recipe(name))).release()
            await asyncio.sleep(0.002)
        assert loads.living == {"a", "b", "d"}, "a is held and b was used after c"
        held.release()
        (await loads.residency.lease(recipe("e", 25))).release()
        assert loads.living == {"e"}
        assert loads.most <= 30
        assert loads.residency.used == 25
        await loads.residency.close()

    run(work())


def test_a_busy_model_is_waited_for_and_then_takes_no_more() -> None:
    async def work() -> None:
        loads = Loads(10)
        first = await loads.residency.lease(recipe("a"))
        wanted = asyncio.ensure_future(loads.residency.lease(recipe("b")))
        await asyncio.sleep(0.01)
        more = await loads.residency.lease(recipe("a"))
        assert more.opened is first.opened, "for a moment the busy model goes on as before"
        await asyncio.sleep(0.1)
        late = asyncio.ensure_future(loads.residency.lease(recipe("a")))
        await asyncio.sleep(0.01)
        assert not wanted.done()
        assert not late.done(), "the next to ask comes after the one who waits"
        assert loads.living == {"a"}
        first.release()
        await asyncio.sleep(0.01)
        assert not wanted.done()
        more.release()
        lease = await wanted
        assert loads.names == ["a", "b"]
        lease.release()
        (await late).release()
        assert loads.names == ["a", "b", "a"]
        assert loads.most == 10
        await loads.residency.close()

    run(work())


def test_a_leaving_waiter_does_not_end_a_shared_load() -> None:
    async def work() -> None:
        loads = Loads(100)
        loads.gate.clear()
        asks = [asyncio.ensure_future(loads.residency.lease(recipe("a"))) for _ in range(3)]
        await asyncio.sleep(0.01)
        asks[0].cancel()
        asks[2].cancel()
        await asyncio.sleep(0)
        loads.gate.set()
        lease = await asks[1]
        assert loads.names == ["a"]
        lease.release()
        loads.gate.clear()
        alone = asyncio.ensure_future(loads.residency.lease(recipe("b")))
        await asyncio.sleep(0.01)
        alone.cancel()
        loads.gate.set()
        await until(lambda: loads.residency.state(recipe("b")) == "loaded")
        assert loads.living == {"a", "b"}
        assert loads.residency.used == 20
        await loads.residency.close()

    run(work())


def test_a_waiter_that_is_cancelled_as_its_lease_comes_holds_nothing() -> None:
    async def work() -> None:
        loads = Loads(10)
        for _ in range(20):
            ask = asyncio.ensure_future(loads.residency.lease(recipe("a")))
            await until(lambda: loads.residency.state(recipe("a")) == "loaded")
            ask.cancel()
            await asyncio.gather(ask, return_exceptions=True)
            if not ask.cancelled():
                ask.result().release()
            loads.residency.retire(recipe("a"))
            await until(lambda: loads.residency.used == 0)
        await loads.residency.close()

    run(work())


def test_who_does_not_want_to_wait_is_told_when_to_come_and_the_load_goes_on() -> None:
    async def work() -> None:
        loads = Loads(100)
        loads.gate.clear()
        for seconds in (0.0, 0.01):
            with pytest.raises(OverloadedError) as caught:
                await loads.residency.lease(recipe("a"), seconds)
            assert 1 <= caught.value.retry_after <= 120
        loads.gate.set()
        await until(lambda: loads.residency.state(recipe("a")) == "loaded")
        (await loads.residency.lease(recipe("a"), 0.0)).release()
        assert loads.names == ["a"]
        await loads.residency.close()

    run(work())


def test_those_who_wait_are_bounded() -> None:
    async def work() -> None:
        loads = Loads(100)
        loads.gate.clear()
        asks = [asyncio.ensure_future(loads.residency.lease(recipe("a"), most=2)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert [ask.done() for ask in asks] == [False, False, True]
        assert isinstance(asks[2].exception(), OverloadedError)
        loads.gate.set()
        for lease in await asyncio.gather(*asks[:2]):
            lease.release()
        await loads.residency.close()

    run(work())


@pytest.mark.parametrize(
    "error", [FileError("broken", where="a.gguf"), MemoryError(), ZeroDivisionError("secret")]
)
def test_a_failed_load_is_told_and_tried_again_later(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        loads = Loads(10)
        loads.wrong["a"] = error
        asks = [loads.residency.lease(recipe("a")) for _ in range(3)]
        found = await asyncio.gather(*asks, return_exceptions=True)
        assert all(isinstance(one, LoadError) for one in found)
        assert all("secret" not in str(one) for one in found)
        assert loads.residency.used == 0
        assert loads.residency.state(recipe("a")) == "failed"
        (await loads.residency.lease(recipe("b"))).release()
        with pytest.raises(LoadError):
            await loads.residency.lease(recipe("a"))
        assert loads.living == {"b"}, "what failed just now is not tried at once, and nobody goes for it"
        del loads.wrong["a"]
        await asyncio.sleep(0.25)
        (await loads.residency.lease(recipe("a"))).release()
        assert loads.residency.state(recipe("a")) == "loaded"
        await loads.residency.close()

    run(work())
    assert ("secret" in caplog.text) == isinstance(error, ZeroDivisionError)


def test_pinned_models_stay_and_what_cannot_fit_beside_them_is_refused() -> None:
    async def work() -> None:
        loads = Loads(30)
        (await loads.residency.lease(recipe("a", 20, pinned=True))).release()
        (await loads.residency.lease(recipe("b"))).release()
        (await loads.residency.lease(recipe("c"))).release()
        assert loads.living == {"a", "c"}
        with pytest.raises(LoadError, match="models that must stay"):
            await loads.residency.lease(recipe("d", 11))
        await until(lambda: loads.residency.used == 20)
        loads.residency.retire(recipe("a", 20))
        await asyncio.sleep(0.21)
        (await loads.residency.lease(recipe("d", 11))).release()
        assert loads.living == {"d"}
        await loads.residency.close()

    run(work())


def test_an_idle_model_goes_after_its_time_and_a_used_one_does_not() -> None:
    async def work() -> None:
        loads = Loads(100)
        quick = recipe("a", idle_seconds=0.05)
        (await loads.residency.lease(quick)).release()
        await until(lambda: loads.residency.used == 0)
        assert loads.residency.state(quick) == "unloaded"
        with await loads.residency.lease(quick):
            await asyncio.sleep(0.1)
            assert loads.residency.used == 10
        await until(lambda: loads.residency.used == 0)
        slow = recipe("b", idle_seconds=600)
        for _ in range(3):
            (await loads.residency.lease(slow)).release()
        assert loads.names == ["a", "a", "b"]
        await loads.residency.close()

    run(work())


def test_a_retired_model_ends_with_its_last_request() -> None:
    async def work() -> None:
        loads = Loads(100)
        lease = await loads.residency.lease(recipe("a"))
        loads.residency.retire(recipe("a"))
        await asyncio.sleep(0.01)
        assert lease.opened.engine.closed == 0
        assert [name for name, _ in loads.residency.opened()] == ["a"]
        engine = lease.opened.engine
        lease.release()
        await until(lambda: loads.residency.used == 0)
        assert engine.closed == 1
        assert loads.residency.past("a").output_tokens == 7
        loads.gate.clear()
        ask = asyncio.ensure_future(loads.residency.lease(recipe("b")))
        await asyncio.sleep(0.01)
        loads.residency.retire(recipe("b"))
        loads.gate.set()
        with await ask as model:
            assert model.recipe.name == "b"
        await until(lambda: loads.residency.used == 0)
        await loads.residency.close()

    run(work())


def test_closing_lets_nobody_wait_for_ever() -> None:
    async def work() -> None:
        loads = Loads(10)
        held = await loads.residency.lease(recipe("a"))
        asks = [asyncio.ensure_future(loads.residency.lease(recipe(name))) for name in "bcb"]
        await asyncio.sleep(0.01)
        await loads.residency.close()
        for ask in asks:
            with pytest.raises(OverloadedError, match="stopping"):
                await ask
        with pytest.raises(OverloadedError):
            await loads.residency.lease(recipe("z"))
        assert held.opened.engine.closed == 1

    run(work())


def test_many_at_random_never_pass_the_budget_and_all_are_answered() -> None:
    async def work() -> None:
        choose = random.Random(3)
        loads = Loads(40, 0.0005)
        sizes = {name: choose.randint(5, 25) for name in "abcdef"}

        async def client(number: int) -> None:
            mine = random.Random(number)
            for _ in range(10):
                name = mine.choice("abcdef")
                ask = asyncio.ensure_future(loads.residency.lease(recipe(name, sizes[name])))
                if mine.random() < 0.2:
                    await asyncio.sleep(mine.random() * 0.01)
                    ask.cancel()
                try:
                    lease = await ask
                except asyncio.CancelledError:
                    continue
                with lease as model:
                    assert model.recipe.name == name
                    await asyncio.sleep(mine.random() * 0.004)
                    assert not model.engine.closed, "it was unloaded in use"

        await asyncio.gather(*(client(number) for number in range(6)))
        assert loads.most <= 40
        assert loads.residency.used <= 40
        await loads.residency.close()
        assert loads.living == set()

    run(work())
