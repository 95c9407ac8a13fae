"""Recipes: what they say is what is chosen, and what is not known or not there yet is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.quantize import Choice, Plan, Recipe, make_plan, output_for, read_recipe
from fivefold.quantize.choice import Calibration, check_calibration, needs_calibration

WHOLE = r"""
fallback = "q4_0"

[default]
format = "nvfp4"
method = "sweep"
window = 12

[head]
format = "q8_0"

[[tensor]]
match = "blk\\.0\\..*"
format = "q8_0"
method = "round"

[[tensor]]
match = ".*ffn_down.*"
format = "keep"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def formats(plan: Plan) -> dict[str, str]:
    return {item.name: item.format for item in plan.items}


def plan_of(source: Checkpoint, recipe: Recipe, name: str = "out.gguf") -> Plan:
    target = source.path.with_name(name)
    return make_plan(source, recipe, output_for(source, target))


def test_a_whole_recipe(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, WHOLE))
    assert recipe.default == Choice("nvfp4", "sweep", 12)
    assert recipe.head == Choice("q8_0", "sweep")
    assert recipe.embedding is None
    assert [(rule.match.pattern, rule.choice) for rule in recipe.rules] == [
        (r"blk\.0\..*", Choice("q8_0", "round")), (".*ffn_down.*", Choice("keep")),
    ]  # fmt: skip
    assert recipe.fallback == "q4_0"


def test_options_win_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[default]\nformat = "nvfp4"\nmethod = "round"\n[head]\nformat = "q8_0"\n')
    recipe = read_recipe(path, "mxfp4", "f16")
    assert (recipe.default, recipe.head) == (Choice("mxfp4", "round"), Choice("f16"))
    assert read_recipe(None, "fp8").default == Choice("fp8", "round")
    assert read_recipe(None, "q4_0").default == Choice("q4_0", "sweep")


def test_what_others_will_read_is_kept(tmp_path: Path) -> None:
    text = (
        "awq = true\nnorm_correction = true\nbudget_bits = 4.6\n"
        '[default]\nformat = "nvfp4"\nmethod = "gptq"\n'
        '[calibration]\ntext = "some.txt"\ntokens = 4096\nwindow = 256\n'
    )
    recipe = read_recipe(written(tmp_path, text))
    assert recipe.calibration == Calibration(tmp_path / "some.txt", 4096, 256)
    assert (recipe.awq, recipe.norm_correction, recipe.budget_bits) == (True, True, 4.6)
    named = read_recipe(written(tmp_path, text), calibrate=Path("other.txt"))
    assert named.calibration == Calibration(Path("other.txt"), 4096, 256)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no format is given"),
        ("formats = 1", "key 'formats' is not known; known are default, head"),
        (
            '[default]\nformat = "nvfp5"',
            r"\[default\]: format 'nvfp5' cannot be quantized to; choose one of nvfp4",
        ),
        ('[default]\nformat = "q2_k"', "cannot be quantized to"),
        ('[default]\nformat = "nvfp4"\nbits = 4', r"\[default\]: key 'bits' is not known"),
        ('[default]\nformat = "nvfp4"\nmethod = "best"', "method 'best' is not known"),
        ('[default]\nformat = "fp8"\nmethod = "sweep"', "fp8 has no method 'sweep'"),
        ('[default]\nformat = "nvfp4"\nwindow = 0', "a window of 0"),
        ('[default]\nformat = "nvfp4"\nwindow = true', "key 'window' is bool"),
        ('[default]\nformat = "nvfp4"\nfactor = "two"', "factor 'two'"),
        ("[default]\nformat = 4", "key 'format' is int; give a text"),
        ('default = "nvfp4"', "key 'default' is str; give a table"),
        ('[default]\nmethod = "round"', r"\[default\]: it says no format"),
        ('tensor = 3\n[default]\nformat = "nvfp4"', "no list of tables"),
        ('[default]\nformat = "nvfp4"\n[[tensor]]\nformat = "f16"', r"\[\[tensor\]\] 1: it has no match"),
        ('[default]\nformat = "nvfp4"\n[[tensor]]\nmatch = "("\nformat = "f16"', "no regular expression"),
        ('[default]\nformat = "nvfp4"\n[[tensor]]\nmatch = "a"', "it says no format"),
        (
            '[default]\nformat = "nvfp4"\n[[tensor]]\nmatch = "a"\nformat = "f16"\nname = "x"',
            "'name' is not known",
        ),
        ('awq = 1\n[default]\nformat = "nvfp4"', "key 'awq' is int; give true or false"),
        ('budget_bits = nan\n[default]\nformat = "nvfp4"', "budget_bits is nan"),
        ('fallback = "x"\n[default]\nformat = "nvfp4"', "fallback: format 'x'"),
        (
            '[default]\nformat = "nvfp4"\n[calibration]\nfile = "x"',
            r"\[calibration\]: key 'file' is not known",
        ),
        ('[default]\nformat = "nvfp4"\n[calibration]\nwindow = 1', "in windows of 1"),
        ('[default]\nformat = "q8_0"\nfactor = "one"', r"\[default\]: key 'factor' changes nothing for q8_0"),
        ('[default]\nformat = "keep"\nmethod = "gptq"', "key 'method' changes nothing for keep"),
        ("[default", "no TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_recipe(written(tmp_path, text))
    assert "recipe.toml" in str(caught.value)
    assert ";" in str(caught.value)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="no TOML"):
        read_recipe(tmp_path / "bytes")
    with pytest.raises(InputError, match="--format: no format is given"):
        read_recipe()


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(Choice("nvfp4", "gptq")),
        Recipe(Choice("nvfp4"), awq=True),
        Recipe(Choice("nvfp4"), norm_correction=True),
        Recipe(Choice("nvfp4"), budget_bits=4.5),
    ],
)
def test_what_needs_a_text_is_refused_without_one(recipe: Recipe, tmp_path: Path) -> None:
    assert needs_calibration(recipe)
    for none in (None, Calibration(Path())):
        with pytest.raises(InputError, match="--calibrate: the recipe needs a text to calibrate with"):
            check_calibration(replace(recipe, calibration=none))
    text = tmp_path / "text"
    with pytest.raises(InputError, match="text: no such file"):
        check_calibration(replace(recipe, calibration=Calibration(text)))
    text.touch()
    check_calibration(replace(recipe, calibration=Calibration(text)))


