"""Stacks of experts' matrices are quantized as the matrices they are, and read back as what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.core.errors import InputError
from fivefold.executor import dequantize
from fivefold.files import open_checkpoint
from fivefold.formats import FORMATS
from fivefold.quantize.choice import Choice, Method, Recipe
from fivefold.quantize.encode import encode
from fivefold.quantize.folder_output import FolderOutput
from fivefold.quantize.gguf_output import GgufOutput
from fivefold.quantize.plan import Item, make_plan
from fivefold.quantize.roles import role_of
from fivefold.quantize.run import run_plan

STACK, ROUTER = "blk.0.ffn_up_exps.weight", "blk.0.ffn_gate_inp.weight"


@pytest.fixture
def source(save: Any) -> Any:
    random = np.random.default_rng(2)
    arrays = {
        STACK: random.normal(0, 1, (3, 8, 64)), ROUTER: random.normal(0, 1, (3, 64)),
        "output.weight": random.normal(0, 1, (10, 64)),
    }  # fmt: skip
    return save(
        {"general.architecture": "qwen3moe"}, {name: one.astype(np.float32) for name, one in arrays.items()}
    )


@pytest.mark.parametrize(("form", "method"), [("q8_0", "round"), ("mxfp4", "sweep"), ("nvfp4", "round")])
def test_a_stack_becomes_what_its_matrices_become(
    form: str, method: Method, source: Any, tmp_path: Path
) -> None:
    choice = Choice(form, method)
    plan = make_plan(source, Recipe(choice), GgufOutput(source, "made.gguf"))
    run_plan(plan, tmp_path / "made.gguf")
    made = open_checkpoint(tmp_path / "made.gguf")
    assert made.tensors[STACK].shape == (3, 8, 64)
    assert made.tensors[STACK].format == FORMATS[form].name
    assert made.tensors[ROUTER].format == "f32"
    whole = dequantize(source.tensors[STACK])
    found = dequantize(made.tensors[STACK])
    for number in range(3):
        alone = encode("one", whole[number], Choice(form, method, factor="one"))
        np.testing.assert_array_equal(found[number], dequantize(alone))


def test_folders_have_no_form_for_stacks(source: Any) -> None:
    item = Item(source.tensors[STACK], role_of(source.tensors[STACK]), Choice("mxfp4"))
    fitted = FolderOutput(source).fitting(item)
    assert fitted.choice is None
    assert "no stacks" in fitted.note


def test_stacks_that_a_folder_holds_in_mxfp4_are_refused(source: Any, tmp_path: Path) -> None:
    plan = make_plan(source, Recipe(Choice("mxfp4")), GgufOutput(source, "made.gguf"))
    run_plan(plan, tmp_path / "made.gguf")
    tensor = open_checkpoint(tmp_path / "made.gguf").tensors[STACK]
    with pytest.raises(InputError, match="it is mxfp4 already"):
        FolderOutput(source).fitting(Item(tensor, role_of(tensor), Choice("fp8")))
