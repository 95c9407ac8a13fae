"""A real model in and out of memory: what it takes is known before, and free afterwards."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fivefold.core.request import Request, SamplingParams
from fivefold.engine import AsyncEngine, Engine, EngineOptions, LoadOptions, Recipe, Residency, load, need_of

TINY = Path(__file__).parent / "data" / "tiny.gguf"


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.001)


class RealModel:
    def __init__(self, which: Recipe) -> None:
        loaded = load(which.path, which.load)
        self.engine = AsyncEngine(Engine(loaded, which.engine))
        self.runner = weakref.ref(loaded.runner)


@pytest.fixture
def tiny() -> Recipe:
    options = LoadOptions(threads=1)
    need = need_of(TINY, options, with_vocabulary=True)
    return Recipe("tiny", TINY, options, EngineOptions(), need.least_bytes)


def test_the_memory_of_an_unloaded_model_is_free_and_its_totals_are_kept(tiny: Recipe) -> None:
    async def work() -> None:
        residency: Residency[RealModel] = Residency(tiny.bytes, RealModel)
        gone = []
        for number in range(3):
            with await residency.lease(tiny) as model:
                stream = await model.engine.submit(
                    Request(f"r{number}", (5, 6, 7), SamplingParams(max_tokens=4, ignore_eos=True))
                )
                assert [event async for event in stream][-1].finish_reason == "length"
                gone.append(model.runner)
            del model, stream
            residency.retire(tiny)
            await until(lambda: residency.used == 0)
            assert gone[-1]() is None, "something still holds the weights"
            assert residency.past("tiny").output_tokens == 4 * (number + 1)
        await residency.close()

    asyncio.run(work())


def test_what_a_model_takes_is_known_before_it_is_loaded() -> None:
    need = need_of(TINY, LoadOptions(context=64))
    loaded = load(TINY, LoadOptions(context=64, entries=need.least, threads=1))
    runner: Any = loaded.runner
    assert need.weights >= runner.executor.weight_bytes > 0.4 * need.weights
    assert need.bytes(need.least) - need.weights == pytest.approx(runner.cache_bytes, rel=0.1)
    assert need.entries(need.least_bytes + 1) == need.least
