"""Which family takes which architecture. Aliases are data; families do not know each other."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.program import Model

ARCHITECTURES: Mapping[str, str] = {"llama": "llama", "qwen2": "llama"}
"""GGUF `general.architecture` to the module of its family."""


def load_model(checkpoint: Checkpoint) -> Model:
    """The model that a checkpoint describes, its weights checked for name and shape."""
    where = str(checkpoint.path)
    architecture = checkpoint.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise FileError("key general.architecture is missing", where=where, remedy="convert the model again")
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UnsupportedError(
            f"architecture {architecture!r} is not known", where=where, remedy=f"known are {known}"
        )
    family = importlib.import_module(f"{__package__}.{ARCHITECTURES[architecture]}")
    model: Model = family.load(checkpoint, architecture)
    _check_weights(model, checkpoint)
    return model


def _check_weights(model: Model, checkpoint: Checkpoint) -> None:
    """Each weight of each Program is in the file, with its shape; nothing is read for that."""
    for program in model.programs.values():
        for weight in program.weights.values():
            if weight.name in program.constants:
                continue
            tensor = checkpoint.tensors.get(weight.name)
            if tensor is None or tensor.shape != weight.shape:
                found = "missing" if tensor is None else f"{tensor.shape}, not {weight.shape}"
                raise FileError(
                    f"tensor {weight.name} is {found}", where=str(checkpoint.path),
                    remedy="fetch the file again or convert the model again",
                )  # fmt: skip
