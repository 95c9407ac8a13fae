"""Who runs a step, as the engine sees it: native Programs, the reference, or another backend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from .batch import Commit, Float32, Step


class Runner(Protocol):
    """A model with its cache. Sequences are opened, grown by steps and commits, and closed."""

    @property
    def max_rows(self) -> int:
        """Most rows of one step."""
        ...

    def open(self) -> int:
        """A new, empty sequence; its number."""
        ...

    def close(self, sequence: int) -> None:
        """Forget a sequence and free what it holds."""
        ...

    def truncate(self, sequence: int, positions: int) -> None:
        """Forget the entries at that logical position and after it."""
        ...

    def run(self, step: Step) -> Float32:
        """Run the step; logits (n, V) of the rows in the row set `logits`, span after span."""
        ...

    def commit(self, commits: Iterable[Commit]) -> None:
        """Keep these rows of each sequence's last span and forget the others."""
        ...
