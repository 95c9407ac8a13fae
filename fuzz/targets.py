"""What is fuzzed in Python: the readers, from bytes to all that is known of a model before weights are read.

A target takes one input. Whatever it is, it is opened, or one of the project's own errors says in one line
why not, within a second and a moderate amount of memory. `check` holds a target to that.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import fivefold.models.gemma  # a family is imported when it is first asked for
import fivefold.models.llama
import fivefold.models.mistral
import fivefold.models.qwen3
import fivefold.models.smollm3  # noqa: F401
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.errors import FivefoldError, InputError
from fivefold.core.vocabulary import Vocabulary
from fivefold.files.gguf import open_gguf, read_gguf
from fivefold.files.gguf_scales import with_scales
from fivefold.files.open import open_checkpoint, vocabulary_of
from fivefold.files.safetensors import open_safetensors, read_safetensors
from fivefold.files.tokenizer_json import huggingface_vocabulary
from fivefold.formats import FORMATS
from fivefold.models import load_model

SECONDS, KILOBYTES = 1.0, 256 << 10
TEXT = "Hello  wörld,\n12345 don't<|end|></s><s> 中文 \u0301e\t…"
LONG_TEXT = TEXT * 40
SECTION = re.compile(rb"^%% ([a-z0-9_.-]{1,60})\n", re.MULTILINE)
"""How the inputs of `folder` and `tokenizer` say that a file begins."""
DATA_LIMIT = 1 << 16


class FindingError(Exception):
    """A reader did what it must never do."""


class Room:
    """A folder in memory for the files of one input at a time."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        self.path = Path(tempfile.mkdtemp(prefix="fivefold-fuzz-", dir=memory if memory.is_dir() else None))
        self._folder = self.path / "model"

    def file(self, name: str, data: bytes) -> Path:
        """A file of that content; not the one of before, which may still be mapped."""
        path = self.path / name
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        return path

    def folder(self, files: Mapping[str, bytes]) -> Path:
        """A folder of those files and no others."""
        self._folder.mkdir(exist_ok=True)
        for old in self._folder.iterdir():
            old.unlink()
        for name, data in files.items():
            (self._folder / name).write_bytes(data)
        return self._folder

    def close(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.path, ignore_errors=True)


def sections(data: bytes) -> dict[str, bytes]:
    """The files of an input: `%% name` on a line of its own, then the content."""
    parts = SECTION.split(data)
    return {name.decode(): content for name, content in zip(parts[1::2], parts[2::2], strict=True)}


def gguf(room: Room, data: bytes) -> None:
    """A GGUF file: keys, tensor table, tokenizer, config. Now and then it is one on a disk."""
    if zlib.crc32(data) % 64 == 0:
        checkpoint = open_gguf(room.file("model.gguf", data))
    else:
        metadata, tensors = read_gguf(data, "model.gguf")
        checkpoint = Checkpoint(Path("model.gguf"), "gguf", metadata, with_scales(tensors, "model.gguf"))
    for tensor in checkpoint.tensors.values():
        if tensor.data.size:
            _ = bytes(tensor.data[:1]), bytes(tensor.data[-1:])
        _ask(lambda tensor=tensor: tensor.scales and tensor.scales.values)
    _use_vocabulary(lambda: vocabulary_of(checkpoint), data)
    _ask(lambda: load_model(checkpoint))


def safetensors(room: Room, data: bytes) -> None:
    """One safetensors file."""
    if zlib.crc32(data) % 64 == 0:
        tensors = open_safetensors(room.file("model.safetensors", data))
    else:
        tensors = read_safetensors(data, "model.safetensors")
    for tensor in tensors.values():
        if tensor.data.size:
            _ = bytes(tensor.data[:1]), bytes(tensor.data[-1:])


def folder(room: Room, data: bytes) -> None:
    """A model folder: config.json, index, shards, quantized tensors. Of a safetensors file the input has the
    header alone."""
    files = {
        name: _with_data(content) if name.endswith(".safetensors") else content
        for name, content in sections(data).items()
    }
    checkpoint = open_checkpoint(room.folder(files))
    _ask(lambda: load_model(checkpoint))
    for tensor in checkpoint.tensors.values():
        _ask(lambda tensor=tensor: _use_tensor(tensor))


