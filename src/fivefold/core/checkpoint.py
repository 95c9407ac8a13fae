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

CHAT_TEMPLATE = "tokenizer.chat_template"
"""The metadata key of the chat template's text, in both kinds of checkpoint."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One stored tensor.

    `shape` is in row-major order with K (the contiguous dimension) last: a matrix is (M, K).
    `format` names a row of the `formats` table. `data` is a flat uint8 view of the stored bytes.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    data: Bytes = field(repr=False)


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
