"""Packing a weight: its matrices are taken from their tensors one by one, as stored bytes of (M, K) each.

Most are views of a tensor's bytes. Of a part of a tensor, and of one that lies transposed, the bytes of one
matrix are copied at a time. Numbers in blocks are never taken apart: blocks lie along K. Rows of heads that
have to be turned, and whose blocks cannot be, become float32, exactly what they stand for: they are few. So
does a table of embeddings that is turned: it is one.
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
from fivefold.formats.format import Format
from fivefold.program import HeadRows, Source, Weight

LEAST_SEGMENT = 32
"""Fewer columns with a factor of their own are not worth it: they are multiplied as float32."""

Int64 = npt.NDArray[np.int64]
Factors = tuple[()] | tuple[Float32, int, int]
"""Factors (R, C), for rows and columns of so many numbers each; nothing where there are none."""


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


def sources_of(weight: Weight) -> tuple[Source | HeadRows, ...]:
    """Where a weight lies, which may be under its own name."""
    return weight.sources or (Source(weight.name, weight.shape),)


def form_of(weight: Weight, tensors: Callable[[str], Tensor]) -> str:
    """The format that a weight is packed from; UnsupportedError if its tensors have several."""
    sources = sources_of(weight)
    found = [tensors(source.tensor) for source in sources]
    if _becomes_floats(sources[0], found[0]):
        return "f32"
    other = next((tensor for tensor in found if tensor.format != found[0].format), None)
    if other is not None:
        raise UnsupportedError(
            f"tensor {other.name} is {other.format}, {found[0].name} is {found[0].format}",
            remedy="use a model whose experts have one format in each layer",
        )
    return found[0].format


def grown_bytes(weight: Weight, tensors: Callable[[str], Tensor]) -> int:
    """Bytes that a weight takes beyond those stored of it, because it is turned and becomes float32, or is a
    table of embeddings that is there as it lies as well."""
    first = sources_of(weight)[0]
    table = isinstance(first, Source) and first.transposed and _is_table(first)
    if not table and not (isinstance(first, HeadRows) and first.turned):
        return 0
    tensor = tensors(first.tensor)
    if not _becomes_floats(first, tensor):
        return tensor.stored_bytes if table else 0
    if table:
        return 4 * prod(weight.shape)
    stored = weight.share(lambda name, _: tensors(name).stored_bytes)
    return max(4 * prod(weight.shape) - int(stored), 0)


def cut(weight: Weight, tensors: Callable[[str], Tensor]) -> Iterator[Cut]:
    """The matrices of a weight (M, K) or (E, M, K) in their order; each is wanted for a short time only."""
    for source in sources_of(weight):
        tensor = tensors(source.tensor)
        if not isinstance(source, HeadRows):
            yield from _matrices(tensor, source)
        elif source.turned:
            yield from _turned_heads(tensor, source)
        else:
            yield from _heads(tensor, source)


def _is_table(source: Source) -> bool:
    """Whether a source is one matrix, and no stack of experts."""
    return len(source.shape) == len(("rows", "columns"))


def _becomes_floats(source: Source | HeadRows, tensor: Tensor) -> bool:
    """Whether what is taken of a tensor has to be turned, and cannot be as it is stored."""
    if isinstance(source, HeadRows):
        return source.turned and not _turns(tensor, source)
    return source.transposed and _is_table(source) and not _is_loose(tensor)


def _is_loose(tensor: Tensor) -> bool:
    """Whether each number is stored by itself, with no factor."""
    return format_of(tensor.format, tensor.name).block == 1 and tensor.scales is None


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
    """Of matrices that lie as (K, M). Those of experts cannot be turned that have numbers in blocks, or
    factors beside them."""
    form = format_of(tensor.format, tensor.name)
    if _becomes_floats(source, tensor):
        stored = tensor.data.reshape(source.shape[0], -1)
        factors = _factors(tensor, np.arange(source.shape[0]))
        values = _unpacked(form, stored, source.shape[1], factors).T
        yield Cut(np.ascontiguousarray(values[source.outputs]).reshape(-1).view(np.uint8))
        return
    if not _is_loose(tensor):
        raise UnsupportedError(
            f"tensor {tensor.name} lies transposed, and {tensor.format} cannot be turned",
            remedy="use a model whose experts lie as rows of outputs, or one in floats",
        )
    numbers = tensor.data.view(f"u{form.block_bytes}").reshape(-1, *source.shape[-2:])
    for number in numbers:
        chosen = number.T[source.start : source.outputs[-1] + 1 : source.step]
        yield Cut(np.ascontiguousarray(chosen).reshape(-1).view(np.uint8))


def _heads(tensor: Tensor, source: HeadRows) -> Iterator[Cut]:
    """The rows of each head as they lie."""
    stored = tensor.data.reshape(source.shape[0], -1)
    for rows, factors in _of_heads(tensor, source):
        yield Cut(stored[rows.start : rows.stop].reshape(-1), *factors)


def _turned_heads(tensor: Tensor, source: HeadRows) -> Iterator[Cut]:
    """The rows of each head as columns: the same bytes in another order, or float32."""
    form = format_of(tensor.format, tensor.name)
    stored = tensor.data.reshape(source.shape[0], -1)
    if not _turns(tensor, source):
        for rows, factors in _of_heads(tensor, source):
            numbers = _unpacked(form, stored[rows.start : rows.stop], source.shape[1], factors)
            yield Cut(np.ascontiguousarray(numbers.T).reshape(-1).view(np.uint8))
        return
    scales = tensor.scales
    values = None if scales is None else scales.values
    for rows in map(source.rows, range(source.heads)):
        own = np.ascontiguousarray(stored[rows.start : rows.stop]).view(f"u{form.block_bytes}")
        turned = np.ascontiguousarray(own.T).reshape(-1).view(np.uint8)
        if scales is None or values is None:
            yield Cut(turned)
            continue
        first, last = rows.start // scales.rows, -(-rows.stop // scales.rows)
        yield Cut(turned, np.ascontiguousarray(values[first:last].T), scales.columns, scales.rows)


def _of_heads(tensor: Tensor, source: HeadRows) -> Iterator[tuple[range, Factors]]:
    """The rows of each head, and their factors, for one row each."""
    every = [source.rows(head) for head in range(source.heads)]
    found = _factors(tensor, np.concatenate([np.array(rows) for rows in every]))
    for head, rows in enumerate(every):
        if not found:
            yield rows, ()
            continue
        values, high, columns = found
        yield rows, (values[head * source.count : (head + 1) * source.count], high, columns)


def _turns(tensor: Tensor, source: HeadRows) -> bool:
    """Whether turned rows of heads are the same bytes in another order: each number is stored by itself, and
    factors, if there are any, are for many rows of one head."""
    scales = tensor.scales
    if format_of(tensor.format, tensor.name).block != 1:
        return False
    if scales is None:
        return True
    every = [source.rows(head) for head in range(source.heads)]
    whole = all(
        rows.start % scales.rows == 0 or rows.start // scales.rows == (rows.stop - 1) // scales.rows
        for rows in every
    )
    return whole and scales.rows >= LEAST_SEGMENT and scales.fits(tensor.shape)


def _unpacked(form: Format, rows: Bytes, width: int, factors: Factors) -> Float32:
    """Some rows of a tensor as float32."""
    values = form.unpack(np.ascontiguousarray(rows).reshape(-1), len(rows) * width).reshape(len(rows), width)
    if not factors:
        return values
    scales, _, columns = factors
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused when it is packed
        scaled: Float32 = values * np.repeat(scales, columns, axis=1)[:, :width]
    return scaled


def _factors(tensor: Tensor, outputs: Int64 | None = None) -> Factors:
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
