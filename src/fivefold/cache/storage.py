"""What the cache asks of whoever owns the memory of entries and states: to move them."""

from __future__ import annotations

from typing import Protocol

from fivefold.core.batch import Int32


class Storage(Protocol):
    """What moves entries between slots."""

    def copy_entries(
        self, name: str, page_from: Int32, slot_from: Int32, page_to: Int32, slot_to: Int32
    ) -> None:
        """Copy entry by entry, in order."""
        ...

    def copy_state(self, source: int, target: int) -> None:
        """Copy the recurrent states of a slot."""
        ...
