"""One matrix into one format, by all methods that need no more than the importance of its columns.

Methods that need more (gptq) are called by whoever has it (`calibrated`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from fivefold.core.checkpoint import Float32, Scales, Tensor
from fivefold.core.errors import FileError, FivefoldError, InputError
from fivefold.formats import format_of
from fivefold.quantize import fp8, mxfp4, nvfp4, spaced
from fivefold.quantize.choice import Choice
from fivefold.quantize.pieces import LARGE_PIECE, float_values, magnitude, packed, row_pieces
from fivefold.quantize.targets import target_of

_NEAR_THE_END = {"f16": 65504.0}
"""Magnitudes above this may round to more than the format can hold; for the others that is 1e38."""

Encoder = Callable[[str, Float32, Choice, Float32 | None], Tensor]


def encode(name: str, values: Float32, choice: Choice, importance: Float32 | None = None) -> Tensor:
    """A matrix (M, K) as a stored tensor of that name.

    `importance` (K,) weighs the squared errors of the columns in a sweep; it is finite and at least 0. Raises
    FileError when a number is NaN or infinite, InputError when K does not fill whole blocks or there is no
    such method.
    """
    where = f"tensor {name}"
    choice.check(where)
    target = target_of(choice.format, where)
    if values.ndim != 2 or values.size == 0 or values.shape[1] % target.block:
        raise InputError(
            f"shape {list(values.shape)} is no matrix of whole blocks of {target.block}",
            where=where, remedy="keep this tensor in another format",
        )  # fmt: skip
    encoder = ENCODERS.get((choice.format, choice.method))
    if encoder is None:
        raise InputError(
            f"method {choice.method!r} takes more than the matrix",
            where=where,
            remedy="choose round or sweep",
        )
    values = np.ascontiguousarray(values, np.float32)
    check_finite(name, values)
    if importance is not None:
        importance = _importance(importance, values.shape[1], where)
    try:
        made = encoder(name, values, choice, importance)
    except FivefoldError as error:
        raise FileError(error.what, where=where, remedy=error.remedy) from None
    check_held(values, made)
    return made


def check_held(values: Float32, made: Tensor) -> None:
    """FileError if a number of a matrix (M, K) became infinite as it was stored."""
    largest = magnitude(values)
    if largest > _NEAR_THE_END.get(made.format, 1e38) and not np.isfinite(float_values(made)).all():
        raise FileError(
            f"a magnitude of {largest:g} is more than {made.format} can hold", where=f"tensor {made.name}",
            remedy="keep this tensor, or choose another format for it",
        )  # fmt: skip


def check_finite(name: str, values: Float32) -> None:
    """FileError if a number of a matrix (M, K) is NaN or infinite."""
    rows, columns = values.shape
    for piece in row_pieces(rows, columns, LARGE_PIECE):
        finite = np.isfinite(values[piece]).all(axis=1)
        if not finite.all():
            raise FileError(
                f"row {piece.start + int(finite.argmin())} holds a number that is NaN or infinite",
                where=f"tensor {name}",
                remedy="fetch the file again or take another conversion of the model",
            )


def largest_of(names: Sequence[str], values: Callable[[str], Float32], known: dict[str, float]) -> float:
    """The largest magnitude of matrices that share a factor, 0 of none; `known` keeps that of each."""
    for name in names:
        if name not in known:
            numbers = values(name)
            check_finite(name, numbers)
            known[name] = magnitude(numbers)
    return max((known[name] for name in names), default=0.0)


def _importance(importance: Float32, columns: int, where: str) -> Float32:
    if importance.shape != (columns,) or not np.isfinite(importance).all() or importance.min() < 0:
        raise InputError(
            f"importance {list(importance.shape)} is not {columns} finite numbers of at least 0", where=where
        )
    return np.ascontiguousarray(importance, np.float32)


def _nvfp4(name: str, values: Float32, choice: Choice, importance: Float32 | None) -> Tensor:
    factor = nvfp4.tensor_factor(values, choice)
    if choice.method == "round":
        data = nvfp4.rounded(values, factor)
    else:
        data = nvfp4.swept(values, factor, choice.window, importance)
    scales = None if choice.factor == "one" else Scales.whole(factor, values.shape)
    return Tensor(name, "nvfp4", values.shape, data, scales)


def _mxfp4(name: str, values: Float32, choice: Choice, importance: Float32 | None) -> Tensor:
    return Tensor(name, "mxfp4", values.shape, mxfp4.swept(values, importance))


def _spaced(name: str, values: Float32, choice: Choice, importance: Float32 | None) -> Tensor:
    return Tensor(name, choice.format, values.shape, spaced.swept(choice.format, values, importance))


def _fp8(name: str, values: Float32, choice: Choice, importance: Float32 | None) -> Tensor:
    block = target_of(choice.format).scales
    assert block is not None, "only targets with scales come here"
    data, scales = fp8.rounded(values, block)
    return Tensor(name, "f8_e4m3", values.shape, data, scales)


def _plain(name: str, values: Float32, choice: Choice, importance: Float32 | None) -> Tensor:
    """The format's own rounding, without anything beside it."""
    row = format_of(choice.format)
    return Tensor(name, row.name, values.shape, packed(values, row, LARGE_PIECE, row.pack))


ENCODERS: Mapping[tuple[str, str], Encoder] = MappingProxyType(
    {
        ("nvfp4", "round"): _nvfp4,
        ("nvfp4", "sweep"): _nvfp4,
        ("mxfp4", "round"): _plain,
        ("mxfp4", "sweep"): _mxfp4,
        ("q4_0", "round"): _plain,
        ("q4_0", "sweep"): _spaced,
        ("q5_0", "round"): _plain,
        ("q8_0", "round"): _plain,
        ("q8_0", "sweep"): _spaced,
        ("fp8", "round"): _fp8,
        ("fp8_tensor", "round"): _fp8,
        ("fp8_block", "round"): _fp8,
        ("f16", "round"): _plain,
        ("bf16", "round"): _plain,
        ("f32", "round"): _plain,
    }
)
"""By format and method."""
