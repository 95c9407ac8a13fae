"""Files of tables of n-grams: written and read, found, and refused for another model or when damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.core.errors import FileError, InputError, UnsupportedError
from fivefold.core.ngrams import CLASSES, NGramOrigin, NGramTable
from fivefold.files import found_ngrams, model_fingerprint, read_ngrams, write_ngrams
from fivefold.models import load_model


@pytest.fixture
def checkpoint(tiny: Any, save: Any) -> Any:
    shape = tiny()
    return save(shape.metadata(), shape.arrays())


@pytest.fixture
def table(checkpoint: Any) -> NGramTable:
    random = np.random.default_rng(3)
    keys = np.unique(random.integers(0, 2**32, 500, np.uint32))
    values = random.integers(0, 64 * CLASSES, len(keys)).astype(np.uint32)
    fingerprint = model_fingerprint(load_model(checkpoint), checkpoint)
    return NGramTable(3, keys, values, NGramOrigin("tiny", fingerprint, "llama", 900, "fivefold train"))


def test_what_is_written_is_read_again(table: NGramTable, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    write_ngrams(path, table)
    found = read_ngrams(path)
    assert found.orders == 3 and found.origin == table.origin
    assert np.array_equal(found.keys, table.keys) and np.array_equal(found.values, table.values)
    assert found.keys.dtype == found.values.dtype == np.uint32
    empty = NGramTable(1, np.zeros(0, np.uint32), np.zeros(0, np.uint32))
    write_ngrams(path, empty)
    assert read_ngrams(path).lookup().likeliest([1, 2]) is None


def test_a_table_is_found_beside_its_model_or_shipped(
    table: NGramTable, checkpoint: Any, tmp_path: Path
) -> None:
    model, shipped = load_model(checkpoint), tmp_path / "shipped"
    assert found_ngrams(model, checkpoint, shipped) is None
    shipped.mkdir()
    write_ngrams(shipped / "tiny.ngrams.safetensors", table)
    found = found_ngrams(model, checkpoint, shipped)
    assert found is not None and found.origin == table.origin
    beside = checkpoint.path.with_name(checkpoint.path.name + ".ngrams.safetensors")
    write_ngrams(beside, replace(table, origin=replace(table.origin, fingerprint="0" * 64)))
    with pytest.raises(UnsupportedError, match=r"made for tiny, and.*one for it: fivefold train ngrams"):
        found_ngrams(model, checkpoint, shipped)
    most = np.array([table.values.max(), 10_000 * CLASSES], np.uint32)
    write_ngrams(beside, replace(table, keys=np.array([1, 2], np.uint32), values=most))
    with pytest.raises(UnsupportedError, match="guesses token 10000, the model has"):
        found_ngrams(model, checkpoint, shipped)


def test_damaged_files_are_refused(table: NGramTable, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(InputError, match="its keys do not ascend"):
        replace(table, keys=table.keys[::-1].copy())
    with pytest.raises(InputError, match="keys and values do not fit"):
        replace(table, keys=table.keys[1:])
    with pytest.raises(InputError, match="contexts of 9 tokens"):
        replace(table, orders=9)
    write_ngrams(path, table)
    data = path.read_bytes()
    for change in ((b"table of n-grams", b"table of m-grams"), (b'"orders":"3"', b'"orders":"0"')):
        assert change[0] in data
        path.write_bytes(data.replace(*change))
        with pytest.raises(FileError, match="train it again: fivefold train ngrams"):
            read_ngrams(path)
