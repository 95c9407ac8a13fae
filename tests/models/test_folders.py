"""Hugging Face folders against Transformers' own logits, and against GGUF files of the same weights.

Recorded by scripts/record_transformers_folders.py, which says how. Where rotary pairs lie alike in
both files, the results have the same bits. Where GGUF has permuted the rows of q and k, the sums over a
head run in another order, and so they differ by rounding.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.core.batch import Float32
from fivefold.core.checkpoint import Checkpoint
from fivefold.executor import dequantize
from fivefold.files import open_checkpoint
from fivefold.models import load_model
from fivefold.models.config import Keys, read_rope
from fivefold.program import inverse_frequencies

DATA = Path(__file__).parent / "data" / "folders"
RECORDED = np.load(DATA / "logits.npz")
ROPES = json.loads((DATA / "ropes.json").read_text())
MODELS = ["llama-f32", "mistral-bf16", "qwen2-bf16"]
TOKENS = [*map(int, RECORDED["tokens"]), 0]

Logits = Callable[..., Float32]


def as_gguf(folder: Checkpoint, save: Any, converted: Any, architecture: str = "") -> Checkpoint:
    """The folder's weights in a GGUF file, in the format that they have."""
    weights = {name: dequantize(tensor) for name, tensor in folder.tensors.items()}
    gguf = converted(folder.metadata, weights, architecture)
    file: Checkpoint = save(gguf.metadata, gguf.arrays, folder.tensors["model.embed_tokens.weight"].format)
    return file


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("by", ["reference", "float"])
def test_logits_of_a_folder_are_those_of_transformers(name: str, by: str, logits: Logits) -> None:
    ours = logits(open_checkpoint(DATA / name), TOKENS, by)[3::4]
    bound = 1e-5 if by == "reference" else 3e-3  # the native cache holds f16
    assert np.abs(ours - RECORDED[name]).max() < bound * np.abs(RECORDED[name]).max()


@pytest.mark.parametrize("name", ["mistral-bf16", "qwen2-bf16"])
@pytest.mark.parametrize("by", ["reference", "float", "int8"])
def test_a_gguf_file_with_the_same_pairs_gives_the_same_bits(
    name: str, by: str, save: Any, converted: Any, logits: Logits
) -> None:
    folder = open_checkpoint(DATA / name)
    file = as_gguf(folder, save, converted, "qwen2")  # whose rows are not permuted
    assert np.array_equal(logits(folder, TOKENS, by), logits(file, TOKENS, by))


@pytest.mark.parametrize("name", ["llama-f32", "mistral-bf16"])
@pytest.mark.parametrize("by", ["reference", "float"])
def test_a_permuted_gguf_file_differs_by_rounding(
    name: str, by: str, save: Any, converted: Any, logits: Logits
) -> None:
    folder = open_checkpoint(DATA / name)
    file = as_gguf(folder, save, converted)
    assert load_model(file).shape.family == "llama"
    difference = np.abs(logits(folder, TOKENS, by) - logits(file, TOKENS, by)).max()
    assert difference < (1e-5 if by == "reference" else 2e-3)  # half a step of the f16 cache may turn over


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_copied_and_the_program_names_what_the_files_name(name: str) -> None:
    folder = open_checkpoint(DATA / name)
    model = load_model(folder)
    named = {weight for weight in model.main.weights if weight not in model.main.constants}
    assert named == set(folder.tensors)
    assert not any(tensor.data.flags.owndata for tensor in folder.tensors.values())


@pytest.mark.parametrize("name", MODELS)
def test_the_old_form_of_a_config_means_the_same(name: str, tmp_path: Path, logits: Logits) -> None:
    folder = tmp_path / name
    shutil.copytree(DATA / name, folder)
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    if name.startswith("qwen2"):
        rope["type"] = rope.pop("rope_type")
        config.pop("layer_types")
        config["sliding_window"] = 32
    (folder / "config.json").write_text(json.dumps(config))
    assert np.array_equal(
        logits(open_checkpoint(folder), TOKENS), logits(open_checkpoint(DATA / name), TOKENS)
    )


@pytest.mark.parametrize("rope", ROPES, ids=lambda rope: json.dumps(rope["config"])[:60])
def test_rotary_frequencies_are_those_of_transformers(rope: dict[str, Any]) -> None:
    base, scaling = read_rope(Keys(rope["config"], "config.json", "llama"), context=128)
    frequencies, magnitude = inverse_frequencies(base, 16, scaling)
    np.testing.assert_allclose(frequencies, rope["frequencies"], rtol=2e-6)
    assert magnitude == pytest.approx(rope["magnitude"], rel=1e-12)


def test_tensors_need_no_alignment(tmp_path: Path, logits: Logits) -> None:
    """The format promises none: one byte before all others moves each from its place."""
    folder = Path(shutil.copytree(DATA / "llama-f32", tmp_path / "odd"))
    file = folder / "model.safetensors"
    stored = file.read_bytes()
    end = 8 + int.from_bytes(stored[:8], "little")
    header = json.loads(stored[8:end])
    for name, entry in header.items():
        if name != "__metadata__":
            entry["data_offsets"] = [place + 1 for place in entry["data_offsets"]]
    header["model.rotary_emb.inv_freq"] = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    file.write_bytes(len(head).to_bytes(8, "little") + head + b"\0" + stored[end:])
    moved = open_checkpoint(folder)
    assert moved.tensors["lm_head.weight"].data.ctypes.data % 2 == 1
    assert np.array_equal(logits(moved, TOKENS), logits(open_checkpoint(DATA / "llama-f32"), TOKENS))
