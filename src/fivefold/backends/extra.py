"""The door to the backend that needs an extra: Hugging Face Transformers with torch.

The base package has neither, so the backend is imported here, by name, when a model needs it. What it
gives back is described in this module, which imports nothing of it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Protocol, cast

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import UnsupportedError
from fivefold.core.runner import Runner
from fivefold.program import Model


class MissingExtraError(UnsupportedError, ImportError):
    """The backend's packages are not installed, or are too old."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a model of Transformers before its weights are read.

    model         its sizes and cache layout; there is no Program.
    weight_bytes  bytes of the weights as they will lie in memory.
    number        how weights, activations and cache entries are stored: f32 or bf16.
    versions      of the packages that will run it, for people.
    config        the config as Transformers reads it.
    """

    model: Model
    weight_bytes: int
    number: str
    versions: str
    config: Any


@dataclass(frozen=True, slots=True)
class Room:
    """What a runner is given: threads, most rows of a step, entries of the cache and their format."""

    threads: int
    max_rows: int
    entries: int
    entry_format: str


class TransformersBackend(Protocol):
    """What `backends.transformers` offers."""

    def outline(self, checkpoint: Checkpoint) -> Outline:
        """The model of a folder, without reading a weight; UnsupportedError says why it cannot run."""
        ...

    def open_runner(self, outline: Outline, checkpoint: Checkpoint, room: Room) -> Runner:
        """Its weights read, and its first steps held against Transformers' own."""
        ...


def transformers_backend() -> TransformersBackend:
    """The backend; MissingExtraError says what to install."""
    return cast(TransformersBackend, importlib.import_module(f"{__package__}.transformers"))