def _use_tensor(tensor: Tensor) -> None:
    """What packing asks of a tensor: its bytes, in the format's own layout, and its scales."""
    if tensor.format in FORMATS:
        data = tensor.data
        if (
            data.size != FORMATS[tensor.format].bytes_for(prod(tensor.shape))
            or data.nbytes > tensor.stored_bytes
        ):
            raise FindingError(f"{data.size} bytes for {tensor.shape} in {tensor.format}")
    if tensor.scales is not None and tensor.scales.fits(tensor.shape):
        values = tensor.scales.values
        if values.shape != tensor.scales.stored.shape or not (values >= 0).all():
            raise FindingError("scales that no tensor can have")


def tokenizer(room: Room, data: bytes) -> None:
    """The files of a folder that tell of its tokenizer."""
    path = room.folder(sections(data))
    try:
        model = json.loads((path / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        model = {}
    checkpoint = Checkpoint(path, "huggingface", model if isinstance(model, dict) else {}, {})
    _use_vocabulary(lambda: huggingface_vocabulary(checkpoint), data)


TARGETS: Mapping[str, Callable[[Room, bytes], None]] = {
    "gguf": gguf,
    "safetensors": safetensors,
    "folder": folder,
    "tokenizer": tokenizer,
}


def check(name: str, room: Room, data: bytes) -> None:
    """Run a target on one input. FindingError, or whatever else it raised, if it did what it must not."""
    memory, began = _peak(), time.thread_time()
    _ask(lambda: TARGETS[name](room, data))
    took, grown = time.thread_time() - began, _peak() - memory
    if took > SECONDS:
        raise FindingError(f"it took {took:.1f} seconds")
    if grown > KILOBYTES:
        raise FindingError(f"it took {grown >> 10} MB")


def _ask(what: Callable[[], Any]) -> Any:
    """The answer, or None if it was refused as it should be."""
    try:
        return what()
    except FivefoldError as error:
        line = str(error)
        if not line.isprintable() or len(line) > 1200:
            raise FindingError(
                f"an error of {len(line)} characters, or one that steers a terminal"
            ) from error
        if isinstance(error, InputError) and not (error.what and error.remedy):
            raise FindingError("an error without a remedy") from error
        return None


def _use_vocabulary(opened: Callable[[], Vocabulary], data: bytes) -> None:
    """What the rooms above do with a tokenizer."""
    vocabulary: Vocabulary | None = _ask(opened)
    if vocabulary is None:
        return
    text = LONG_TEXT if zlib.crc32(data) % 32 == 0 else TEXT
    for special in (False, True):
        ids = _ask(lambda special=special: vocabulary.encode(text, special=special))
        if ids is None:
            continue
        if not all(0 <= token < vocabulary.size for token in ids):
            raise FindingError("a token outside of the vocabulary")
        if not special and any(token != vocabulary.bos and vocabulary.is_special(token) for token in ids[1:]):
            _only_unknown(vocabulary, ids)
        _ask(lambda ids=ids: vocabulary.decode(ids, skip_special=False))
    _ask(lambda: vocabulary.encode(b"\xff\xed\xa0\x80\xf8a", add_bos=False))
    _ask(lambda: vocabulary.encode("\udc80a", add_bos=False))
    for token in range(min(vocabulary.size, 64)):
        _ask(lambda token=token: (vocabulary.token_bytes(token), vocabulary.is_special(token)))
    _ask(lambda: vocabulary.token_id("a"))


def _only_unknown(vocabulary: Vocabulary, ids: list[int]) -> None:
    """Ordinary text may become one special token alone: the one for what cannot be spelled."""
    if len({token for token in ids[1:] if vocabulary.is_special(token)}) > 1:
        raise FindingError("ordinary text became special tokens")


def _with_data(header: bytes) -> bytes:
    """A safetensors file of that header, with as much behind it as the header says, within a limit."""
    ends = [int(one) for one in re.findall(rb'"data_offsets":\s*\[\d{1,9},\s*(\d{1,9})\]', header)]
    return struct.pack("<Q", len(header)) + header + bytes(min(max(ends, default=0), DATA_LIMIT))


def _peak() -> int:
    """Kilobytes that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
