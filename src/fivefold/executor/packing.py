"""Packing a weight: its matrices are taken from their tensors one by one, as stored bytes of (M, K) each.

Most are views of a tensor's bytes. Of a part of a tensor, and of one that lies transposed, the bytes of one
matrix are copied at a time. Numbers in blocks are never taken apart: blocks lie along K.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from fivefold._native import Matrix, ThreadPool
from fivefold.core.checkpoint import Bytes, Float32, Tensor
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.formats import format_of
from fivefold.program import Source, Weight

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cut:
    """One matrix: its bytes, and its factors (R, C) for `rows` x `columns` numbers each, or None."""

    data: Bytes
    values: Float32 | None = None
    rows: int = 1
    columns: int = 1

    @property
    def scales(self) -> tuple[Float32, int, int] | tuple[()]:
        """The factors as the core takes them."""
        return () if self.values is None else (self.values, self.rows, self.columns)


def pack(weight: Weight, tensors: Callable[[str], Tensor], pool: ThreadPool, isa: str) -> Matrix:
    """A weight (M, K) or (E, M, K), packed; UnsupportedError or FileError for tensors that cannot be."""
    *experts, rows, columns = weight.shape
    matrix = Matrix.stack(isa, form_of(weight, tensors), prod(experts), rows, columns)
    for one in cut(weight, tensors):
        matrix.pack(pool, one.data, *one.scales)
    return matrix


def sources_of(weight: Weight) -> tuple[Source, ...]:
    """Where a weight lies, which may be under its own name."""
    return weight.sources or (Source(weight.name, weight.shape),)


def form_of(weight: Weight, tensors: Callable[[str], Tensor]) -> str:
    """The format of a weight's tensors; UnsupportedError if they have several."""
    found = [tensors(source.tensor) for source in sources_of(weight)]
    other = next((tensor for tensor in found if tensor.format != found[0].format), None)
    if other is not None:
        raise UnsupportedError(
            f"tensor {other.name} is {other.format}, {found[0].name} is {found[0].format}",
            remedy="use a model whose experts have one format in each layer",
        )
    return found[0].format


def cut(weight: Weight, tensors: Callable[[str], Tensor]) -> Iterator[Cut]:
    """The matrices of a weight (M, K) or (E, M, K) in their order; each is wanted for a short time only."""
    for source in sources_of(weight):
        yield from _matrices(tensors(source.tensor), source)


def _matrices(tensor: Tensor, source: Source) -> Iterator[Cut]:
    if source.transposed:
        yield from _turned(tensor, source)
        return
    count = prod(source.part[:-2])
    if count == 1 and source.whole:
        yield Cut(tensor.data, *_factors(tensor))
        return
    rows = tensor.data.reshape(count, source.shape[-2], -1)  # bytes of each row
    taken = slice(source.start, source.outputs[-1] + 1, source.step)
    for number in range(count):
        own = np.ascontiguousarray(rows[number, taken]).reshape(-1)
        first = number * source.shape[-2]
        yield Cut(own, *_factors(tensor, np.arange(first, first + source.shape[-2])[taken]))


def _turned(tensor: Tensor, source: Source) -> Iterator[Cut]:
    """Of matrices that lie as (K, M); numbers in blocks, or with factors beside them, cannot be turned."""
    form = format_of(tensor.format, tensor.name)
    if form.block != 1 or tensor.scales is not None:
        raise UnsupportedError(
            f"tensor {tensor.name} lies transposed, and {tensor.format} cannot be turned",
            remedy="use a model whose experts lie as rows of outputs, or one in floats",
        )
    numbers = tensor.data.view(f"u{form.block_bytes}").reshape(-1, *source.shape[-2:])
    for number in numbers:
        chosen = number.T[source.start : source.outputs[-1] + 1 : source.step]
        yield Cut(np.ascontiguousarray(chosen).reshape(-1).view(np.uint8))


def _factors(tensor: Tensor, outputs: Int64 | None = None) -> tuple[()] | tuple[Float32, int, int]:
    """The factors of a tensor as they lie, or those of some of its rows, for one row each."""
    scales = tensor.scales
    if scales is None:
        return ()
    values = np.ascontiguousarray(scales.values)
    if outputs is None:
        return values, scales.rows, scales.columns
    if not scales.fits(tensor.shape):
        raise FileError(
            f"scales {list(values.shape)} do not fit tensor {tensor.name} {list(tensor.shape)}",
            remedy="fetch the file again or take another conversion of the model",
        )
    return np.ascontiguousarray(values[outputs // scales.rows]), 1, scales.columns
