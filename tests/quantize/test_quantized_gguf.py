"""Quantized GGUF files: what is written is what was encoded, other readers agree, and an interruption costs
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from fivefold.core.checkpoint import Checkpoint, Float32, Tensor
from fivefold.core.errors import FileError, InputError
from fivefold.executor import dequantize
from fivefold.files import open_checkpoint, write_gguf
from fivefold.quantize import Choice, Plan, Recipe, encode, make_plan, output_for, read_recipe, run, run_plan
from fivefold.quantize.choice import best_choice

Source = Callable[..., Checkpoint]


def plan_of(source: Checkpoint, recipe: Recipe | str) -> Plan:
    wanted = read_recipe(None, recipe) if isinstance(recipe, str) else recipe
    return make_plan(source, wanted, output_for(source, source.path.with_name("out.gguf")))


def made(source: Checkpoint, recipe: Recipe | str, **options: Any) -> Path:
    target = source.path.with_name("out.gguf")
    run_plan(plan_of(source, recipe), target, **options)
    return target


@pytest.mark.parametrize("form", ["nvfp4", "mxfp4", "q4_0", "q8_0", "f16", "bf16"])
def test_tensors_are_those_that_were_encoded(gguf_source: Source, form: str) -> None:
    source = gguf_source(tied=False)
    path = made(source, form)
    held = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for name, tensor in source.tensors.items():
        stored = np.ascontiguousarray(held[name].data).reshape(-1).view(np.uint8)
        if len(tensor.shape) < 2:
            assert np.array_equal(stored, tensor.data)
            continue
        coarse = name in ("token_embd.weight", "output.weight") and "4" in form
        expected = encode(name, dequantize(tensor), best_choice("q8_0" if coarse else form))
        assert held[name].tensor_type.name.lower() == expected.format
        assert np.array_equal(stored, expected.data), name
        factor = held.get(f"{name.removesuffix('.weight')}.scale")
        assert (factor is None) == (expected.scales is None)
        if factor is not None and expected.scales is not None:
            assert factor.data.tolist() == expected.scales.values.ravel().tolist()
    assert len(held) == len(source.tensors) + (14 if form == "nvfp4" else 0)


def test_it_is_the_file_that_is_written_at_once(gguf_source: Source) -> None:
    path = made(gguf_source(), "nvfp4")
    reader = open_checkpoint(path)
    raw = [
        Tensor(one.name, one.tensor_type.name.lower(), tuple(int(n) for n in one.shape[::-1]),
               np.ascontiguousarray(one.data).reshape(-1).view(np.uint8))
        for one in gguf.GGUFReader(path).tensors
    ]  # fmt: skip
    again = path.with_name("again.gguf")
    write_gguf(again, reader.metadata, raw)
    assert again.read_bytes() == path.read_bytes()
    assert sorted(one.name for one in path.parent.iterdir()) == ["again.gguf", "out.gguf", "source.gguf"]


def test_metadata_say_what_the_file_is(gguf_source: Source) -> None:
    source = gguf_source()
    for form, number in (("nvfp4", 39), ("mxfp4", 38), ("q8_0", 7), ("q4_0", 2), ("bf16", 32)):
        found = open_checkpoint(made(source, form)).metadata
        assert (found["general.file_type"], found["general.quantization_version"]) == (number, 2)
        changed = {"general.file_type", "general.quantization_version"}
        assert {key: value for key, value in found.items() if key not in changed} == {
            key: value for key, value in source.metadata.items() if key not in changed
        }


def test_factors_are_where_they_are_applied(gguf_source: Source) -> None:
    """For llama in all matrices; for qwen2 not in its feed-forward; never in a table of embeddings."""
    recipe = Recipe(Choice("nvfp4", "sweep"), Choice("nvfp4", "sweep"))
    for architecture, count in (("llama", 7 * 2), ("qwen2", 4 * 2)):
        plan = plan_of(gguf_source(architecture=architecture), recipe)
        assert {item.format for item in plan.items} == {"nvfp4", "f32"}
        without = [item for item in plan.items if item.choice is not None and item.choice.factor == "one"]
        assert len(without) == 1 + 7 * 2 - count
        assert all("llama.cpp would not apply it here" in item.note for item in without)
    path = made(gguf_source(tied=False), recipe)
    names = {one.name for one in gguf.GGUFReader(path).tensors}
    assert "output.scale" in names
    assert "token_embd.scale" not in names


def test_columns_that_do_not_fill_blocks_fall_back(gguf_source: Source, tmp_path: Path) -> None:
    narrow = np.ones((128, 32), np.float32)
    odd = np.ones((64, 40), np.float32)
    source = gguf_source(blk_0_attn_q_weight=narrow, blk_0_ffn_down_weight=odd)
    plan = plan_of(source, "nvfp4")
    items = {item.name: item for item in plan.items}
    assert (items["blk.0.attn_q.weight"].format, items["blk.0.ffn_down.weight"].format) == ("q8_0", "f16")
    assert items["blk.0.attn_q.weight"].note == "q8_0: 32 columns do not fill blocks of nvfp4"
    wanted = Recipe(Choice("nvfp4"), fallback="q4_0")
    assert {item.name: item for item in plan_of(source, wanted).items}["blk.0.attn_q.weight"].format == "q4_0"


@pytest.mark.parametrize("form", ["nvfp4", "mxfp4", "q4_0", "q8_0"])
def test_what_is_stored_so_already_is_copied(gguf_source: Source, form: str, tmp_path: Path) -> None:
    once = made(gguf_source(), Recipe(best_choice(form), best_choice(form)))
    first = once.rename(tmp_path / "first.gguf")
    twice = made(open_checkpoint(first), Recipe(best_choice(form), Choice("f16")))
    before, after = open_checkpoint(first).tensors, open_checkpoint(twice).tensors
    for name in before.keys() & after.keys() - {"token_embd.weight"}:
        assert np.array_equal(before[name].data, after[name].data), name
        assert np.array_equal(dequantize(before[name]), dequantize(after[name])), name


def test_a_source_of_any_format_is_read_as_what_it_stands_for(gguf_source: Source, tmp_path: Path) -> None:
    for form in ("nvfp4", "mxfp4", "q4_0", "bf16"):
        once = made(gguf_source(), form).rename(tmp_path / f"{form}.gguf")
        source = open_checkpoint(once)
        again = open_checkpoint(made(source, Recipe(Choice("f32"), Choice("f32"))))
        for name, tensor in source.tensors.items():
            assert np.array_equal(dequantize(again.tensors[name]), dequantize(tensor)), (form, name)


def test_a_number_that_is_none_stops_it_with_the_tensors_name(gguf_source: Source) -> None:
    bad = np.ones((64, 64), np.float32)
    bad[3, 4] = np.nan
    source = gguf_source(blk_1_attn_q_weight=bad)
    with pytest.raises(FileError, match=r"tensor blk\.1\.attn_q\.weight: row 3 holds a number that is NaN"):
        made(source, "nvfp4")
    assert {path.name for path in source.path.parent.iterdir()} == {"source.gguf"}


def test_a_number_that_is_none_is_not_copied_either(gguf_source: Source) -> None:
    bad = np.ones(64, np.float32)
    bad[5] = np.inf
    with pytest.raises(FileError, match=r"tensor blk\.0\.ffn_norm\.weight: row 0 holds a number"):
        made(gguf_source(blk_0_ffn_norm_weight=bad), "q8_0")


@pytest.mark.parametrize(
    ("largest", "recipe", "says"),
    [
        (3.4028235e38, "nvfp4", r"attn_q\.weight: a magnitude of 3\.4028\de\+38 is more than nvfp4 can"),
        (3.4028235e38, "mxfp4", "is more than mxfp4 can hold"),
        (3.4028235e38, "bf16", "is more than bf16 can hold"),
        (65520.0, "f16", "a magnitude of 65520 is more than f16 can hold"),
        (7e6, Recipe(Choice("nvfp4", "sweep", factor="one")), r"nvfp4 without a factor can hold \(2688\)"),
    ],
)  # fmt: skip
def test_what_would_be_stored_as_infinite_or_cut_is_refused(
    gguf_source: Source, largest: float, recipe: Recipe | str, says: str
) -> None:
    values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    values[3, 4] = largest
    with pytest.raises(FileError, match=says):
        made(gguf_source(blk_1_attn_q_weight=values), recipe)


class Stopped(BaseException):
    """An interruption."""


def stop_at(number: int) -> Callable[[str, int, int], None]:
    seen = iter(range(10_000))

    def report(name: str, done: int, total: int) -> None:
        if next(seen) == number:
            raise Stopped

    return report


def count_encodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def counted(name: str, values: Float32, choice: Choice, importance: Float32 | None = None) -> Tensor:
        names.append(name)
        return encode(name, values, choice, importance)

    monkeypatch.setattr(run, "encode", counted)
    return names


@pytest.mark.parametrize("number", [0, 1, 7, 19])
def test_an_interruption_costs_no_finished_tensor(
    gguf_source: Source, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    source = gguf_source()
    expected = made(source, "nvfp4").read_bytes()
    target = source.path.with_name("out.gguf")
    target.unlink()
    names = count_encodings(monkeypatch)
    with pytest.raises(Stopped):
        made(source, "nvfp4", report=stop_at(number))
    assert not target.exists()
    before = list(names)
    made(source, "nvfp4", resume=True)
    assert target.read_bytes() == expected
    assert not set(before) & set(names[len(before) :])
    assert len(names) == 15
    assert sorted(one.name for one in target.parent.iterdir()) == ["out.gguf", "source.gguf"]


def test_resuming_something_else_is_refused(gguf_source: Source) -> None:
    source = gguf_source()
    with pytest.raises(Stopped):
        made(source, "nvfp4", report=stop_at(7))
    with pytest.raises(InputError, match="another source or with another recipe"):
        made(source, "mxfp4", resume=True)
    with pytest.raises(InputError, match="another source or with another recipe"):
        made(source, Recipe(Choice("nvfp4", "sweep", window=3)), resume=True)
    changed = gguf_source(blk_0_attn_q_weight=np.zeros((64, 64), np.float32))
    with pytest.raises(InputError, match="another source or with another recipe"):
        made(changed, "nvfp4", resume=True)
    fresh = made(changed, "nvfp4")  # without --resume it begins anew
    assert np.isfinite(dequantize(open_checkpoint(fresh).tensors["blk.0.attn_q.weight"])).all()


def test_what_was_damaged_meanwhile_is_made_again(gguf_source: Source) -> None:
    source = gguf_source()
    expected = made(source, "nvfp4").read_bytes()
    target = source.path.with_name("out.gguf")
    target.unlink()
    with pytest.raises(Stopped):
        made(source, "nvfp4", report=stop_at(7))
    work = target.with_name(".out.gguf.unfinished")
    with (work / "files" / "out.gguf").open("r+b") as file:
        file.seek(len(expected) // 8)
        file.write(bytes(200))
    with (work / "journal").open("ab") as file:
        file.write(b'{"group": "blk.1.attn_q.wei')
    made(source, "nvfp4", resume=True)
    assert target.read_bytes() == expected


def test_targets_that_cannot_be(gguf_source: Source, tmp_path: Path) -> None:
    source = gguf_source()
    plan = plan_of(source, "nvfp4")
    with pytest.raises(InputError, match="the target is the source"):
        run_plan(plan, source.path)
    with pytest.raises(InputError, match="its folder does not exist"):
        run_plan(plan, tmp_path / "none" / "out.gguf")
    (tmp_path / "out.gguf").mkdir()
    with pytest.raises(InputError, match="this is a folder"):
        run_plan(plan, tmp_path / "out.gguf")


class Halved:
    """A calibration that halves one norm and one matrix, and encodes another by itself."""

    def mark(self) -> str:
        return "halved"

    def values(self, name: str, values: Float32) -> Float32:
        return values / 2 if self.changes(name) else values

    def changes(self, name: str) -> bool:
        return name in ("blk.0.attn_norm.weight", "blk.0.attn_q.weight")

    def importance(self, name: str) -> Float32 | None:
        return np.arange(64, dtype=np.float32) if name == "blk.0.attn_k.weight" else None

    def encode(self, name: str, values: Float32, choice: Choice) -> Tensor | None:
        if name != "blk.0.attn_v.weight":
            return None
        return encode(name, values, replace(choice, method="round"))


def test_a_calibration_has_its_say(gguf_source: Source) -> None:
    source = gguf_source()
    path = made(source, "nvfp4", calibrated=Halved())
    held = {
        one.name: np.ascontiguousarray(one.data).reshape(-1).view(np.uint8)
        for one in gguf.GGUFReader(path).tensors
    }
    own = {name: dequantize(tensor) for name, tensor in source.tensors.items()}
    assert np.array_equal(held["blk.0.attn_norm.weight"].view("<f4"), own["blk.0.attn_norm.weight"] / 2)
    expected = {
        "attn_q": encode("q", own["blk.0.attn_q.weight"] / 2, best_choice("nvfp4")),
        "attn_k": encode(
            "k", own["blk.0.attn_k.weight"], best_choice("nvfp4"), np.arange(64, dtype=np.float32)
        ),
        "attn_v": encode("v", own["blk.0.attn_v.weight"], Choice("nvfp4")),
    }
    for part, tensor in expected.items():
        assert np.array_equal(held[f"blk.0.{part}.weight"], tensor.data), part
