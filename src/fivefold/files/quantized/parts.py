"""The tensors of one module, and how a quantized matrix is put together from them.

A module's tensors are called after it: `X.weight`, `X.weight_scale` and so on. A scheme says which of them
make the matrix, and what each must look like; nothing of them is read before the matrix is wanted. Factors
are checked when they are read: a NaN, an infinite or a negative one is refused by the name of its tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod
from typing import Protocol

import numpy as np

from fivefold.core.checkpoint import Float32, Made, Scales, Tensor
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.files.gguf_values import shown
from fivefold.formats import FORMATS
from fivefold.formats.mxfp4 import powers

FLOATS = frozenset({"f32", "f16", "bf16"})
_POWERS = "f8_e8m0"
FETCH_AGAIN = "fetch the model again, or take another quantization of it"


class Parts:
    """The tensors of a module by what they are, after the `prefix` of their names: the module's own, and the
    `joint` behind it. `where` is the folder.
    """

    def __init__(self, prefix: str, tensors: Mapping[str, Tensor], where: str, joint: str) -> None:
        self.module = prefix.removesuffix(joint)
        self.where = where
        self._prefix = prefix
        self._tensors = tensors
        self._taken: set[str] = set()

    def name(self, leaf: str) -> str:
        """What a tensor of the module is called in the file."""
        return self._prefix + leaf

    @property
    def weight(self) -> str:
        """What families call the module's matrix."""
        return f"{self.module}.weight" if self._prefix else "weight"

    def __contains__(self, leaf: str) -> bool:
        return leaf in self._tensors

    def take(self, leaf: str, formats: Collection[str]) -> Tensor:
        """A tensor that must be there, in one of these formats."""
        tensor = self._tensors.get(leaf)
        if tensor is None:
            held = next(iter(self._tensors))
            raise self.wrong(leaf, f"is missing beside {shown(self.name(held))}")
        if tensor.format not in formats:
            raise self.wrong(leaf, f"is {tensor.format}, not {' or '.join(sorted(formats))}")
        self._taken.add(leaf)
        return tensor

    def left(self) -> dict[str, Tensor]:
        """What was not taken, by what it is."""
        return {leaf: tensor for leaf, tensor in self._tensors.items() if leaf not in self._taken}

    def wrong(self, leaf: str, what: str) -> FileError:
        """The error for a tensor that is not as it must be."""
        return FileError(f"tensor {shown(self.name(leaf))} {what}", where=self.where, remedy=FETCH_AGAIN)

    def factors(
        self, leaf: str, shape: tuple[int, int], block: tuple[int, int], reciprocal: bool = False
    ) -> Scales:
        """The factors (R, C) in a tensor, one for a block each; what is stored may be the `reciprocal`."""
        tensor = self.take(leaf, FLOATS | {_POWERS})
        if [size for size in tensor.shape if size != 1] != [size for size in shape if size != 1]:
            raise self.wrong(leaf, f"is {list(tensor.shape)}, not {list(shape)}")
        return factors_of(tensor, shape, block, self.where, reciprocal)


def factors_of(
    tensor: Tensor, shape: tuple[int, int], block: tuple[int, int], where: str, reciprocal: bool = False
) -> Scales:
    """The numbers of a tensor as factors (R, C) for a block each, checked when they are read."""

    def read() -> Float32:
        values = floats(tensor)
        good = np.isfinite(values) & (values >= 0)
        if reciprocal:
            with np.errstate(divide="ignore", over="ignore"):
                values = np.float32(1.0) / values
            good &= np.isfinite(values)
        if not good.all():
            bad = floats(tensor)[int(np.argmin(good))]
            raise FileError(
                f"tensor {shown(tensor.name)} holds {bad}, which no scale can be", where=where,
                remedy=FETCH_AGAIN,
            )  # fmt: skip
        return values.reshape(shape)

    return Scales(Made(shape, read, tensor.parts), *block)


class Scheme(Protocol):
    """One way to store a matrix."""

    def read(self, parts: Parts) -> Tensor:
        """The matrix, named `X.weight`. FileError or UnsupportedError for a part that does not fit."""


def floats(tensor: Tensor) -> Float32:
    """The numbers of a small tensor as float32, flat, exact."""
    if tensor.format == _POWERS:
        with np.errstate(over="ignore"):  # of the byte that stands for NaN
            return powers(tensor.data)
    return FORMATS[tensor.format].unpack(tensor.data, prod(tensor.shape))


def whole_blocks(parts: Parts, leaf: str, columns: int, form: str) -> None:
    """UnsupportedError unless rows of a matrix fill whole blocks of the format that it is given in."""
    block = FORMATS[form].block
    if columns % block:
        raise UnsupportedError(
            f"tensor {shown(parts.name(leaf))}: rows of {columns} numbers do not fill whole {form} blocks of "
            f"{block}",
            where=parts.where,
            remedy="take a version of the model in which this matrix is not quantized, or in FP8",
        )
