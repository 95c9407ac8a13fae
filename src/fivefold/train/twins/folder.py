"""A twin as the folder of a model: config.json, weights of float16, its tokenizer, and how it was made.

Everything that serves models reads it as any other folder; nothing of it is particular to twins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fivefold.core.batch import Float32
from fivefold.core.errors import FileError, FivefoldError
from fivefold.files import open_safetensors, whole_file
from fivefold.files.layout import Outline
from fivefold.files.safetensors_write import single_file
from fivefold.formats import format_of

from .corpus import END, MASK, TOKENIZER
from .shape import TwinShape

WEIGHTS, MADE = "model.safetensors", "twin.json"
CONTEXT = 512
"""Tokens of prompt and answer: twice the longest record that is learned from."""


def write_twin(
    folder: Path,
    weights: Mapping[str, Float32],
    config: Mapping[str, Any],
    tokenizer: Path,
    made: Mapping[str, Any],
) -> None:
    """Write the folder's files, each of which takes its name in one step. FivefoldError if that fails."""
    stored = {name: values.astype(np.float16) for name, values in weights.items()}
    if not all(np.isfinite(values).all() for values in stored.values()):
        raise FivefoldError("some numbers are too large for float16", where=str(folder),
                            remedy="train with a lower rate")  # fmt: skip
    outlines = [Outline(name, "f16", values.shape) for name, values in stored.items()]
    head, places = single_file(WEIGHTS, outlines, {"format": "pt"}, str(folder))
    texts = {
        "config.json": config,
        MADE: made,
        "tokenizer_config.json": {"eos_token": END, "mask_token": MASK},
    }
    files = {name: (json.dumps(value, indent=2) + "\n").encode() for name, value in texts.items()}
    files[TOKENIZER] = tokenizer.read_bytes()
    files[WEIGHTS] = head + b"".join(
        stored[name].tobytes() for name in sorted(places, key=lambda one: places[one].offset)
    )
    try:
        for name, content in files.items():
            with whole_file(folder / name) as file:
                file.write(content)
    except OSError as error:
        raise FivefoldError(
            f"cannot be written ({error.strerror or error})", where=str(folder),
            remedy="check the folder and the room on the disk",
        ) from None  # fmt: skip


def read_weights(folder: Path, shape: TwinShape) -> dict[str, Float32]:
    """The weights of a twin's folder, to go on from; FileError if they are not those of the shape."""
    tensors = open_safetensors(folder / WEIGHTS)
    for name, wanted in shape.weights().items():
        if name not in tensors or tuple(tensors[name].shape) != wanted:
            raise FileError(f"{name} is not {wanted}", where=str(folder / WEIGHTS),
                            remedy="begin from a twin of the same sizes")  # fmt: skip
    return {
        name: format_of(tensors[name].format, name)
        .unpack(tensors[name].data, int(np.prod(wanted)))
        .reshape(wanted)
        for name, wanted in shape.weights().items()
    }
