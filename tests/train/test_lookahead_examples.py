"""Stored examples: what is written is read again, and what does not fit is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.core.errors import FileError, InputError
from fivefold.train.lookahead.examples import (
    Document,
    Question,
    list_documents,
    read_document,
    write_document,
)

LAYERS, KV_HEADS, HEADS, SIZE = 2, 2, 4, 8


def document(name: str = "one", tokens: int = 70, suffixes: tuple[int, ...] = (5, 9)) -> Document:
    random = np.random.default_rng(1)

    def numbers(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float16)

    questions = tuple(
        Question(
            np.arange(own, dtype=np.int32), numbers(LAYERS, KV_HEADS, own, SIZE),
            numbers(LAYERS, KV_HEADS, own, SIZE), numbers(LAYERS, HEADS, tokens + own),
            np.array([3, 4], np.int32), "needle",
        )
        for own in suffixes
    )  # fmt: skip
    entries = numbers(LAYERS, KV_HEADS, tokens, SIZE), numbers(LAYERS, KV_HEADS, tokens, SIZE)
    return Document(name, np.arange(tokens, dtype=np.int32), *entries, questions, {"entries": "f16"})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    made = document()
    write_document(tmp_path / "examples", made)
    (path,) = list_documents(tmp_path / "examples")
    found = read_document(path)
    assert np.array_equal(found.tokens, made.tokens) and found.settings == made.settings
    assert np.array_equal(found.keys, made.keys) and np.array_equal(found.values, made.values)
    assert found.longest == 79
    for ours, theirs in zip(found.questions, made.questions, strict=True):
        assert ours.kind == theirs.kind and np.array_equal(ours.answer, theirs.answer)
        for part in ("tokens", "keys", "values", "target"):
            assert np.array_equal(getattr(ours, part), getattr(theirs, part))


def test_a_document_is_written_once_and_a_half_written_one_is_not_listed(tmp_path: Path) -> None:
    write_document(tmp_path, document())
    (tmp_path / ".two.77").mkdir()
    (tmp_path / ".two.77" / "document.json").write_text("{}")
    assert [path.name for path in list_documents(tmp_path)] == ["one"]
    with pytest.raises(InputError, match="there already"):
        write_document(tmp_path, document())


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    whole = document()
    cut = replace(whole.questions[1], target=whole.questions[1].target[:, :, 1:])
    for wrong in (
        replace(whole, keys=whole.keys[:, :, 1:]), replace(whole, questions=()),
        replace(whole, questions=(whole.questions[0], cut)), replace(whole, name="../one"),
    ):  # fmt: skip
        with pytest.raises(InputError, match="fit"):
            write_document(tmp_path, wrong)
    assert not list(tmp_path.iterdir())


def test_a_damaged_example_is_refused(tmp_path: Path) -> None:
    path = write_document(tmp_path, document())
    (path / "1.keys.npy").unlink()
    with pytest.raises(FileError, match=r"cannot be read.*make the example again"):
        read_document(path)
    path = write_document(tmp_path, document("two"))
    described = json.loads((path / "document.json").read_text())
    (path / "document.json").write_text(json.dumps(described | {"more": 1}))
    with pytest.raises(FileError, match="cannot be read"):
        read_document(path)
    with pytest.raises(FileError, match="no examples"):
        list_documents(tmp_path / "nowhere")
