"""A table of n-grams as a file, and which one belongs to a model: one beside it, or one that is shipped.

Keys and values are bytes, four each, little-endian.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.ngrams import NGramOrigin, NGramTable, UInt32
from fivefold.files.learned import SHIPPED, PartKind
from fivefold.program import Model

NGRAMS = PartKind("table of n-grams", "1", "ngrams", "fivefold train ngrams")


def write_ngrams(path: Path, table: NGramTable) -> None:
    """Write the table; it takes its name in one step. FivefoldError if it cannot be written."""
    arrays = {name: _bytes(values) for name, values in (("keys", table.keys), ("values", table.values))}
    described = {
        "orders": table.orders, "origin": asdict(table.origin), "fingerprint": table.origin.fingerprint,
    }  # fmt: skip
    NGRAMS.write(path, arrays, described)


def read_ngrams(path: Path) -> NGramTable:
    """Read a table. FileError if the file is none or does not fit itself."""
    with NGRAMS.reading(path):
        arrays, described = NGRAMS.read(path)
        keys, values = (_numbers(arrays[name]) for name in ("keys", "values"))
        return NGramTable(described["orders"], keys, values, NGramOrigin(**described["origin"]))


def found_ngrams(model: Model, checkpoint: Checkpoint, shipped: Path = SHIPPED) -> NGramTable | None:
    """The model's table, or None; errors as of reading if one lies beside the model and is not its own."""
    found = NGRAMS.found(model, checkpoint, shipped)
    if found is None:
        return None
    path, fingerprint = found
    table = read_ngrams(path)
    NGRAMS.require((table.origin.model, table.origin.fingerprint), fingerprint, checkpoint, path)
    table.require_fit(model.shape.vocabulary, str(path))
    return table


def _bytes(values: UInt32) -> Any:
    return np.ascontiguousarray(values, "<u4").view(np.uint8).reshape(-1, 4)


def _numbers(stored: Any) -> UInt32:
    if stored.dtype != np.uint8 or stored.ndim != 2 or stored.shape[1] != 4:
        raise ValueError(f"an array of {stored.dtype} {stored.shape} in place of four bytes for each entry")
    return np.ascontiguousarray(stored).view("<u4").reshape(-1).astype(np.uint32, copy=False)
