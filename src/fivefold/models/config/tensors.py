"""What a config says of a tensor is held against the tensor itself."""

from __future__ import annotations

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError


def require_tensor(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> None:
    """FileError unless the checkpoint has a tensor of that name and shape. Nothing of it is read."""
    tensor = checkpoint.tensors.get(name)
    if tensor is None or tensor.shape != shape:
        found = "missing" if tensor is None else f"{tensor.shape}, not {shape}"
        raise FileError(
            f"tensor {name} is {found}", where=str(checkpoint.path),
            remedy="fetch the file again or convert the model again",
        )  # fmt: skip
