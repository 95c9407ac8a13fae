"""What a GGUF file keeps beside its NVFP4 tensors: `X.scale` beside `X.weight`, and `X.input_scale`.

The first is multiplied: one number, or one for each expert of a tensor with the matrices of several. The
second is for programs that round activations too, and is passed over. Beside tensors of other formats the
same names mean other things, and are left as they are.

Source: llama.cpp, conversion/base.py (what is written), src/llama-model.cpp (what is read).
"""

from __future__ import annotations

from collections.abc import Mapping

from fivefold.core.checkpoint import Scales, Tensor
from fivefold.core.errors import FileError
from fivefold.files.gguf_values import shown
from fivefold.files.quantized.parts import FETCH_AGAIN, factors_of

SCALE, INPUT_SCALE = "scale", "input_scale"
_FORMAT, _WEIGHT = "nvfp4", ".weight"


def with_scales(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors of a file, or of all its parts, with those of NVFP4 joined with their factors.

    FileError for a companion of another shape or type; the factors are read, and checked, when they are
    wanted.
    """
    found = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.format == _FORMAT and name.endswith(_WEIGHT):
            stem = name.removesuffix(_WEIGHT)
            scale = found.pop(f"{stem}.{SCALE}", None)
            given = found.pop(f"{stem}.{INPUT_SCALE}", None)
            for companion in (scale, given):
                if companion is not None:
                    _check(companion, tensor, where)
            if scale is not None:
                scales = _scales(scale, tensor.shape, where)
                found[name] = Tensor(name, tensor.format, tensor.shape, tensor.stored, scales)
    return found


def _check(companion: Tensor, tensor: Tensor, where: str) -> None:
    experts = tensor.shape[:1] if len(tensor.shape) == len(("expert", "row", "column")) else (1,)
    if companion.format != "f32" or companion.shape not in ((1,), experts):
        raise FileError(
            f"tensor {shown(companion.name)} is {companion.format} {list(companion.shape)}, "
            f"not f32 {list(experts)} as {shown(tensor.name)} {list(tensor.shape)} needs",
            where=where,
            remedy=FETCH_AGAIN,
        )


def _scales(scale: Tensor, shape: tuple[int, ...], where: str) -> Scales:
    """One factor for all, or one for the rows of each expert."""
    count = scale.shape[0]
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return factors_of(scale, (count, 1), (rows // count, shape[-1]), where)
