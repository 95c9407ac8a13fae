"""Opening a model folder as Hugging Face lays it out: config.json and safetensors files, whole or in shards.

The metadata of such a checkpoint is what stands in config.json, and one key more: the chat template's text,
under the name that it has in GGUF files (and `quantization_config`, where ModelOpt's own file alone has it).
Which config means what is for `models`; the tokenizer has a reader of its own, and so have quantized weights
(`quantized`). Pickled weights (.bin, .pt) are never opened, for opening them would run them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fivefold.core.checkpoint import CHAT_TEMPLATE, Checkpoint, Tensor
from fivefold.core.errors import FileError
from fivefold.files.gguf_values import shown
from fivefold.files.json_text import read_json, read_text
from fivefold.files.quantized import QUANTIZATION, quantization_of, with_quantization
from fivefold.files.safetensors import HEADER_LIMIT, open_safetensors

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TEMPLATE = "chat_template.jinja"
TOKENIZER_CONFIG = "tokenizer_config.json"

_LONGEST_NAME = 255  # bytes that a file system takes
_FETCH_ALL = "fetch all files of one model again"
_SHARD = re.compile(r".+-\d{5}-of-\d{5}\.safetensors", re.DOTALL)


def open_folder(folder: Path, weights: Path | None = None) -> Checkpoint:
    """Open a folder; `weights` is its safetensors file or index, found by its name when left out.

    FileError when a file is missing, malformed or contradicts another, or the choice is not clear;
    UnsupportedError for a quantization that is not read.
    """
    config = folder / CONFIG
    if not config.is_file():
        raise FileError(
            f"the folder has no {CONFIG}", where=str(folder), remedy="put the model's config.json there"
        )
    metadata = read_json(config)
    if CHAT_TEMPLATE in metadata:
        raise FileError(f"key {CHAT_TEMPLATE} does not belong there", where=str(config), remedy="take it out")
    template = _template(folder)
    if template is not None:
        metadata[CHAT_TEMPLATE] = template
    said = quantization_of(metadata, folder)
    if said[0] is not None:
        metadata[QUANTIZATION] = said[0]
    tensors = with_quantization(_tensors(weights or find_weights(folder)), said, folder)
    return Checkpoint(folder, "huggingface", MappingProxyType(metadata), tensors)


def find_weights(folder: Path) -> Path:
    """The safetensors file or index that a folder's name for it says; FileError if there are two or none."""
    whole, index = folder / WEIGHTS, folder / INDEX
    if whole.is_file() and index.is_file():
        raise FileError(
            f"the folder holds both {WEIGHTS} and {INDEX}", where=str(folder), remedy="name one of them"
        )
    if whole.is_file() or index.is_file():
        return whole if whole.is_file() else index
    files = sorted(path for path in folder.iterdir() if path.suffix == ".safetensors")
    if len(files) == 1 and not _SHARD.fullmatch(files[0].name):
        return files[0]
    if files:
        raise FileError(
            f"the folder holds {len(files)} safetensors files and no {INDEX}",
            where=str(folder),
            remedy=f"put {INDEX} there, or name one file",
        )
    raise FileError("the folder has no safetensors file", where=str(folder), remedy=_FETCH_ALL)


def index_of(path: Path) -> Path:
    """What to open when a file of a folder is named: for a shard the index that lists it."""
    index = path.with_name(INDEX)
    return index if _SHARD.fullmatch(path.name) and index.is_file() else path


def _tensors(weights: Path) -> Mapping[str, Tensor]:
    return _shards(weights) if weights.suffix == ".json" else open_safetensors(weights)


def _shards(index: Path) -> Mapping[str, Tensor]:
    """The tensors of all shards, which must be where the index says, and there only."""
    places = _weight_map(index)
    shards = [index.with_name(name) for name in sorted(set(places.values()))]
    for number, shard in enumerate(shards, 1):
        if not shard.exists():
            what = f"shard {number} of {len(shards)} is missing"
            raise FileError(what, where=str(shard), remedy=_FETCH_ALL)
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        for key, tensor in open_safetensors(shard).items():
            if places.get(key, shard.name) != shard.name or key in tensors:
                raise FileError(
                    f"tensor {shown(key)} also stands in another shard", where=str(shard), remedy=_FETCH_ALL
                )
            tensors[key] = tensor
    for key, name in places.items():
        if key not in tensors:
            raise FileError(
                f"tensor {shown(key)} is missing", where=str(index.with_name(name)), remedy=_FETCH_ALL
            )
    return MappingProxyType(tensors)


def _weight_map(index: Path) -> dict[str, str]:
    """Which shard has which tensor; FileError unless every shard is a file beside the index."""
    value = read_json(index, HEADER_LIMIT).get("weight_map")
    if not isinstance(value, dict) or not value:
        raise FileError("key weight_map is not a map of tensors", where=str(index), remedy=_FETCH_ALL)
    for key, name in value.items():
        plain = isinstance(name, str) and name.endswith(".safetensors") and name.isprintable()
        plain = plain and len(name.encode()) <= _LONGEST_NAME
        if not plain or "/" in name or "\\" in name or ":" in name:
            said = shown(name) if isinstance(name, str) else type(name).__name__
            raise FileError(
                f"key weight_map: tensor {shown(key)} is said to lie in {said}, no safetensors file here",
                where=str(index),
                remedy="fetch the file again from a place that you trust",
            )
    return value


def _template(folder: Path) -> str | None:
    """The chat template's text: a file of its own, or the one in the tokenizer's config."""
    own = folder / TEMPLATE
    if own.is_file():
        return read_text(own)
    config = folder / TOKENIZER_CONFIG
    value: Any = read_json(config).get("chat_template") if config.is_file() else None
    if isinstance(value, list):
        named = [one for one in value if isinstance(one, dict) and one.get("name") == "default"]
        value = named[-1].get("template") if named else ""
    if value is not None and not isinstance(value, str):
        raise FileError(
            "key chat_template is neither a text nor a list of named ones",
            where=str(config),
            remedy="fetch the file again",
        )
    return value or None
