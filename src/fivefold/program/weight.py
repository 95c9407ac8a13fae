"""What a Program calls a weight, and where its numbers lie in a file.

Mostly a weight is one tensor, whose name it has. The matrices of experts are a stack (E, M, K), which files
hold in three ways: as one tensor, as a tensor for each expert, or as a regular part of a tensor that holds
two of them, which may lie transposed. The matrices of heads (H, M, K) are a stack too, of rows that lie in
one matrix for all heads. A weight says so by its sources, so that no tensor is renamed or copied; who reads
weights takes their numbers from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

import numpy as np

from fivefold.core.batch import Float32


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor of the file, `shape` as it lies there, or every `step`th output of it from `start` on.

    Outputs are the rows of matrices (..., M, K), or of those `transposed` (..., K, M) the columns; and the
    numbers of `vectors` (..., M). `count` is how many are taken, all that there are when it is 0.
    """

    tensor: str
    shape: tuple[int, ...]
    start: int = 0
    step: int = 1
    count: int = 0
    transposed: bool = False
    vectors: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is the tensor as it lies."""
        return self.outputs == range(self._outputs) and not self.transposed

    @property
    def outputs(self) -> range:
        """The numbers of the outputs that are taken."""
        every = range(self.start, self._outputs, self.step)
        return every[: self.count] if self.count else every

    @property
    def part(self) -> tuple[int, ...]:
        """The shape of what is taken, outputs before the numbers of each."""
        taken = len(self.outputs)
        if self.vectors:
            return (*self.shape[:-1], taken)
        inner = self.shape[-2] if self.transposed else self.shape[-1]
        return (*self.shape[:-2], taken, inner)

    def of(self, values: Float32) -> Float32:
        """What is taken of the tensor's numbers, in the order of its own, whatever theirs was."""
        taken = slice(self.start, self.outputs[-1] + 1, self.step)
        if self.vectors:
            return np.ascontiguousarray(values[..., taken])
        rows = np.swapaxes(values, -1, -2) if self.transposed else values
        return np.ascontiguousarray(rows[..., taken, :])

    @property
    def _outputs(self) -> int:
        return self.shape[-1] if self.transposed or self.vectors else self.shape[-2]


@dataclass(frozen=True, slots=True)
class HeadRows:
    """Of a matrix (H * R, K) that has R rows for each of H heads: `count` of them from `start` on, as (H,
    count, K). `turned` they are (H, K, count), for products with as many numbers as there are such rows."""

    tensor: str
    shape: tuple[int, int]
    heads: int
    start: int
    count: int
    turned: bool = False

    @property
    def part(self) -> tuple[int, ...]:
        """The shape of what is taken, outputs before the numbers of each."""
        inner = self.shape[1]
        return (self.heads, inner, self.count) if self.turned else (self.heads, self.count, inner)

    def rows(self, head: int) -> range:
        """The rows of one head."""
        first = head * (self.shape[0] // self.heads) + self.start
        return range(first, first + self.count)

    def of(self, values: Float32) -> Float32:
        """What is taken of the matrix's numbers."""
        heads = values.reshape(self.heads, -1, self.shape[1])[:, self.start : self.start + self.count]
        return np.ascontiguousarray(np.swapaxes(heads, 1, 2) if self.turned else heads)


@dataclass(frozen=True, slots=True)
class Weight:
    """A handle: the name under which nodes know the weight, and its shape.

    Without `sources` it is the tensor of its name. With one, it is what that takes of a tensor; with several,
    it is a stack of what they take, in their order.
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[Source | HeadRows, ...] = ()

    @property
    def tensors(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes of the tensors that it is read from."""
        if not self.sources:
            return ((self.name, self.shape),)
        return tuple((source.tensor, source.shape) for source in self.sources)

    def share(self, stored: Callable[[str, float], float]) -> float:
        """The bytes of its numbers; `stored` gives those of a tensor, or a default that it is given."""
        if not self.sources:
            return stored(self.name, 4.0 * prod(self.shape))
        return sum(
            stored(source.tensor, 4.0 * prod(source.shape)) * prod(source.part) / prod(source.shape)
            for source in self.sources
        )

    def of(self, tensor: Callable[[str], Float32]) -> Float32:
        """Its numbers, from those of the tensors."""
        if not self.sources:
            return tensor(self.name)
        parts = [source.of(tensor(source.tensor)) for source in self.sources]
        return parts[0] if len(parts) == 1 else np.stack(parts)


def stacked(names: Iterable[str], pattern: str, *shape: int) -> Weight:
    """A stack of tensors of one shape, one for each expert; `pattern` is what their names have in common."""
    sources = tuple(Source(name, shape, vectors=len(shape) == 1) for name in names)
    return Weight(pattern, (len(sources), *shape), sources)


def taken(source: Source) -> Weight:
    """A part of one tensor, named after it."""
    if source.whole:
        return Weight(source.tensor, source.shape)
    outputs = source.outputs
    turned = "^T" if source.transposed else ""
    return Weight(
        f"{source.tensor}{turned}[{outputs.start}:{outputs.stop}:{outputs.step}]", source.part, (source,)
    )


def of_heads(rows: HeadRows) -> Weight:
    """The matrices of heads that lie in one matrix, named after it."""
    turned = "^T" if rows.turned else ""
    name = f"{rows.tensor}[{rows.heads} x {rows.start}:{rows.start + rows.count}]{turned}"
    return Weight(name, rows.part, (rows,))
