"""The nouns of residency: what is asked for, what is in memory, and who holds it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from .asynchronous import AsyncEngine
from .figures import EngineOptions
from .options import LoadOptions


class Opened(Protocol):
    """A model in memory, with whatever else belongs to it."""

    @property
    def engine(self) -> AsyncEngine:
        """Its engine."""
        ...


AnyOpened = TypeVar("AnyOpened", bound=Opened)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is to be in memory under a name, and how. Equal recipes are one model.

    bytes          weights and cache together, which are counted against the budget.
    pinned         once loaded it stays until its name is given up.
    idle_seconds   without a request for so long it is unloaded; 0 keeps it until its room is needed.
    """

    name: str
    path: Path
    load: LoadOptions
    engine: EngineOptions
    bytes: int
    pinned: bool = field(default=False, compare=False)
    idle_seconds: float = field(default=0.0, compare=False)


@dataclass(slots=True, eq=False)
class Seat(Generic[AnyOpened]):
    """A model in memory. One that is leaving takes nobody new and goes when its last holder has gone."""

    recipe: Recipe
    opened: AnyOpened
    holders: int = 0
    used: float = field(default_factory=time.monotonic)
    leaving: bool = False

    @property
    def bytes(self) -> int:
        """What it takes of the budget."""
        return self.recipe.bytes


class Lease(Generic[AnyOpened]):
    """The right to use a model; it stays in memory until the lease is released."""

    def __init__(self, seat: Seat[AnyOpened], released: Callable[[Seat[AnyOpened]], None]) -> None:
        self._seat: Seat[AnyOpened] | None = seat
        self._released = released
        seat.holders += 1
        seat.used = time.monotonic()

    @property
    def opened(self) -> AnyOpened:
        """The model. Not after the release."""
        assert self._seat is not None, "the lease was released"
        return self._seat.opened

    def release(self) -> None:
        """Give the model back; a second call does nothing."""
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.holders -= 1
            seat.used = time.monotonic()
            self._released(seat)

    def __enter__(self) -> AnyOpened:
        return self.opened

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@dataclass(slots=True, eq=False)
class Loading(Generic[AnyOpened]):
    """A model on its way into memory, and those who wait for it, in the order in which they came."""

    recipe: Recipe
    waiters: list[asyncio.Future[Lease[AnyOpened]]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    retired: bool = False
