"""A lookahead module as one safetensors file, and the fingerprint that ties it to its model.

Tensors are float16: `embeddings`, and for each weight `<name>.down` and `<name>.up`. What else a module is
stands in the header's free text as strings. The fingerprint is taken of what all number formats of a model
have alike: its sizes, and the names and numbers of its vectors (norms and biases), which are never quantized.
So a module serves its model in any format, and no other: also not the same one under other names of weights,
since files with other names may have rows in another order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fivefold.core.batch import Float32
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.errors import FileError, FivefoldError, UnsupportedError
from fivefold.core.lookahead import LookaheadModule, Origin
from fivefold.files.layout import Outline
from fivefold.files.safetensors import free_text, open_safetensors
from fivefold.files.safetensors_write import single_file
from fivefold.files.whole import whole_file
from fivefold.formats import format_of
from fivefold.program import Model

FORMAT = "1"
"""Version of the layout of the file."""

_KIND = "fivefold lookahead module"
_EMBEDDINGS = "embeddings"
_DAMAGED = "take another file, or train it again: fivefold train lookahead"


def model_fingerprint(model: Model, checkpoint: Checkpoint) -> str:
    """64 hexadecimal digits that tell a model from others, whatever its matrices are stored as."""
    digest = hashlib.sha256(json.dumps(asdict(model.shape), sort_keys=True).encode())
    program = model.main
    for name, weight in program.weights.items():
        if len(weight.shape) == 1 and name not in program.constants:
            digest.update(json.dumps([name, weight.shape]).encode())
            digest.update(weight.of(lambda tensor: _vector(checkpoint.tensors[tensor])).tobytes())
    return digest.hexdigest()


def _vector(tensor: Tensor) -> Float32:
    """A tensor without factors, as float32."""
    count = int(np.prod(tensor.shape))
    return format_of(tensor.format, tensor.name).unpack(tensor.data, count).reshape(tensor.shape)


def write_lookahead_module(path: Path, module: LookaheadModule) -> None:
    """Write the module; it takes its name in one step. FivefoldError if it cannot be written."""
    arrays = {_EMBEDDINGS: module.embeddings}
    for name, (down, up) in module.pairs.items():
        arrays[f"{name}.down"], arrays[f"{name}.up"] = down, up
    with np.errstate(over="ignore"):  # it is refused below, by name
        stored = {name: np.ascontiguousarray(values, np.float16) for name, values in arrays.items()}
    too_large = next((name for name, values in stored.items() if not np.isfinite(values).all()), None)
    if too_large is not None:
        raise FivefoldError(
            f"numbers of {too_large} are too large for float16", where=str(path),
            remedy="train with a lower rate",
        )  # fmt: skip
    outlines = [Outline(name, "f16", values.shape) for name, values in stored.items()]
    head, places = single_file(path.name, outlines, _described(module), str(path))
    try:
        with whole_file(path) as file:
            file.write(head)
            for name in sorted(places, key=lambda one: places[one].offset):
                file.write(stored[name].tobytes())
    except OSError as error:
        raise FivefoldError(
            f"cannot be written ({error.strerror or error})", where=str(path),
            remedy="check the folder, its permissions and the room on the disk",
        ) from None  # fmt: skip


def read_lookahead_module(path: Path) -> LookaheadModule:
    """Read a module. FileError if the file is no module or does not fit itself."""
    where = str(path)
    tensors, text = open_safetensors(path), free_text(path)
    if text.get("kind") != _KIND or text.get("format") != FORMAT:
        raise FileError(f"this is no lookahead module of format {FORMAT}", where=where, remedy=_DAMAGED)
    arrays = {name: _vector(tensor) for name, tensor in tensors.items()}
    try:
        described = {
            name: json.loads(value) for name, value in text.items() if name not in ("kind", "format")
        }
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
    except FivefoldError as error:
        raise FileError(error.what, where=where, remedy=_DAMAGED) from None
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(f"its description cannot be read ({error})", where=where, remedy=_DAMAGED) from None


def lookahead_module_for(path: Path, model: Model, checkpoint: Checkpoint) -> LookaheadModule:
    """The module of that file for this model.

    UnsupportedError if it was made for another model, FileError if it cannot be read.
    """
    return fitted_module(path, model, checkpoint, model_fingerprint(model, checkpoint))


def fitted_module(path: Path, model: Model, checkpoint: Checkpoint, fingerprint: str) -> LookaheadModule:
    """The same where the model's fingerprint is known."""
    module = read_lookahead_module(path)
    if module.origin.fingerprint != fingerprint:
        raise UnsupportedError(
            f"the lookahead module was made for {module.origin.model or 'another model'}, and this model "
            f"({checkpoint.path.name}) is another", where=str(path),
            remedy="train one for it: fivefold train lookahead",
        )  # fmt: skip
    shapes = {name: weight.shape for name, weight in model.main.weights.items()}
    module.require_fit(model.shape.hidden, shapes, str(path))
    return module


def _described(module: LookaheadModule) -> Mapping[str, str]:
    """The header's free text: each value as JSON, but for the kind and the version."""
    values: dict[str, Any] = {
        "n": module.rows, "hidden": module.embeddings.shape[1], "rank": module.rank, "alpha": module.alpha,
        "pooling": module.pooling, "positions": module.positions, **asdict(module.origin),
    }  # fmt: skip
    return {"kind": _KIND, "format": FORMAT} | {name: json.dumps(value) for name, value in values.items()}
