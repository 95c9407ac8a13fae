"""Mapped files: their memory can be given back, and what is read after that is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fivefold.core.checkpoint import Tensor
from fivefold.files import give_back, open_checkpoint, write_gguf


def resident() -> int:
    """Bytes of files that this process holds in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssFile:"):
            return int(line.split()[1]) << 10
    pytest.skip("this system does not tell")


def test_what_was_read_is_given_back_and_can_be_read_again(tmp_path: Path) -> None:
    size = 32 << 20
    values = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    keys = {"general.architecture": "none"}
    write_gguf(tmp_path / "m.gguf", keys, [Tensor("t", "f32", (size // 4,), values)])
    checkpoint = open_checkpoint(tmp_path / "m.gguf")
    before = resident()
    assert np.array_equal(checkpoint.tensors["t"].data, values)
    assert resident() - before > size // 2
    give_back(checkpoint.tensors.values())
    assert resident() - before < size // 4
    assert np.array_equal(checkpoint.tensors["t"].data, values)


def test_other_memory_is_let_be() -> None:
    values = np.arange(64, dtype=np.uint8)
    give_back([Tensor("t", "f32", (16,), values)])
    assert np.array_equal(values, np.arange(64, dtype=np.uint8))
