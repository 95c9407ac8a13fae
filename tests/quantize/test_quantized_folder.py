"""Quantized folders: compressed-tensors and the safetensors library read from them what was encoded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.core.checkpoint import Bytes, Checkpoint, Float32
from fivefold.core.errors import FivefoldError, InputError
from fivefold.executor import dequantize
from fivefold.files import open_checkpoint, open_safetensors
from fivefold.formats import e2m1, e4m3
from fivefold.models import load_model
from fivefold.quantize import Choice, Recipe, encode, make_plan, output_for, read_recipe, run_plan
from fivefold.quantize.choice import Rule, best_choice
from fivefold.quantize.folder_output import SCHEMES

Source = Callable[..., Checkpoint]
RECORDED = Path(__file__).parent / "data" / "compressed_tensors.npz"


def made(source: Checkpoint, recipe: Recipe | str) -> Path:
    wanted = read_recipe(None, recipe) if isinstance(recipe, str) else recipe
    target = source.path.with_name("out")
    run_plan(make_plan(source, wanted, output_for(source, target)), target)
    return target


def mixed() -> Recipe:
    import re

    rules = {"down_proj": "fp8_block", "o_proj": "mxfp4", "gate_proj": "fp8", "up_proj": "fp8_tensor"}
    return Recipe(
        best_choice("nvfp4"),
        rules=tuple(
            Rule(re.compile(rf".*{part}\.weight"), best_choice(form)) for part, form in rules.items()
        ),
    )


def read(tensors: Mapping[str, Any], module: str) -> Float32:
    """A matrix as the description of compressed-tensors says: codes, scales, and the global scale below
    them.
    """
    if f"{module}.weight_packed" not in tensors:
        weight, scales = (tensors[f"{module}.{part}"] for part in ("weight", "weight_scale"))
        codes, values = weight.data.reshape(weight.shape), scales.data.view("<f4").reshape(scales.shape)
        numbers = e4m3.VALUES[codes]
        if scales.shape == (-(-weight.shape[0] // 128), -(-weight.shape[1] // 128)) and scales.shape != (1,):
            values = values.repeat(128, axis=0).repeat(128, axis=1)[: weight.shape[0], : weight.shape[1]]
        return (numbers * values).astype(np.float32)
    packed, scales = (tensors[f"{module}.{part}"] for part in ("weight_packed", "weight_scale"))
    data = packed.data.reshape(packed.shape)
    codes = np.stack([data & 15, data >> 4], axis=-1).reshape(len(data), -1)
    if f"{module}.weight_global_scale" in tensors:
        whole = tensors[f"{module}.weight_global_scale"].data.view("<f4")
        factors = e4m3.VALUES[scales.data.reshape(scales.shape)] / whole
    else:
        factors = np.ldexp(np.float32(1), scales.data.reshape(scales.shape).astype(int) - 127)
    return (e2m1.VALUES[codes] * factors.repeat(codes.shape[1] // factors.shape[1], axis=1)).astype(
        np.float32
    )


def encoded(source: Checkpoint, name: str, form: str, largest: float = 0.0) -> Float32:
    chosen = best_choice(form)
    choice = Choice(form, chosen.method, factor="power", largest=largest)
    return dequantize(encode(name, dequantize(source.tensors[name]), choice))


@pytest.mark.parametrize("form", list(SCHEMES))
@pytest.mark.parametrize("tied", [True, False])
def test_every_matrix_reads_back_and_the_rest_is_as_it_was(
    folder_source: Source, form: str, tied: bool
) -> None:
    source = folder_source(tied=tied)
    folder = made(source, form)
    held = open_safetensors(folder / "model.safetensors")
    for name, tensor in source.tensors.items():
        if len(tensor.shape) < 2 or "embed" in name or "lm_head" in name:
            assert (held[name].format, held[name].shape) == (tensor.format, tensor.shape)
            assert np.array_equal(held[name].data, tensor.data)
            continue
        largest = max(
            float(np.abs(dequantize(source.tensors[each])).max()) for each in siblings(source, name)
        )
        module = name.removesuffix(".weight")
        expected = encoded(source, name, form, largest)
        assert np.array_equal(read(held, module), expected), name
        assert np.array_equal(dequantize(open_checkpoint(folder).tensors[name]), expected), name
    config = json.loads((folder / "config.json").read_text())
    quantization = config.pop("quantization_config")
    assert config == {key: value for key, value in source.metadata.items() if key in config}
    assert quantization["format"] == SCHEMES[form].format
    assert quantization["config_groups"]["group_0"]["targets"] == ["Linear"]
    assert quantization["ignore"] == ["lm_head"]
    assert sorted(one.name for one in folder.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer_config.json"
    ]  # fmt: skip
    assert sorted(one.name for one in folder.parent.iterdir()) == ["out", "source"]


@pytest.mark.parametrize("form", [*SCHEMES, "all"])
@pytest.mark.parametrize("tied", [True, False])
def test_what_is_written_is_read_as_the_model_that_it_is(
    folder_source: Source, form: str, tied: bool
) -> None:
    source = folder_source(tied=tied)
    folder = made(source, mixed() if form == "all" else form)
    held, opened = open_safetensors(folder / "model.safetensors"), open_checkpoint(folder)
    assert load_model(opened).shape == load_model(source).shape
    assert set(opened.tensors) == set(source.tensors)
    for name, tensor in opened.tensors.items():
        module = name.removesuffix(".weight")
        quantized = f"{module}.weight_scale" in held
        assert quantized == (tensor.format in {"nvfp4", "mxfp4", "f8_e4m3"})
        wanted = read(held, module) if quantized else dequantize(held[name])
        assert np.array_equal(dequantize(tensor), wanted), name


def siblings(source: Checkpoint, name: str) -> list[str]:
    plan = make_plan(source, read_recipe(None, "nvfp4"), output_for(source, Path("out")))
    return list(plan.output.sharing(name)) or [name]


def test_matrices_that_engines_join_share_a_global_scale(folder_source: Source) -> None:
    folder = made(folder_source(layers=1), "nvfp4")
    held = open_safetensors(folder / "model.safetensors")
    layer = "model.layers.0"

    def scale(part: str) -> bytes:
        return held[f"{layer}.{part}_proj.weight_global_scale"].data.tobytes()

    assert scale("self_attn.q") == scale("self_attn.k") == scale("self_attn.v")
    assert scale("mlp.gate") == scale("mlp.up")


def test_mixed_formats_are_groups_with_names(folder_source: Source) -> None:
    source = folder_source(layers=1)
    folder = made(source, mixed())
    quantization = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert quantization["format"] == "mixed-precision"
    groups = {group["targets"][0]: group for group in quantization["config_groups"].values()}
    layer = "model.layers.0"
    assert {name: group["format"] for name, group in groups.items()} == {
        f"{layer}.self_attn.q_proj": "nvfp4-pack-quantized",
        f"{layer}.self_attn.o_proj": "mxfp4-pack-quantized",
        f"{layer}.mlp.gate_proj": "float-quantized", f"{layer}.mlp.up_proj": "float-quantized",
        f"{layer}.mlp.down_proj": "float-quantized",
    }  # fmt: skip
    assert groups[f"{layer}.mlp.down_proj"]["weights"]["block_structure"] == [128, 128]
    assert groups[f"{layer}.self_attn.q_proj"]["targets"] == [
        f"{layer}.self_attn.{part}_proj" for part in "qkv"
    ]


def test_a_head_of_its_own_can_be_quantized(folder_source: Source) -> None:
    source = folder_source(tied=False)
    folder = made(source, Recipe(best_choice("nvfp4"), best_choice("fp8")))
    held = open_safetensors(folder / "model.safetensors")
    assert np.array_equal(read(held, "lm_head"), encoded(source, "lm_head.weight", "fp8"))
    quantization = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert quantization["ignore"] == []
    assert ["lm_head"] in [group["targets"] for group in quantization["config_groups"].values()]


def test_a_folder_in_floats_is_no_quantized_one(folder_source: Source) -> None:
    folder = made(folder_source(layers=1), "f16")
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "float16"
    again = folder.with_name("again")
    source = open_checkpoint(folder)
    run_plan(make_plan(source, read_recipe(None, "fp8"), output_for(source, again)), again)
    assert again.is_dir()


def test_an_interruption_of_the_last_step_can_be_resumed(
    folder_source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder_source(layers=1)
    target = source.path.with_name("out")
    plan = make_plan(source, read_recipe(None, "fp8"), output_for(source, target))
    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(FivefoldError, match=r"--resume: what is done lies in \.out\.unfinished"):
            run_plan(plan, target)
    assert not target.exists()
    assert run_plan(plan, target, resume=True).resumed == len(plan.items)
    assert (target / "tokenizer_config.json").read_text() == "{}"


def test_a_folder_with_something_in_it_is_not_touched(folder_source: Source) -> None:
    source = folder_source(layers=1)
    (source.path.with_name("out")).mkdir()
    made(source, "fp8")  # an empty one is
    before = sorted(source.path.with_name("out").iterdir())
    with pytest.raises(InputError, match="there is something already"):
        made(source, "nvfp4")
    assert sorted(source.path.with_name("out").iterdir()) == before


def test_a_quantized_model_is_not_quantized_again(folder_source: Source) -> None:
    source = folder_source(layers=1)
    folder = made(source, "nvfp4")
    once = open_checkpoint(folder)
    without = {key: value for key, value in once.metadata.items() if key != "quantization_config"}
    for metadata, tensors in ((once.metadata, {}), (without, once.tensors)):
        with pytest.raises(InputError, match="quantized already"):
            output_for(Checkpoint(folder, "huggingface", metadata, tensors), Path("out"))


def test_another_library_reads_the_file(folder_source: Source) -> None:
    library = pytest.importorskip("safetensors.numpy")
    folder = made(folder_source("f32"), "mxfp4")
    held = open_safetensors(folder / "model.safetensors")
    found = library.load_file(folder / "model.safetensors")
    assert found.keys() == held.keys()
    for name, values in found.items():
        assert values.shape == held[name].shape
        assert values.tobytes() == held[name].data.tobytes()


def recorded() -> dict[str, Any]:
    with np.load(RECORDED) as file:
        return dict(file)


@pytest.mark.parametrize("form", list(SCHEMES))
def test_bytes_are_those_that_compressed_tensors_decompressed_to_our_values(form: str) -> None:
    """scripts/record_compressed_tensors.py: the bytes that it was given, and what it made of them."""
    held = recorded()
    values = held["values"].astype(np.float32)
    choice = Choice(form, best_choice(form).method, factor="power")
    tensor = encode("m.weight", values, choice)
    pieces: Mapping[str, Bytes] = _pieces(form, values, tensor)
    for name, data in pieces.items():
        assert digest(data) == str(held[f"{form}.{name}"]), name
    assert digest(dequantize(tensor)) == str(held[f"{form}.decompressed"])


def digest(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _pieces(form: str, values: Float32, tensor: Any) -> Mapping[str, Bytes]:
    from fivefold.core.checkpoint import Tensor
    from fivefold.quantize.folder_output import FolderOutput
    from fivefold.quantize.plan import Item

    source = Tensor("m.weight", "f32", values.shape, values.reshape(-1).view(np.uint8))
    output = FolderOutput(Checkpoint(Path("m"), "huggingface", {}, {}))
    return output.pieces(Item(source, "matrix", Choice(form)), tensor)


def test_compressed_tensors_decompresses_to_our_values(folder_source: Source) -> None:
    """With the library itself, where it and torch are installed."""
    pytest.importorskip("compressed_tensors")
    torch = pytest.importorskip("torch")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig
    from safetensors.torch import load_file

    source = folder_source(layers=1)
    folder = made(source, mixed())
    config = QuantizationConfig(**json.loads((folder / "config.json").read_text())["quantization_config"])
    held, ours = load_file(folder / "model.safetensors"), open_safetensors(folder / "model.safetensors")
    seen = 0
    for scheme in config.config_groups.values():
        for module in scheme.targets:
            parts = {
                name.removeprefix(f"{module}."): value
                for name, value in held.items()
                if name.startswith(f"{module}.")
            }
            found = BaseCompressor.get_value_from_registry(scheme.format).decompress(parts, scheme)["weight"]
            assert np.array_equal(found.to(torch.float32).numpy(), read(ours, module)), module
            seen += 1
    assert seen == 7
