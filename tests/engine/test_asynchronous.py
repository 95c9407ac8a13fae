"""The engine on a thread: events reach their readers, errors and cancels too, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fivefold.core.batch import Float32
from fivefold.core.errors import FivefoldError, InputError, OverloadedError
from fivefold.core.request import Request, SamplingParams, TokenEvent, TokenLogprob
from fivefold.decode import Sampler
from fivefold.engine import AsyncEngine, Engine, EngineOptions, EventStream, LoadedModel, LoadOptions, load

TINY = Path(__file__).parent / "data" / "tiny.gguf"
GREEDY = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
ENDLESS = SamplingParams(temperature=0.0, ignore_eos=True)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(TINY, LoadOptions(entries=2000))


@asynccontextmanager
async def running(loaded: LoadedModel, options: EngineOptions | None = None) -> AsyncIterator[AsyncEngine]:
    engine = AsyncEngine(Engine(loaded, options))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def run(loaded: LoadedModel, body: Callable[[AsyncEngine], Awaitable[None]], **options: int) -> None:
    """Run a body with a fresh engine; a minute is more than enough."""

    async def whole() -> None:
        async with running(loaded, EngineOptions(**options)) as engine:
            await asyncio.wait_for(body(engine), 60)
        assert not engine.healthy

    asyncio.run(whole())


async def read(stream: EventStream) -> list[TokenEvent]:
    return [event async for event in stream]


def joined(events: list[TokenEvent]) -> list[int]:
    return [token for event in events for token in event.tokens]


def test_streams_side_by_side_get_what_each_gets_alone(loaded: LoadedModel) -> None:
    prompts = [tuple(range(2 + n, 30 + 2 * n)) for n in range(12)]
    expected = [one.tokens for one in Engine(loaded).generate(prompts, GREEDY)]

    async def body(engine: AsyncEngine) -> None:
        streams = [await engine.submit(Request(f"a{n}", p, GREEDY)) for n, p in enumerate(prompts)]
        found = await asyncio.gather(*map(read, streams))
        assert [tuple(t for event in events for t in event.tokens) for events in found] == expected
        for events in found:
            assert [event.finish_reason for event in events[:-1]] == [None] * (len(events) - 1)
            assert events[-1].timings is not None
            assert events[-1].timings.output_tokens == 20
        assert engine.figures().running == 0

    run(loaded, body)


def test_a_slow_reader_finds_its_events_merged(loaded: LoadedModel) -> None:
    async def body(engine: AsyncEngine) -> None:
        stream = await engine.submit(Request("slow", (5, 6, 7), GREEDY))
        while engine.figures().output_tokens < 20 or engine.figures().running:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        (event,) = await read(stream)
        assert len(event.tokens) == 20
        assert event.finish_reason == "length"

    run(loaded, body)


def test_errors_come_from_submit(loaded: LoadedModel) -> None:
    async def body(engine: AsyncEngine) -> None:
        with pytest.raises(InputError):
            await engine.submit(Request("empty", (), GREEDY))
        first = await engine.submit(Request("first", (5, 6), ENDLESS))
        await first.__anext__()
        second = await engine.submit(Request("second", (5, 6), ENDLESS))
        with pytest.raises(OverloadedError):
            await engine.submit(Request("third", (5, 6), GREEDY))
        first.cancel()
        second.cancel()
        assert (await read(first))[-1].finish_reason in ("cancelled", "length")
        assert (await read(second))[-1].finish_reason in ("cancelled", "length")
        first.cancel()

    run(loaded, body, max_sequences=1, max_queue=1)


def test_a_submit_that_is_given_up_leaves_nothing(loaded: LoadedModel) -> None:
    async def body(engine: AsyncEngine) -> None:
        for number in range(50):
            task = asyncio.ensure_future(engine.submit(Request(f"gone{number}", (5, 6, 7), ENDLESS)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        while engine.figures().running or engine.figures().waiting:
            await asyncio.sleep(0.01)
        assert engine.figures().cache.used == 0

    run(loaded, body)


def test_closing_ends_every_stream(loaded: LoadedModel) -> None:
    async def whole() -> None:
        engine = AsyncEngine(Engine(loaded))
        await engine.start()
        streams = [await engine.submit(Request(f"open{n}", (5, 6, n + 2), ENDLESS)) for n in range(4)]
        await engine.close()
        for stream in streams:
            events = await asyncio.wait_for(read(stream), 10)
            assert events[-1].finish_reason is not None
        with pytest.raises(FivefoldError, match="stopped"):
            await engine.submit(Request("late", (5, 6), GREEDY))
        await engine.close()

    asyncio.run(whole())


def test_a_step_that_fails_ends_its_requests_and_not_the_engine(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(engine: AsyncEngine) -> None:
        with monkeypatch.context() as patch:

            def failing(*given: object, **options: object) -> None:
                raise ZeroDivisionError("broken off")

            patch.setattr(loaded.runner, "run", failing)
            stream = await engine.submit(Request("fails", (5, 6), GREEDY))
            (event,) = await read(stream)
            assert event.finish_reason == "error"
            assert event.error is not None
            assert "a fault of the engine" in str(event.error)
            assert "broken off" not in str(event.error), "what is inside is for the log"
        assert engine.healthy
        stream = await engine.submit(Request("works", (5, 6), GREEDY))
        assert (await read(stream))[-1].finish_reason == "length"
        assert engine.figures().cache.used == 0

    run(loaded, body)


def test_a_decoder_that_fails_ends_its_own_request_only(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sampler.sample

    def failing(sampler: Sampler, logits: Float32) -> tuple[int, TokenLogprob | None]:
        if sampler.seed == 13 and sampler.count == 2:
            raise ZeroDivisionError("broken off")
        return sample(sampler, logits)

    async def body(engine: AsyncEngine) -> None:
        expected = await read(await engine.submit(Request("alone", (5, 6), GREEDY)))
        monkeypatch.setattr(Sampler, "sample", failing)
        asked = [
            Request("first", (5, 6), GREEDY), Request("fails", (5, 7), replace(GREEDY, seed=13)),
            Request("last", (5, 6), GREEDY),
        ]  # fmt: skip
        found = [await read(stream) for stream in [await engine.submit(one) for one in asked]]
        error = found[1][-1].error
        assert error is not None and "a fault of its decoder" in str(error)
        assert "broken off" not in str(error), "what is inside is for the log"
        for events in (found[0], found[2]):
            assert joined(events) == joined(expected)
        assert engine.figures().cache.used == 0

    run(loaded, body)
