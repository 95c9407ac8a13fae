"""What a config says of tensors is held against the tensors themselves."""

from __future__ import annotations

import re
from collections.abc import Collection

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, UnsupportedError

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


def refuse_unused(
    checkpoint: Checkpoint, used: Collection[str], family: str, left_out: tuple[str, ...] = ()
) -> None:
    """UnsupportedError for the first tensor that no Program reads: it would have changed the result.

    So a bias or a norm that a family does not know is not left out in silence. `left_out` are beginnings of
    names that the family leaves out knowingly.
    """
    for name in checkpoint.tensors:
        if name not in used and not _HARMLESS.fullmatch(name) and not name.startswith(left_out):
            raise UnsupportedError(
                f"tensor {name[:200]} has no place in what the config describes of a {family} model",
                where=str(checkpoint.path),
                remedy="convert the model again, or use one of plain form",
            )
