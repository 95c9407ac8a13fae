"""What all runs of training share: where they read and write, what they tell, and when they save.

A run steps by itself; here it is stopped between two steps by a signal, and saved every few minutes, so that
it can go on later. What a step is, each kind of training knows.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fivefold.core.errors import InputError, NotFiniteError

from .curves import Curves, Line
from .optimizer import Adam, Schedule
from .state import Identity, State, restore_state, save_state

_KEPT = {-1: 1 << 30, -2: 64 << 20, -3: 32 << 20}
"""Settings of glibc's allocator (mallopt(3)): M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD, in bytes."""


def workers(threads: int) -> ThreadPoolExecutor:
    """Threads that run whole parts of a step.

    From then on, in the whole process, torch uses one thread for each operation, and the C library keeps what
    is freed: each step asks for as much again, and threads would give it back to the system, which clears it
    anew. Where the library has no such settings, it does as it did.
    """
    with suppress(OSError, AttributeError, TypeError):
        for option, size in _KEPT.items():
            ctypes.CDLL(None).mallopt(option, size)
    torch.set_num_threads(1)
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run reads and writes: the folder of examples, and the module. The state, the curves and their
    picture lie beside it, named after it."""

    examples: Path
    module: Path

    @property
    def state(self) -> Path:
        """What is needed to go on."""
        return self.module.with_suffix(".state.npz")

    @property
    def curves(self) -> Path:
        """A JSON line for each step."""
        return self.module.with_suffix(".jsonl")

    @property
    def picture(self) -> Path:
        """The curves drawn."""
        return self.module.with_suffix(".png")

    def check(self) -> None:
        """InputError unless the module can be written there."""
        if self.module.suffix != ".safetensors":
            raise InputError(
                f"{self.module.name!r} is no module", where="--out", remedy="let it end with .safetensors"
            )
        if not self.module.parent.is_dir():
            raise InputError("there is no such folder", where=str(self.module.parent), remedy="make it first")

    def require_no_state(self) -> None:
        """InputError where the state of another run would be written over."""
        if self.state.exists():
            raise InputError(
                "the state of another run lies there", where=str(self.state),
                remedy="go on with --resume, or remove it",
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Progress:
    """After a step: its number, its line of the curves, and seconds a step and to the end."""

    step: int
    steps: int
    line: Line
    seconds: float
    left: float


class Stepped(ABC):
    """A run that goes on step by step, from the beginning or from where it was stopped.

    `places` are checked by then, and `identity` is what another run differs in. `_schedule` gives rates.
    """

    _schedule: Schedule

    def __init__(
        self, places: Places, optimizer: Adam, identity: Identity, plan: tuple[int, int], resume: bool
    ) -> None:
        """`plan`: steps in all, and after how many what is held out is looked at.

        InputError if there is no state to go on with, or one that would be written over.
        """
        self.places, self._optimizer, self._identity = places, optimizer, identity
        self.count, self._every = plan
        self.done, self._seconds = 0, 0.0
        if resume:
            self._resume()
        else:
            places.require_no_state()
        self._curves = Curves(places.curves, self.done)

    @abstractmethod
    def _step(self, number: int) -> dict[str, Any]:
        """Take a step; its line of the curves."""

    @abstractmethod
    def looked_at(self) -> dict[str, Any]:
        """The figures of what is held out."""

    def _moved(
        self, number: int, parts: Sequence[tuple[float, Tensor]], loss: str = "loss", where: str = ""
    ) -> dict[str, Any]:
        """Move the vector by what the parts of a step found, losses and gradients; the line of the curves,
        with the mean loss under its key. NotFiniteError tells `where`, or the examples' folder."""
        value = float(np.mean([one for one, _ in parts]))
        if not np.isfinite(value):
            raise NotFiniteError(
                f"the loss of step {number} is {value}", where=where or str(self.places.examples)
            )
        gradient = parts[0][1].clone()
        for _, one in parts[1:]:
            gradient += one
        gradient /= len(parts)
        rate = self._schedule.at(number)
        length = self._optimizer.step(gradient, number, rate)
        return {"step": number, loss: value, "rate": rate, "gradient": length}

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.done == self.count

    def steps(self) -> Iterator[Progress]:
        """Run the steps that are left; nothing is saved."""
        while not self.finished:
            begun = time.perf_counter()
            number = self.done + 1
            line = self._step(number)
            if number % self._every == 0 or number == self.count:
                line["held_out"] = self.looked_at()
            took = time.perf_counter() - begun
            self.done, self._seconds = number, self._seconds + took
            self._curves.note(line | {"seconds": round(took, 3)})
            each = self._seconds / number
            yield Progress(number, self.count, line, each, each * (self.count - number))

    def _save_state(self) -> None:
        """Write what is needed to go on."""
        state = State(self.done, self._seconds, self._optimizer.arrays())
        save_state(self.places.state, self._identity, state)

    def _resume(self) -> None:
        state = restore_state(self.places.state, self._identity)
        try:
            self._optimizer.restore(state.arrays)
        except (ValueError, KeyError) as error:
            raise InputError(
                f"the state cannot be read ({error})", where=str(self.places.state),
                remedy="run without --resume, which begins anew",
            ) from None  # fmt: skip
        self.done, self._seconds = state.steps, state.seconds


def train(
    run: Stepped, told: Callable[[Progress], None], save: Callable[[], object], save_every: float = 300.0
) -> bool:
    """Run all steps and save every so many seconds, and at the end; false if it was stopped before.

    SIGINT and SIGTERM stop it after the step that is under way.
    """
    with _stopped() as stopped:
        saved = time.monotonic()
        for progress in run.steps():
            told(progress)
            if stopped.is_set():
                break
            if time.monotonic() - saved > save_every:
                save()
                saved = time.monotonic()
        save()
    return run.finished


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set inside, where this is the main thread."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {
        number: signal.signal(number, lambda *_: event.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