def test_rules_come_first_then_roles_then_the_default(
    gguf_source: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    plan = plan_of(gguf_source(tied=False), read_recipe(written(tmp_path, WHOLE)))
    found = formats(plan)
    assert {found[f"blk.0.{part}.weight"] for part in ("attn_q", "ffn_down")} == {"q8_0"}
    assert found["blk.1.attn_q.weight"] == "nvfp4"
    assert found["blk.1.ffn_down.weight"] == "f32"
    assert (found["output.weight"], found["token_embd.weight"]) == ("q8_0", "q8_0")
    assert found["blk.1.attn_norm.weight"] == "f32"


@pytest.mark.parametrize(
    ("form", "head"), [("nvfp4", "q8_0"), ("q4_0", "q8_0"), ("q8_0", "q8_0"), ("f16", "f16")]
)
def test_heads_and_embeddings_of_gguf_files(
    gguf_source: Callable[..., Checkpoint], form: str, head: str
) -> None:
    for tied in (True, False):
        found = formats(plan_of(gguf_source(tied=tied), read_recipe(None, form)))
        assert {found[name] for name in ("token_embd.weight", "output.weight") if name in found} == {head}


def test_a_tied_embedding_is_the_head(gguf_source: Callable[..., Checkpoint]) -> None:
    tied, apart = Recipe(Choice("nvfp4"), Choice("f16")), Recipe(Choice("nvfp4"), None, Choice("bf16"))
    assert formats(plan_of(gguf_source(), tied))["token_embd.weight"] == "f16"
    assert formats(plan_of(gguf_source(), apart))["token_embd.weight"] == "bf16"
    both = Recipe(Choice("nvfp4"), Choice("f16"), Choice("bf16"))
    with pytest.raises(InputError, match="wants two formats"):
        plan_of(gguf_source(), both)
    found = formats(plan_of(gguf_source(tied=False), both))
    assert (found["output.weight"], found["token_embd.weight"]) == ("f16", "bf16")


def test_a_rule_that_matches_nothing_is_an_error(
    gguf_source: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    text = '[default]\nformat = "nvfp4"\n[[tensor]]\nmatch = "blk.9.*"\nformat = "f16"'
    with pytest.raises(InputError, match=r"recipe\.toml: \[\[tensor\]\] 1: 'blk\.9\.\*' matches no matrix"):
        plan_of(gguf_source(), read_recipe(written(tmp_path, text)))


def test_a_budget_below_the_smallest_choice_is_an_error_before_a_text_is_read(
    gguf_source: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("a")
    text = 'budget_bits = {}\n[default]\nformat = "nvfp4"\n[calibration]\ntext = "text"'
    with pytest.raises(InputError, match=r"budget_bits: .* takes [\d,]+; give at least 4\.\d+") as caught:
        plan_of(gguf_source(), read_recipe(written(tmp_path, text.format(4.5))))
    enough = float(str(caught.value).split("give at least ")[1].split(",")[0])
    plan_of(gguf_source(), read_recipe(written(tmp_path, text.format(enough))))


def test_nothing_to_do_is_an_error(gguf_source: Callable[..., Checkpoint]) -> None:
    with pytest.raises(InputError, match="nothing to quantize"):
        plan_of(gguf_source("q8_0"), read_recipe(None, "q8_0"))


def test_kinds_do_not_change(
    gguf_source: Callable[..., Checkpoint], folder_source: Callable[..., Checkpoint]
) -> None:
    folder = folder_source()
    with pytest.raises(UnsupportedError, match="write a folder instead"):
        plan_of(folder, read_recipe(None, "nvfp4"))
    with pytest.raises(UnsupportedError, match=r"name a target that ends in \.gguf"):
        plan_of(gguf_source(), read_recipe(None, "nvfp4"), "folder")
    with pytest.raises(InputError, match=r"tensor blk\.0.*GGUF files have no fp8"):
        plan_of(gguf_source(), read_recipe(None, "fp8", "q8_0"))
    with pytest.raises(InputError, match="folders have no q4_0"):
        plan_of(folder, read_recipe(None, "q4_0"), "folder")
    with pytest.raises(InputError, match="table of embeddings cannot be nvfp4"):
        plan_of(folder, read_recipe(None, "nvfp4", "nvfp4"), "folder")
