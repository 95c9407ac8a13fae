"""A side drafter as a file, and which one belongs to a model: one beside it, or one that is shipped.

Tensors are the weights by their names, `slots` where the form has them, and `head`; the head's tokens and all
sizes stand in the header's text.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.drafter import Drafter, DrafterOrigin, DrafterShape
from fivefold.files.learned import SHIPPED, PartKind, model_fingerprint
from fivefold.program import Model

SIDE_DRAFTER = PartKind("side drafter", "1", "drafter", "fivefold train drafter")


def write_drafter(path: Path, drafter: Drafter) -> None:
    """Write the drafter; it takes its name in one step. FivefoldError if it cannot be written."""
    arrays = {**drafter.weights, "head": drafter.head}
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
        head = arrays.pop("head").astype(np.float16)
        slots = arrays.pop("slots", np.zeros((0, shape.hidden), np.float32))
        tokens = np.array(described["tokens"], np.int32)
        return Drafter(shape, arrays, slots, head, tokens, DrafterOrigin(**described["origin"]))


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
