"""What a model file offers to the rooms above: named tensors and metadata.

`files` makes these, `models` and `engine` read them; the two rooms do not know each other, so the
nouns live here. Tensor bytes are views of a mapped file, or are made of such views each time they are
wanted: nothing is read before it is touched, and nothing is dequantised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

CHAT_TEMPLATE = "tokenizer.chat_template"
"""The metadata key of the chat template's text, in both kinds of checkpoint."""


Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Made(Generic[Number]):
    """An array that a file holds in another layout: made of `parts` each time it is wanted, and not kept.

    `shape` is known before anything is read. `make` gives an array of that shape, and raises FileError when
    the stored bytes are none that it can be made of.
    """

    shape: tuple[int, ...]
    make: Callable[[], npt.NDArray[Number]] = field(repr=False)
    parts: tuple[Bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Scales:
    """Factors that some formats keep beside a matrix, as float32 (R, C): each is for `rows` x `columns`
    numbers of it, fewer at the lower and right edges.

    A tensor of more than two dimensions counts as the matrix that has all its rows below each other. Give
    the factors as `stored`, themselves or to be made, and take them as `values`.
    """

    stored: Float32 | Made[np.float32] = field(repr=False)
    rows: int
    columns: int

    @staticmethod
    def whole(value: float, shape: tuple[int, ...]) -> Scales:
        """One factor for all numbers of a tensor (..., M, K)."""
        rows, columns = _matrix(shape)
        return Scales(np.full((1, 1), value, np.float32), rows, columns)

    @property
    def values(self) -> Float32:
        """The factors (R, C)."""
        return self.stored.make() if isinstance(self.stored, Made) else self.stored

    def spread(self, shape: tuple[int, ...]) -> Float32:
        """The factor of each number of a tensor (..., M, K), or (..., M, 1) where a row has one for all."""
        rows, columns = _matrix(shape)
        values = self.values
        over_rows = np.repeat(values, self.rows, axis=0)[:rows]
        if values.shape[1] > 1:
            over_rows = np.repeat(over_rows, self.columns, axis=1)[:, :columns]
        return over_rows.reshape(*shape[:-1], over_rows.shape[1])

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether there is exactly one for each block of a tensor (..., M, K). Nothing is read for that."""
        if len(shape) < 2 or self.rows < 1 or self.columns < 1:
            return False
        rows, columns = _matrix(shape)
        return self.stored.shape == (-(-rows // self.rows), -(-columns // self.columns))


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the matrix that a tensor (..., K) counts as."""
    return prod(shape[:-1]), shape[-1]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file.

    `shape` is in row-major order with K (the contiguous dimension) last: a matrix is (M, K).
    `format` names a row of the `formats` table. `stored` is a flat uint8 view of its bytes, or how they are
    made; take them as `data`. `scales` multiply what the bytes stand for.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    stored: Bytes | Made[np.uint8] = field(repr=False)
    scales: Scales | None = None

    @property
    def data(self) -> Bytes:
        """The bytes in the format's own layout, flat. What is made for that is made anew each time."""
        return self.stored.make() if isinstance(self.stored, Made) else self.stored

    @property
    def parts(self) -> tuple[npt.NDArray[Any], ...]:
        """What the tensor is read from, as it lies in files."""
        sources = (self.stored,) if self.scales is None else (self.stored, self.scales.stored)
        return tuple(part for one in sources for part in (one.parts if isinstance(one, Made) else (one,)))

    @property
    def stored_bytes(self) -> int:
        """Bytes of the tensor in its format, and of its scales. Nothing is read for that."""
        scales = 0 if self.scales is None else 4 * prod(self.scales.stored.shape)
        return prod(self.stored.shape) + scales


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened model: where it lies, what kind of file it is, its metadata and its tensors.

    `kind` is "gguf" or "huggingface"; `path` is the file (the first of several), or the folder.
    `metadata` holds the GGUF key-values or the config.json as they stand in the file, the latter with
    the key above. `tensors` may be lazy: looking a name up maps it.
    """

    path: Path
    kind: str
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


class Conversion(Protocol):
    """What tensors are loaded as in place of what the file has. Equal ones do the same."""

    @property
    def format(self) -> str:
        """The format that matrices are given, as people call it."""
        ...

    def of(self, checkpoint: Checkpoint) -> Checkpoint:
        """The same checkpoint with tensors that are made when they are wanted; nothing is read for that."""
        ...
