"""What a config says of tensors is held against the tensors themselves."""

from __future__ import annotations

import math
import re
from collections.abc import Collection

import numpy as np

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.formats import FORMATS

_HARMLESS = re.compile(r".*\.rotary_emb\.inv_freq|blk\.\d+\.attn_rot_embd(\.weight)?")
"""Tensors that old converters wrote and that hold what the config says: rotary frequencies."""


def require_tensor(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> None:
    """FileError unless the checkpoint has a tensor of that name and shape. Nothing of it is read."""
    tensor = checkpoint.tensors.get(name)
    if tensor is None or tensor.shape != shape:
        found = "missing" if tensor is None else f"{tensor.shape}, not {shape}"
        raise FileError(
            f"tensor {name} is {found}", where=str(checkpoint.path),
            remedy="fetch the file again or convert the model again",
        )  # fmt: skip


def root_as_stored(checkpoint: Checkpoint, name: str, size: int) -> float:
    """The root of a size, rounded as Transformers does: to the format of the tensor that it multiplies."""
    table = checkpoint.tensors.get(name)
    form = FORMATS[table.format] if table is not None and table.format in ("bf16", "f16") else FORMATS["f32"]
    return float(form.unpack(form.pack(np.array([math.sqrt(size)], np.float32)), 1)[0])


def refuse_unused(checkpoint: Checkpoint, used: Collection[str], family: str) -> None:
    """UnsupportedError for the first tensor that no Program reads: it would have changed the result.

    So a bias or a norm that a family does not know is not left out in silence.
    """
    for name in checkpoint.tensors:
        if name not in used and not _HARMLESS.fullmatch(name):
            raise UnsupportedError(
                f"tensor {name[:200]} has no place in what the config describes of a {family} model",
                where=str(checkpoint.path),
                remedy="convert the model again, or use one of plain form",
            )
