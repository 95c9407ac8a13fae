"""Files of lookahead modules: written and read, and refused for another model or when damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.core.errors import FileError, FivefoldError, InputError, UnsupportedError
from fivefold.core.lookahead import LookaheadModule, Origin
from fivefold.files import (
    lookahead_module_for,
    model_fingerprint,
    open_safetensors,
    read_lookahead_module,
    write_lookahead_module,
)
from fivefold.models import load_model


def module(hidden: int = 64, fingerprint: str = "") -> LookaheadModule:
    random = np.random.default_rng(5)

    def numbers(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float16).astype(np.float32)

    pairs = {
        "blk.0.attn_q.weight": (numbers(2, hidden), numbers(64, 2)),
        "blk.1.ffn_down.weight": (numbers(2, 96), numbers(hidden, 2)),
    }
    origin = Origin("tiny", fingerprint, "llama", 2, (300, 4000), 7, 1500, "fivefold train lookahead tiny")
    return LookaheadModule(numbers(4, hidden), pairs, 32.0, 2, pooling=3, origin=origin)


def test_what_is_written_is_read_again_in_float16(tmp_path: Path) -> None:
    made, path = module(), tmp_path / "m.safetensors"
    write_lookahead_module(path, made)
    found = read_lookahead_module(path)
    assert np.array_equal(found.embeddings, made.embeddings) and found.embeddings.dtype == np.float32
    assert set(found.pairs) == set(made.pairs)
    for name, pair in made.pairs.items():
        assert all(np.array_equal(a, b) for a, b in zip(found.pairs[name], pair, strict=True))
    assert (found.alpha, found.rank, found.rows, found.scale) == (32.0, 2, 4, 16.0)
    assert (found.pooling, found.positions, found.origin) == (3, "after the prompt", made.origin)
    assert {tensor.format for tensor in open_safetensors(path).values()} == {"f16"}
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_module_serves_its_model_in_any_format_and_no_other(tmp_path: Path, tiny: Any, save: Any) -> None:
    shape, path = tiny(), tmp_path / "m.safetensors"
    plain = save(shape.metadata(), shape.arrays())
    fingerprint = model_fingerprint(load_model(plain), plain)
    made = module(fingerprint=fingerprint)
    write_lookahead_module(path, made)
    quantized = save(shape.metadata(), shape.arrays(), "q8_0")
    for checkpoint in (plain, quantized):
        found = lookahead_module_for(path, load_model(checkpoint), checkpoint)
        assert found.origin.fingerprint == fingerprint
    for other in (
        save(shape.metadata(), shape.arrays(seed=4)),
        save(shape.metadata(rope__dimension_count=16, context_length=128), shape.arrays()),
    ):
        with pytest.raises(UnsupportedError, match=r"made for tiny, and this model.*is another; train one"):
            lookahead_module_for(path, load_model(other), other)


def test_pairs_that_fit_no_matrix_are_refused(tmp_path: Path, tiny: Any, save: Any) -> None:
    shape, path = tiny(), tmp_path / "m.safetensors"
    checkpoint = save(shape.metadata(), shape.arrays())
    model = load_model(checkpoint)
    made = module(fingerprint=model_fingerprint(model, checkpoint))
    pair = made.pairs["blk.0.attn_q.weight"]
    for pairs, what in (
        ({"blk.9.attn_q.weight": pair}, "no such matrix"),
        ({"blk.0.ffn_up.weight": pair}, r"one of \(96, 64\)"),
    ):
        write_lookahead_module(path, replace(made, pairs=pairs))
        with pytest.raises(UnsupportedError, match=what):
            lookahead_module_for(path, model, checkpoint)
    write_lookahead_module(path, replace(made, embeddings=np.zeros((4, 32), np.float32)))
    with pytest.raises(UnsupportedError, match="rows of 32, the model of 64"):
        lookahead_module_for(path, model, checkpoint)


def test_parts_that_do_not_fit_each_other_are_refused() -> None:
    made = module()
    down, up = made.pairs["blk.0.attn_q.weight"]
    for change, what in (
        ({"rank": 3}, "not of rank 3"), ({"pooling": 4}, "not odd"), ({"alpha": 0.0}, "not above 0"),
        ({"positions": "anywhere"}, "not known"), ({"embeddings": np.zeros(4, np.float32)}, "not \\(n, hid"),
        ({"pairs": {"a": (down * np.float32(np.inf), up)}}, "not finite"),
        ({"pairs": {"a": (down.astype(np.float16), up)}}, "not float32"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=what):
            replace(made, **change)  # type: ignore[arg-type]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_lookahead_module(path, module())
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])

    def written(text: dict[str, str]) -> None:
        changed = json.dumps(header | {"__metadata__": text}).encode()
        path.write_bytes(len(changed).to_bytes(8, "little") + changed + whole[8 + length :])

    text = header["__metadata__"]
    for wrong, what in (
        ({"format": "pt"}, "no lookahead module"), (text | {"format": "2"}, "no lookahead module"),
        (text | {"more": "1"}, "cannot be read"), (text | {"n": "5"}, "are not"),
        (text | {"rank": "4"}, "not of rank 4"), (text | {"alpha": "x"}, "cannot be read"),
        ({key: value for key, value in text.items() if key != "seed"} | {"rank": "2", "lengths": "1"},
         "cannot be read"),
    ):  # fmt: skip
        written(wrong)
        with pytest.raises(FileError, match=what):
            read_lookahead_module(path)
    with pytest.raises(FivefoldError, match="too large for float16"):
        write_lookahead_module(path, replace(module(), embeddings=np.full((4, 64), 1e6, np.float32)))
    with pytest.raises(FivefoldError, match="cannot be written"):
        write_lookahead_module(tmp_path / "nowhere" / "m.safetensors", module())
