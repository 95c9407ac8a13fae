"""Where the tensors of a file that is to be written will lie: known before any of their bytes are.

The writers of GGUF and safetensors make a `Layout` from names, formats and shapes; `filling` puts the bytes
into it, in any order. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Outlined(Protocol):
    """A tensor, or what is known of it before its bytes are."""

    @property
    def name(self) -> str:
        """What files call it."""

    @property
    def format(self) -> str:
        """A row of the `formats` table, or a type that only files know."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Row-major, K last."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a tensor before its bytes are: its name, format and row-major shape."""

    name: str
    format: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """The bytes of one tensor: `size` of them from byte `offset` of a file."""

    file: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Files by name: what they begin with, how long they are, and the place of each tensor.

    What is neither beginning nor a place is zeros.
    """

    heads: Mapping[str, bytes] = field(repr=False)
    sizes: Mapping[str, int]
    places: Mapping[str, Place] = field(repr=False)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())
