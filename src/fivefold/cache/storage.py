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

    def copy_head_entries(
        self, name: str, layer: int, head: int,
        page_from: Int32, slot_from: Int32, page_to: Int32, slot_to: Int32,
    ) -> None:  # fmt: skip
        """Copy one layer's and head's part of each entry, in order, and leave the others as they are.

        `layer` counts within the group's layers, and `head` within the KV heads of a page.
        """
        ...

    def copy_state(self, source: int, target: int) -> None:
        """Copy the recurrent states of a slot."""
        ...
