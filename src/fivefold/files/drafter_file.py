"""A side drafter as a file, and which one belongs to a model: one beside it, or one that is shipped.

Tensors are the weights by their names, matrices as the bytes that run (M, bytes of a row), and `slots` where
the form has them. All sizes and the head's tokens, whose rows are the model's own, are in the header's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.drafter import Drafter, DrafterOrigin, DrafterShape
from fivefold.files.learned import SHIPPED, PartKind, model_fingerprint
from fivefold.formats import format_of
from fivefold.program import Model, packed_form, weight_name

SIDE_DRAFTER = PartKind("side drafter", "1", "drafter", "fivefold train drafter")


def write_drafter(path: Path, drafter: Drafter) -> None:
    """Write the drafter; it takes its name in one step. FivefoldError if it cannot be written."""
    arrays = {
        name: one.data.reshape(one.shape[0], -1) if len(one.shape) == 2 else one.data.view(np.float32)
        for name, one in drafter.weights.items()
    }
    if len(drafter.slots):
        arrays["slots"] = drafter.slots
    described = {
        "shape": asdict(drafter.shape), "tokens": drafter.tokens.tolist(), "origin": asdict(drafter.origin),
        "fingerprint": drafter.origin.fingerprint,
    }  # fmt: skip
    SIDE_DRAFTER.write(path, arrays, described)


def read_drafter(path: Path) -> Drafter:
    """Read a drafter. FileError if the file is none or does not fit itself."""
    with SIDE_DRAFTER.reading(path):
        arrays, described = SIDE_DRAFTER.read(path)
        sizes = described["shape"]
        shape = DrafterShape(**sizes | {"taps": tuple(sizes["taps"])})
        slots = arrays.pop("slots", np.zeros((0, shape.hidden), np.float32))
        tokens = np.array(described["tokens"], np.int32)
        weights = _weights(shape, arrays)
        return Drafter(shape, weights, slots, tokens, DrafterOrigin(**described["origin"]))


def _weights(shape: DrafterShape, arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    """The file's arrays as weights of that shape; ValueError for bytes that are not so many."""
    found = {}
    for name, values in arrays.items():
        dimensions = shape.weights().get(name, values.shape)
        form = packed_form(dimensions)
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        if len(data) != format_of(form).bytes_for(prod(dimensions)):
            raise ValueError(f"{name} has {len(data)} bytes, {dimensions} take others")
        found[name] = Tensor(weight_name(name), form, dimensions, data)
    return found


def drafter_for(path: Path, model: Model, checkpoint: Checkpoint) -> Drafter:
    """The drafter of that file for this model.

    UnsupportedError if it was made for another model, FileError if it cannot be read.
    """
    return _fitted(path, model, checkpoint, model_fingerprint(model, checkpoint))


def found_drafter(model: Model, checkpoint: Checkpoint, shipped: Path = SHIPPED) -> Drafter | None:
    """The model's drafter, or None; errors as of reading if one lies beside the model and is not its own."""
    found = SIDE_DRAFTER.found(model, checkpoint, shipped)
    return None if found is None else _fitted(found[0], model, checkpoint, found[1])


def _fitted(path: Path, model: Model, checkpoint: Checkpoint, fingerprint: str) -> Drafter:
    drafter = read_drafter(path)
    made_for = drafter.origin.model, drafter.origin.fingerprint
    SIDE_DRAFTER.require(made_for, fingerprint, checkpoint, path)
    shape = model.shape
    drafter.require_fit(shape.hidden, shape.layers, shape.vocabulary, str(path))
    return drafter
