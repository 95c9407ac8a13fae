"""Let compressed-tensors decompress what the quantizer writes, and keep what it made of a small case.

    python -m venv DIR && DIR/bin/pip install torch==2.13.0 transformers==5.23.0 compressed-tensors==0.20.0
    DIR/bin/pip install .
    DIR/bin/python scripts/record_compressed_tensors.py tests/quantize/data/compressed_tensors.npz FOLDER ...

The case is one matrix: its numbers, and for each format the SHA-256 of the bytes that the quantizer makes and
of what the library makes of these. Folders that `fivefold quantize` wrote are loaded with Transformers, and
all of their matrices held against what is read here.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme
from transformers import AutoModelForCausalLM, CompressedTensorsConfig

from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.executor import dequantize
from fivefold.files import open_checkpoint
from fivefold.quantize import Choice, Item, encode
from fivefold.quantize.choice import best_choice
from fivefold.quantize.folder_output import SCHEMES, FolderOutput

TYPES = {"u8": torch.uint8, "f8_e4m3": torch.float8_e4m3fn, "f32": torch.float32}


def numbers() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Numbers of many sizes, a row and some parts of zeros, and more rows and columns than a block of 128
    has.
    """
    random = np.random.default_rng(3)
    values = (
        random.standard_t(3, (130, 192)) * 0.02 * 2.0 ** random.integers(-6, 3, (130, 12)).repeat(16, axis=1)
    )
    values[5], values[9, 16:48] = 0, 0
    return values.astype(np.float16).astype(np.float32)


def digest(values: np.ndarray[Any, np.dtype[Any]]) -> str:
    """Of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def record(path: Path) -> None:
    """Write the case; AssertionError if the library's values are not ours."""
    values = numbers()
    output = FolderOutput(Checkpoint(Path("m"), "huggingface", {}, {}))
    source = Tensor("m.weight", "f32", values.shape, values.reshape(-1).view(np.uint8))
    kept: dict[str, Any] = {"values": values.astype(np.float16)}
    for form, scheme in SCHEMES.items():
        tensor = encode("m.weight", values, Choice(form, best_choice(form).method, factor="power"))
        item = Item(source, "matrix", Choice(form))
        data = output.pieces(item, tensor)
        parts = {}
        for outline in output.outlines(item):
            kept[f"{form}.{outline.name}"] = digest(data[outline.name])
            raw = torch.from_numpy(np.ascontiguousarray(data[outline.name]).reshape(-1).copy())
            parts[outline.name.removeprefix("m.")] = raw.view(TYPES[outline.format]).reshape(outline.shape)
        args = QuantizationScheme(targets=["Linear"], weights=dict(scheme.weights), format=scheme.format)
        found = BaseCompressor.get_value_from_registry(scheme.format).decompress(parts, args)["weight"]
        read = found.to(torch.float32).numpy()
        assert np.array_equal(read, dequantize(tensor)), form
        kept[f"{form}.decompressed"] = digest(read)
        print(f"{form}: {values.size} numbers, all equal ({found.dtype})")
    np.savez_compressed(path, **kept)


def compare(folder: Path) -> None:
    """Load a folder with Transformers and hold every matrix against what is read here."""
    config = CompressedTensorsConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, dtype=torch.float32)
    theirs = model.state_dict()
    ours = open_checkpoint(folder).tensors
    differing, seen = 0, 0
    for name, tensor in ours.items():
        if len(tensor.shape) == 2:
            values = dequantize(tensor)
            differing += int((theirs[name].to(torch.float32).numpy() != values).sum())
            seen += values.size
    print(f"{folder}: {seen} numbers, {differing} differ")
    assert differing == 0


if __name__ == "__main__":
    record(Path(sys.argv[1]))
    for name in sys.argv[2:]:
        compare(Path(name))
