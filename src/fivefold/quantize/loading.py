"""Conversion at load: matrices in another format than their file has, made one by one when they are packed.

What becomes of a tensor follows the rules of a GGUF output (`roles`, a finer head for coarse formats), by the
format's rounding alone: a sweep of nvfp4 takes minutes for a billion numbers, and whoever has them writes
the model once with `fivefold quantize`. A tensor that cannot have the asked format stays as it is stored, or
is given another where that makes it smaller. Nothing is read before a tensor is wanted, and some rows of one
are floats at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import numpy as np

from fivefold.core.checkpoint import Bytes, Checkpoint, Float32, Made, Scales, Tensor
from fivefold.core.errors import InputError
from fivefold.formats import FORMATS
from fivefold.quantize import fp8, nvfp4
from fivefold.quantize.choice import Choice
from fivefold.quantize.encode import check_finite, encode
from fivefold.quantize.gguf_output import COARSE
from fivefold.quantize.pieces import float_pieces, magnitude
from fivefold.quantize.roles import role_of
from fivefold.quantize.targets import TARGETS, target_of

FINER = "q8_0"
"""For heads and tables of embeddings in place of a coarse format, and where K does not fill whole blocks."""

ROWS = 1 << 20
"""Numbers that are floats at once."""

_WHOLE = ("fp8_tensor", "fp8_block")
"""Targets whose scales are for more rows than one: they are for files that others read."""


@dataclass(frozen=True, slots=True)
class LoadedFormat:
    """The conversion of all matrices to one format."""

    format: str
    known: ClassVar[tuple[str, ...]] = ("auto", *(name for name in TARGETS if name not in _WHOLE))

    def of(self, checkpoint: Checkpoint) -> Checkpoint:
        """The same checkpoint, its matrices in the format; their bytes and scales are made when wanted."""
        tensors = {name: self._tensor(tensor) for name, tensor in checkpoint.tensors.items()}
        return replace(checkpoint, tensors=tensors)

    def _tensor(self, tensor: Tensor) -> Tensor:
        choice = self._choice(tensor)
        return tensor if choice is None else Rounded(tensor, choice).tensor()

    def _choice(self, tensor: Tensor) -> Choice | None:
        """What a tensor is rounded to; None keeps it."""
        role = role_of(tensor)
        if role == "rest" or tensor.format not in FORMATS:
            return None
        target = target_of(self.format)
        coarse = role in ("embedding", "head") and target.bits < COARSE
        if tensor.format == target.stored and (tensor.scales is None or target.stored == "nvfp4"):
            return None
        if not coarse and tensor.shape[-1] % target.block == 0:
            return Choice(self.format)
        finer = target_of(FINER)
        smaller = finer.bits < FORMATS[tensor.format].bits and tensor.shape[-1] % finer.block == 0
        return Choice(FINER) if smaller else None


def loaded_format(name: str, where: str) -> LoadedFormat | None:
    """The conversion of that name, None for "auto"; InputError with the names that there are."""
    if name in ("", "auto"):
        return None
    if name not in LoadedFormat.known:
        raise InputError(
            f"{name!r:.60} is no format to load in", where=where,
            remedy=f"choose one of {', '.join(LoadedFormat.known)}",
        )  # fmt: skip
    return LoadedFormat(name)


class Rounded:
    """A stored tensor (..., M, K) and what it is rounded to. Its largest magnitude is looked for once."""

    def __init__(self, source: Tensor, choice: Choice) -> None:
        self.source = source
        self.choice = choice
        self.form = FORMATS[target_of(choice.format).stored]
        self.rows, self.columns = prod(source.shape[:-1]), source.shape[-1]
        self._largest: float | None = None

    def tensor(self) -> Tensor:
        """The tensor, of which nothing is made yet."""
        source = self.source
        size = self.form.bytes_for(self.rows * self.columns)
        made = Made((size,), self.bytes, source.parts)
        return Tensor(source.name, self.form.name, source.shape, made, self._scales())

    def bytes(self) -> Bytes:
        """Its bytes, made of some rows at a time."""
        row = self.form.bytes_for(self.columns)
        data = np.empty((self.rows, row), np.uint8)
        choice = self.choice
        if choice.format == "nvfp4":  # all rows have the tensor's factor
            choice = replace(choice, largest=self._magnitude())
        for piece, values in float_pieces(self.source, ROWS):
            data[piece] = encode(self.source.name, values, choice).data.reshape(-1, row)
        return data.reshape(-1)

    def _scales(self) -> Scales | None:
        """The scales beside its bytes: one for all (nvfp4), one for each row (fp8), or none."""
        parts = self.source.parts
        if self.choice.format == "nvfp4":
            return Scales(Made((1, 1), self._factor, parts), self.rows, self.columns)
        if target_of(self.choice.format).scales is not None:
            return Scales(Made((self.rows, 1), self._row_scales, parts), 1, self.columns)
        return None

    def _factor(self) -> Float32:
        choice = replace(self.choice, largest=self._magnitude())
        return np.full((1, 1), nvfp4.tensor_factor(np.zeros((1, 1), np.float32), choice), np.float32)

    def _row_scales(self) -> Float32:
        found = [fp8.block_scales(values, 1, self.columns) for values in self._checked()]
        return np.concatenate(found)

    def _magnitude(self) -> float:
        if self._largest is None:
            self._largest = max((magnitude(values) for values in self._checked()), default=0.0)
        return self._largest

    def _checked(self) -> Iterator[Float32]:
        for _, values in float_pieces(self.source, ROWS):
            check_finite(self.source.name, values)
            yield values
