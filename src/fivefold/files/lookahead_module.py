"""A lookahead module as a file: `embeddings`, and for each weight `<name>.down` and `<name>.up`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.lookahead import LookaheadModule, Origin
from fivefold.files.learned import PartKind, model_fingerprint
from fivefold.program import Model

LOOKAHEAD_MODULE = PartKind("lookahead module", "1", "lookahead", "fivefold train lookahead")

_EMBEDDINGS = "embeddings"


def write_lookahead_module(path: Path, module: LookaheadModule) -> None:
    """Write the module; it takes its name in one step. FivefoldError if it cannot be written."""
    arrays = {_EMBEDDINGS: module.embeddings}
    for name, (down, up) in module.pairs.items():
        arrays[f"{name}.down"], arrays[f"{name}.up"] = down, up
    LOOKAHEAD_MODULE.write(path, arrays, _described(module))


def read_lookahead_module(path: Path) -> LookaheadModule:
    """Read a module. FileError if the file is no module or does not fit itself."""
    with LOOKAHEAD_MODULE.reading(path):
        arrays, described = LOOKAHEAD_MODULE.read(path)
        embeddings = arrays.pop(_EMBEDDINGS)
        names = [name.removesuffix(".down") for name in arrays if name.endswith(".down")]
        pairs = {name: (arrays.pop(f"{name}.down"), arrays.pop(f"{name}.up")) for name in names}
        if arrays:
            raise ValueError(f"tensor {min(arrays)} belongs to no pair")
        shape = tuple(described.pop(key) for key in ("n", "hidden"))
        if embeddings.shape != shape:
            raise ValueError(f"embeddings {embeddings.shape} are not {shape}")
        module = {key: described.pop(key) for key in ("alpha", "rank", "pooling", "positions")}
        origin = Origin(**described | {"lengths": tuple(described["lengths"])})
        return LookaheadModule(embeddings, pairs, **module, origin=origin)


def lookahead_module_for(path: Path, model: Model, checkpoint: Checkpoint) -> LookaheadModule:
    """The module of that file for this model.

    UnsupportedError if it was made for another model, FileError if it cannot be read.
    """
    return fitted_module(path, model, checkpoint, model_fingerprint(model, checkpoint))


def fitted_module(path: Path, model: Model, checkpoint: Checkpoint, fingerprint: str) -> LookaheadModule:
    """The same where the model's fingerprint is known."""
    module = read_lookahead_module(path)
    made_for = module.origin.model, module.origin.fingerprint
    LOOKAHEAD_MODULE.require(made_for, fingerprint, checkpoint, path)
    shapes = {name: weight.shape for name, weight in model.main.weights.items()}
    module.require_fit(model.shape.hidden, shapes, str(path))
    return module


def _described(module: LookaheadModule) -> Mapping[str, Any]:
    """What the header says of it."""
    return {
        "n": module.rows, "hidden": module.embeddings.shape[1], "rank": module.rank, "alpha": module.alpha,
        "pooling": module.pooling, "positions": module.positions, **asdict(module.origin),
    }  # fmt: skip
