"""Factors beside NVFP4 tensors of GGUF files, and the blocks themselves, as gguf-py reads them."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import quantized_writer as writer

from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import FileError
from fivefold.executor import dequantize
from fivefold.files import open_checkpoint, write_gguf

KEYS = {"general.architecture": "none"}


def floats(name: str, *values: float) -> Tensor:
    stored = np.array(values, np.float32)
    return Tensor(name, "f32", stored.shape, stored.view(np.uint8))


def nvfp4(name: str, shape: tuple[int, ...], seed: int = 1) -> tuple[Tensor, np.ndarray]:
    """A tensor of any codes, and scales that are numbers, laid out by hand; what gguf-py reads from it."""
    random = np.random.default_rng(seed)
    count = int(np.prod(shape)) // 64
    blocks = random.integers(0, 256, (count, 36), np.uint8)
    blocks[:, :4] = random.integers(0, 0x7F, (count, 4))
    read = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.NVFP4).reshape(shape)
    return Tensor(name, "nvfp4", shape, blocks.reshape(-1)), read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.gguf"


def test_a_factor_for_a_matrix_and_one_for_each_expert(path: Path) -> None:
    """Their products with numbers of few bits are exact in float64, and so rounded once."""
    q, q_values = nvfp4("blk.0.attn_q.weight", (6, 128))
    plain, plain_values = nvfp4("blk.0.attn_k.weight", (2, 64), 2)
    up, up_values = nvfp4("blk.0.ffn_up_exps.weight", (3, 4, 64), 3)
    down, down_values = nvfp4("blk.0.ffn_down_exps.weight", (3, 4, 64), 4)
    factors = [0.1, 3e-5, 0.0]
    write_gguf(
        path, KEYS,
        [floats("blk.0.attn_q.scale", 0.3), q, floats("blk.0.attn_q.input_scale", 7.0), plain, up, down,
         floats("blk.0.ffn_up_exps.scale", *factors), floats("blk.0.ffn_down_exps.scale", 0.7),
         floats("blk.0.ffn_up_exps.input_scale", 1, 2, 3)],
    )  # fmt: skip
    tensors = open_checkpoint(path).tensors
    assert set(tensors) == {q.name, plain.name, up.name, down.name}
    assert tensors[plain.name].scales is None
    each = np.array(factors, np.float32).astype(np.float64)[:, None, None]
    for name, wanted in (
        (q.name, q_values * np.float64(np.float32(0.3))), (plain.name, plain_values),
        (up.name, up_values * each), (down.name, down_values * np.float64(np.float32(0.7))),
    ):  # fmt: skip
        np.testing.assert_array_equal(dequantize(tensors[name]), wanted.astype(np.float32))
        assert not tensors[name].data.flags.owndata


def test_the_factor_may_lie_in_another_part(tmp_path: Path) -> None:
    tensor, values = nvfp4("a.weight", (2, 64))
    for number, own in enumerate(([floats("a.scale", 0.5)], [tensor])):
        keys = {"split.no": number, "split.count": 2, "split.tensors.count": 2}
        write_gguf(tmp_path / f"m-{number + 1:05d}-of-00002.gguf", {**KEYS, **keys}, own)
    joined = open_checkpoint(tmp_path / "m-00001-of-00002.gguf").tensors
    np.testing.assert_array_equal(dequantize(joined["a.weight"]), values * np.float32(0.5))


def test_the_same_names_beside_other_formats_are_left_alone(path: Path) -> None:
    """A router has a factor for each of its columns, for example."""
    write_gguf(
        path, KEYS, [floats("a.weight", *range(4)), floats("a.scale", 1, 2, 3, 4), floats("b.scale", 1)]
    )
    assert set(open_checkpoint(path).tensors) == {"a.weight", "a.scale", "b.scale"}


@pytest.mark.parametrize(
    ("scale", "says"),
    [
        (
            floats("a.scale", 1, 2),
            r"tensor 'a.scale' is f32 \[2\], not f32 \[1\] as 'a.weight' \[2, 64\] needs",
        ),
        (floats("a.input_scale", 1, 2), r"tensor 'a.input_scale' is f32 \[2\]"),
        (Tensor("a.scale", "f16", (1,), np.zeros(2, np.uint8)), r"tensor 'a.scale' is f16 \[1\], not f32"),
        (floats("a.scale", np.nan), "tensor 'a.scale' holds nan, which no scale can be"),
        (floats("a.scale", -1), "tensor 'a.scale' holds -1.0"),
        (floats("a.scale", np.inf), "tensor 'a.scale' holds inf"),
    ],
)
def test_factors_that_cannot_be(scale: Tensor, says: str, path: Path) -> None:
    write_gguf(path, KEYS, [nvfp4("a.weight", (2, 64))[0], scale])
    with pytest.raises(FileError, match=says) as caught:
        dequantize(open_checkpoint(path).tensors["a.weight"])
    assert str(path) in caught.value.line()
    assert caught.value.remedy


def test_mxfp4_needs_nothing(path: Path) -> None:
    random = np.random.default_rng(5)
    blocks = random.integers(0, 256, (24, 17), np.uint8)
    blocks[:, 0] = random.integers(0, 250, 24)
    tensor = Tensor("a.weight", "mxfp4", (3, 4, 64), blocks.reshape(-1))
    write_gguf(path, KEYS, [tensor])
    read = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.MXFP4).reshape(tensor.shape)
    np.testing.assert_array_equal(dequantize(open_checkpoint(path).tensors["a.weight"]), read)


def test_a_folder_and_a_file_hold_the_same_bits(path: Path, tmp_path: Path) -> None:
    """Blocks that a folder's codes become are those that a converter would have written into a GGUF file."""
    values = np.random.default_rng(6).standard_normal((4, 128))
    writer.write_layout(tmp_path / "f", writer.LAYOUTS["modelopt-nvfp4"], {"a": values})
    ours = open_checkpoint(tmp_path / "f").tensors["a.weight"]
    assert ours.scales is not None
    write_gguf(path, KEYS, [Tensor("a.weight", "nvfp4", ours.shape, ours.data)])
    read = gguf.quants.dequantize(ours.data.reshape(-1, 36), gguf.GGMLQuantizationType.NVFP4).reshape(
        ours.shape
    )
    np.testing.assert_array_equal(dequantize(open_checkpoint(path).tensors["a.weight"]), read)
    np.testing.assert_array_equal(dequantize(ours), read * ours.scales.values[0, 0])
