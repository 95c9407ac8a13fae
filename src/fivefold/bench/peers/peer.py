"""What a peer is to a measurement: a name, the ways it can be set up, and a figure for a piece of work.

A peer that has several settings (flash attention on and off) is measured in all of them, and its best
one is reported, named. So nobody has to guess what suits it on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..work import Reading, Work


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: the model's file, the threads, and how many tokens the vocabulary has."""

    model: Path
    threads: int
    vocabulary: int


class Peer(Protocol):
    """Another engine. `settings` are measured each; a peer with nothing to choose has the one setting ""."""

    @property
    def name(self) -> str:
        """The name that the user called it by."""
        ...

    @property
    def settings(self) -> tuple[str, ...]:
        """The ways it is run."""
        ...

    @property
    def version(self) -> str:
        """What it calls itself, empty if it does not say."""
        ...

    @property
    def process(self) -> int | None:
        """The number of its process, if it has one that waits between rounds."""
        ...

    def measure(self, work: Work, setting: str, turn: int) -> Reading:
        """One round of the work; prompts follow from the turn's number if the peer takes any.

        FivefoldError if it fails or gives no figures.
        """
        ...

    def close(self) -> None:
        """End what it has running."""
        ...
