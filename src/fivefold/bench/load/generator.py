"""The load generator: a process that reads a plan from stdin, asks, and writes what it saw to stdout.

A process of its own, so that neither the interpreter's lock nor another's garbage collection moves its clock.
It is not meant for people: `fivefold bench serve` runs it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import resource
import sys
from collections.abc import Callable

import uvloop

from .client import Client, Exchange, clock_from_now
from .plan import LONG_ANSWER, Plan
from .record import Load, Record

PAUSE_AFTER_ERROR = 0.05
"""Seconds that a client waits after a request failed, so that a server that is down is not stormed."""


async def generate(plan: Plan) -> Load:
    """Run the load of a plan from beginning to end."""
    before = _processor_seconds()
    clock = clock_from_now()
    run = _Run(plan, clock)
    long = None
    if plan.long is not None:
        long = await run.with_long_prompt()
    elif plan.rate > 0:
        await run.open_loop()
    else:
        await run.closed_loop()
    share = (_processor_seconds() - before) / max(clock(), 1e-9)
    records = [exchange.digest() for exchange in run.exchanges]
    return Load(records, share, None if long is None else long.digest())


class _Run:
    """One load under way."""

    def __init__(self, plan: Plan, clock: Callable[[], float]) -> None:
        self.exchanges: list[Exchange] = []
        self._plan = plan
        self._clock = clock
        self._client = Client(plan, clock)
        self._numbers = itertools.count()

    async def closed_loop(self) -> None:
        """Each client asks, waits for the end of the answer, and asks again."""
        clients = [asyncio.create_task(self._ask_on()) for _ in range(self._plan.clients)]
        await asyncio.gather(*clients)

    async def open_loop(self) -> None:
        """Requests arrive when they arrive."""
        tasks = []
        for due in self._plan.arrivals():
            await asyncio.sleep(max(due - self._clock(), 0.0))
            tasks.append(asyncio.create_task(self._ask(due)))
        await asyncio.gather(*tasks)

    async def with_long_prompt(self) -> Exchange:
        """Clients stream; when all do and some time has passed, the long prompt arrives; then all end."""
        plan, long = self._plan, self._plan.long
        assert long is not None
        clients = [asyncio.create_task(self._ask_on()) for _ in range(plan.clients)]
        try:
            while (
                not all(exchange.began for exchange in self.exchanges[: plan.clients]) or not self.exchanges
            ):
                await asyncio.sleep(0.02)
                if any(exchange.record.error for exchange in self.exchanges):
                    break
            await asyncio.sleep(long.seconds)
            exchange = Exchange(Record(self._clock(), self._clock()))
            await self._client.ask(exchange, plan.body(plan.long_prompt(), LONG_ANSWER))
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
        return exchange

    async def _ask_on(self) -> None:
        """One client of a closed loop; with a long prompt to come it asks until it is ended."""
        plan = self._plan
        while True:
            if plan.long is None and plan.seconds and self._clock() >= plan.seconds:
                return
            number = next(self._numbers)
            if plan.long is None and not plan.seconds and number >= plan.requests:
                return
            exchange = await self._ask(self._clock(), number)
            if exchange.record.error:
                await asyncio.sleep(PAUSE_AFTER_ERROR)

    async def _ask(self, due: float, number: int | None = None) -> Exchange:
        chosen = next(self._numbers) if number is None else number
        body = self._plan.body(self._plan.prompt(chosen), self._plan.tokens)
        exchange = Exchange(Record(due, self._clock()))
        self.exchanges.append(exchange)
        await self._client.ask(exchange, body)
        return exchange


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Read a plan, run it, write the load."""
    plan = Plan.from_json(sys.stdin.readline())
    gc.freeze()
    gc.disable()
    load = uvloop.run(generate(plan))
    sys.stdout.write(load.to_json() + "\n")
    sys.stdout.flush()
