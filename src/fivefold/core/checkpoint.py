"""What a model file offers to the rooms above: named tensors and metadata.

`files` makes these, `models` and `engine` read them; the two rooms do not know each other, so the
nouns live here. Tensor bytes are views of a mapped file: nothing is read before it is touched,
and nothing is dequantised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

CHAT_TEMPLATE = "tokenizer.chat_template"
"""The metadata key of the chat template's text, in both kinds of checkpoint."""


@dataclass(frozen=True, slots=True)
class Scales:
    """Factors that some formats keep beside a matrix, as float32 (R, C): each is for `rows` x `columns`
    numbers of it, fewer at the lower and right edges."""

    values: Float32 = field(repr=False)
    rows: int
    columns: int

    @staticmethod
    def whole(value: float, shape: tuple[int, ...]) -> Scales:
        """One factor for all numbers of a matrix (M, K)."""
        return Scales(np.full((1, 1), value, np.float32), shape[0], shape[-1])

    def spread(self, shape: tuple[int, ...]) -> Float32:
        """The factor of each number of a matrix (M, K), or (M, 1) where a row has one for all."""
        over_rows = np.repeat(self.values, self.rows, axis=0)[: shape[0]]
        if self.values.shape[1] == 1:
            return over_rows
        return np.repeat(over_rows, self.columns, axis=1)[:, : shape[-1]]

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether there is exactly one for each block of a matrix (M, K)."""
        if len(shape) != 2 or self.rows < 1 or self.columns < 1:
            return False
        return self.values.shape == (-(-shape[0] // self.rows), -(-shape[1] // self.columns))


@dataclass(frozen=True, slots=True)
class Tensor:
    """One stored tensor.

    `shape` is in row-major order with K (the contiguous dimension) last: a matrix is (M, K).
    `format` names a row of the `formats` table. `data` is a flat uint8 view of the stored bytes.
    `scales` multiply what the bytes stand for.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    data: Bytes = field(repr=False)
    scales: Scales | None = None

    @property
    def stored_bytes(self) -> int:
        """Bytes of the tensor and its scales."""
        return self.data.nbytes + (0 if self.scales is None else self.scales.values.nbytes)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened model: where it lies, what kind of file it is, its metadata and its tensors.

    `kind` is "gguf" or "huggingface"; `path` is the file (the first of several), or the folder.
    `metadata` holds the GGUF key-values or the config.json as they stand in the file, the latter with
    the key above. `tensors` may be lazy: looking a name up maps it.
    """

    path: Path
    kind: str
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
