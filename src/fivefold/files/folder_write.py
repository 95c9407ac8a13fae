"""The files of a model folder beside its weights: copied, with a config.json that says more."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fivefold.core.errors import FivefoldError
from fivefold.files.huggingface import CONFIG, INDEX
from fivefold.files.json_text import read_json

WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack", ".part"}
"""Suffixes of files that hold weights, or parts of them."""


def copy_other_files(source: Path, target: Path, config: Mapping[str, Any]) -> None:
    """Copy the files of a model folder but for its weights, with these keys of config.json (None: not).

    Folders in it are left out: they hold other forms of the same model. OSError if a file cannot be written.
    """
    for path in sorted(source.iterdir()):
        weights = path.suffix in WEIGHTS or path.name.endswith((INDEX, ".index.json"))
        if path.name.startswith(".") or weights or path.name == CONFIG or not path.is_file():
            continue
        if (target / path.name).exists():
            raise FivefoldError(
                f"{path.name} is written already", where=str(target),
                remedy=f"take {path.name} out of the source: the output has a file of that name",
            )  # fmt: skip
        shutil.copyfile(path, target / path.name)
        _sync(target / path.name)
    merged = read_json(source / CONFIG) | dict(config)
    kept = {key: value for key, value in merged.items() if value is not None or key not in config}
    text = json.dumps(kept, indent=2, ensure_ascii=False)
    (target / CONFIG).write_text(text + "\n", encoding="utf-8")
    _sync(target / CONFIG)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
