"""Files of side drafters: written and read, found, and refused for another model or when damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.core.drafter import DrafterOrigin
from fivefold.core.errors import FileError, InputError, UnsupportedError
from fivefold.files import drafter_for, found_drafter, model_fingerprint, read_drafter, write_drafter
from fivefold.models import load_model
from fivefold.program import packed_weight


@pytest.fixture
def checkpoint(tiny: Any, save: Any) -> Any:
    shape = tiny()
    return save(shape.metadata(), shape.arrays())


@pytest.fixture(params=["block", "serial"])
def drafter(request: pytest.FixtureRequest, checkpoint: Any, random_drafter: Any) -> Any:
    model = load_model(checkpoint)
    origin = DrafterOrigin(
        "tiny", model_fingerprint(model, checkpoint), "llama", 5000, 3, 70, "fivefold train"
    )
    return replace(random_drafter(model, request.param), origin=origin)


def test_what_is_written_is_read_again_as_it_runs(drafter: Any, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    write_drafter(path, drafter)
    found = read_drafter(path)
    assert found.shape == drafter.shape and found.origin == drafter.origin
    assert found.weights.keys() == drafter.weights.keys()
    assert {one.format for one in drafter.weights.values()} == {"q8_0", "f32"}
    for name, one in drafter.weights.items():
        same = one.data if len(one.shape) == 2 else _rounded(one.data)
        assert np.array_equal(found.weights[name].data, same)
        assert (found.weights[name].format, found.weights[name].shape) == (one.format, one.shape)
    assert np.array_equal(found.slots, drafter.slots.astype(np.float16))
    assert np.array_equal(found.tokens, drafter.tokens) and found.tokens.dtype == np.int32


def _rounded(vector: Any) -> Any:
    return vector.view(np.float32).astype(np.float16).astype(np.float32).view(np.uint8)


def test_a_drafter_is_found_beside_its_model_or_shipped(
    drafter: Any, checkpoint: Any, tmp_path: Path
) -> None:
    model, shipped = load_model(checkpoint), tmp_path / "shipped"
    assert found_drafter(model, checkpoint, shipped) is None
    shipped.mkdir()
    write_drafter(shipped / "tiny.drafter.safetensors", drafter)
    other = replace(drafter, origin=replace(drafter.origin, fingerprint="0" * 64))
    write_drafter(shipped / "a.drafter.safetensors", other)
    found = found_drafter(model, checkpoint, shipped)
    assert found is not None and found.origin == drafter.origin
    beside = checkpoint.path.with_name(checkpoint.path.name + ".drafter.safetensors")
    write_drafter(beside, replace(drafter, origin=replace(drafter.origin, seed=9)))
    found = found_drafter(model, checkpoint, shipped)
    assert found is not None and found.origin.seed == 9


def test_a_drafter_of_another_model_is_refused(
    drafter: Any, checkpoint: Any, tiny: Any, save: Any, tmp_path: Path
) -> None:
    path, shape = tmp_path / "d.safetensors", tiny()
    write_drafter(path, drafter)
    quantized = save(shape.metadata(), shape.arrays(), "q8_0")
    assert drafter_for(path, load_model(quantized), quantized).origin.model == "tiny"
    other = save(shape.metadata(), shape.arrays(seed=4))
    with pytest.raises(
        UnsupportedError, match=r"side drafter was made for tiny, and.*train one for it: fivef"
    ):
        drafter_for(path, load_model(other), other)


def test_damaged_files_are_refused(drafter: Any, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    with pytest.raises(InputError, match="fc is"):
        replace(drafter, weights={**drafter.weights, "fc": packed_weight("fc", np.zeros((2, 2), np.float32))})
    with pytest.raises(InputError, match=r"the weight 0\.q is missing"):
        replace(drafter, weights={name: one for name, one in drafter.weights.items() if name != "0.q"})
    with pytest.raises(InputError, match="two rows of the head"):
        replace(drafter, tokens=np.zeros_like(drafter.tokens))
    write_drafter(path, drafter)
    data = path.read_bytes()
    for change in ((b"side drafter", b"size drafter"), (b'\\"heads\\": 4', b'\\"heads\\": 5')):
        assert change[0] in data
        path.write_bytes(data.replace(*change))
        with pytest.raises(FileError, match="train it again: fivefold train drafter"):
            read_drafter(path)
