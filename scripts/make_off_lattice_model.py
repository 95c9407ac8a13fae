"""A copy of a GGUF model in float32 whose matrices lie on no format's lattice.

    .venv/bin/python scripts/make_off_lattice_model.py SmolLM2-135M-Instruct.Q4_1.gguf off-lattice.gguf

A model that was stored in a quantized format loses nothing when it is quantized to that format again, and so
says nothing of it. Here each number of a matrix gets normal noise, with a quarter of the mean step between
the values of its row as its deviation (seed 1): little for the model, and no lattice is left.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.executor import dequantize
from fivefold.files import open_checkpoint, write_gguf

SHARE = 0.25
LEVELS = 16
"""Values that a block of the source can take, about."""


def moved(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A matrix (M, K) with noise."""
    parts = values.reshape(len(values), -1, 32)
    step = (parts.max(axis=2) - parts.min(axis=2)).mean(axis=1) / (LEVELS - 1)
    noise = random.standard_normal(values.shape, np.float32) * (SHARE * step)[:, None]
    return (values + noise).astype(np.float32)


def main(source: Path, target: Path) -> None:
    """Write the copy."""
    checkpoint = open_checkpoint(source)
    random = np.random.default_rng(1)
    tensors = []
    for name, tensor in checkpoint.tensors.items():
        values = dequantize(tensor)
        if values.ndim == 2:
            values = moved(values, random)
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        tensors.append(Tensor(name, "f32", tensor.shape, flat.view(np.uint8)))
    write_gguf(target, {**checkpoint.metadata, "general.file_type": 0}, tensors)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
