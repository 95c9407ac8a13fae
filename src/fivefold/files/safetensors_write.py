"""The layout of safetensors files that are to be written: one file, or shards and their index.

A file is 8 bytes with the length of the header, the header, and the bytes of the tensors without a hole.
Wider types come first and the header ends on a multiple of 8, so every number is aligned. Shards and index
are named as Hugging Face's libraries name them, and take tensors in the order in which these are given.

Source: the description of the format in the safetensors repository (README, "Format").
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence

from fivefold.core.errors import InputError
from fivefold.files.gguf_values import NAME_LIMIT, shown
from fivefold.files.huggingface import INDEX, WEIGHTS
from fivefold.files.layout import Layout, Outlined, Place
from fivefold.files.safetensors import DIMENSIONS_LIMIT
from fivefold.files.safetensors_types import SAFETENSORS_FORMATS

SHARD_BYTES = 5_000_000_000
"""Bytes of tensors that a shard takes at most, unless a single one has more."""


def safetensors_layout(
    tensors: Iterable[Outlined], shard_bytes: int = SHARD_BYTES, where: str = ""
) -> Layout:
    """The layout of a model's weights: `model.safetensors`, or shards of at most `shard_bytes` and an index.

    Raises InputError, with `where` they are to lie, for what such a file cannot hold.
    """
    shards = _shards(list(tensors), shard_bytes, where)
    names = [WEIGHTS]
    if len(shards) > 1:
        names = [
            f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)
        ]
    heads: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    places: dict[str, Place] = {}
    for name, shard in zip(names, shards, strict=True):
        heads[name], held = single_file(name, shard, {"format": "pt"}, where)
        sizes[name] = len(heads[name]) + sum(place.size for place in held.values())
        places |= held
    if len(shards) > 1:
        total = sum(place.size for place in places.values())
        index = {
            "metadata": {"total_size": total},
            "weight_map": {name: place.file for name, place in sorted(places.items())},
        }
        heads[INDEX] = (json.dumps(index, indent=2, ensure_ascii=False) + "\n").encode()
        sizes[INDEX] = len(heads[INDEX])
    return Layout(heads, sizes, places)


def _shards(tensors: Sequence[Outlined], limit: int, where: str) -> list[list[Outlined]]:
    """The tensors in their order, cut where the next would go past the limit."""
    shards: list[list[Outlined]] = [[]]
    seen: set[str] = set()
    held = 0
    for tensor in tensors:
        if tensor.name in seen:
            raise InputError(
                "the name is given twice", where=_label(tensor, where), remedy="name each tensor once"
            )
        seen.add(tensor.name)
        size = _size(tensor, where)
        if shards[-1] and held + size > limit:
            shards.append([])
            held = 0
        shards[-1].append(tensor)
        held += size
    return shards


def single_file(
    file: str, tensors: Sequence[Outlined], free_text: Mapping[str, str], where: str = ""
) -> tuple[bytes, dict[str, Place]]:
    """The beginning of one file, with a free text of strings, and the places of its tensors.

    Raises InputError for what such a file cannot hold.
    """
    header: dict[str, object] = {"__metadata__": dict(free_text)}
    offsets: dict[str, tuple[int, int]] = {}
    offset = 0
    for tensor in sorted(tensors, key=lambda one: -SAFETENSORS_FORMATS[one.format][1]):
        size = _size(tensor, where)
        kind = SAFETENSORS_FORMATS[tensor.format][0]
        header[tensor.name] = {
            "dtype": kind, "shape": list(tensor.shape), "data_offsets": [offset, offset + size]
        }  # fmt: skip
        offsets[tensor.name] = (offset, size)
        offset += size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    places = {name: Place(file, start + begin, size) for name, (begin, size) in offsets.items()}
    return struct.pack("<Q", len(text)) + text, places


def _size(tensor: Outlined, where: str) -> int:
    """Bytes of a tensor; InputError if a safetensors file cannot hold it."""
    label = _label(tensor, where)
    if not 0 < len(tensor.name) <= NAME_LIMIT or tensor.name == "__metadata__":
        raise InputError("no name for a tensor", where=label, remedy="give it another")
    if tensor.format not in SAFETENSORS_FORMATS:
        raise InputError(
            f"a safetensors file has no type for format {tensor.format!r}",
            where=label, remedy=f"use one of {', '.join(SAFETENSORS_FORMATS)}",
        )  # fmt: skip
    if len(tensor.shape) > DIMENSIONS_LIMIT or any(size < 0 for size in tensor.shape):
        raise InputError(
            f"shape {tensor.shape}", where=label, remedy=f"give at most {DIMENSIONS_LIMIT} dimensions"
        )
    bits = math.prod(tensor.shape) * SAFETENSORS_FORMATS[tensor.format][1]
    if bits % 8:
        raise InputError(f"{bits} bits are no whole bytes", where=label, remedy="pack the numbers into bytes")
    return bits // 8


def _label(tensor: Outlined, where: str) -> str:
    return f"{where}: tensor {shown(tensor.name)}" if where else f"tensor {shown(tensor.name)}"
