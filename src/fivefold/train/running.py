"""What all runs of training share: where they read and write, what they tell, and when they save.

A run steps by itself; here it is stopped between two steps by a signal, and saved every few minutes, so that
it can go on later. What a step is, each kind of training knows.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fivefold.core.errors import InputError

from .curves import Line


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


class Running(Protocol):
    """A run of training, as `train` sees it."""

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        ...

    def steps(self) -> Iterator[Progress]:
        """Run the steps that are left; nothing is saved."""
        ...


def train(
    run: Running, told: Callable[[Progress], None], save: Callable[[], object], save_every: float = 300.0
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
