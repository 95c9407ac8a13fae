"""The key `format` of a model: before the command's own, or refused; another model in memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fivefold.core.errors import InputError
from fivefold.engine import LoadOptions
from fivefold.quantize import LoadedFormat, loaded_format
from fivefold.server import Maker, ModelConfig, ServerConfig

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"


def maker(**options: Any) -> Maker:
    return Maker(Path, LoadOptions(**options), lambda: 77.0, lambda: 1 << 24)


def test_a_models_own_format_goes_before_that_of_the_command() -> None:
    models = tuple(
        ModelConfig(str(TINY), name, format=form) for name, form in (("a", "q4_0"), ("b", ""), ("c", "auto"))
    )
    made = dataclasses.replace(maker(conversion=LoadedFormat("bf16")), conversion=loaded_format)
    entries = made.table(ServerConfig(models, memory=1 << 24)).local
    assert [one.recipe.load.conversion for one in entries] == [
        LoadedFormat("q4_0"), LoadedFormat("bf16"), None,
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"f.toml: model 1: key format: 'q4' .* choose one of auto, nvfp4"):
        made.table(ServerConfig((ModelConfig(str(TINY), format="q4"),), where="f.toml"))
    with pytest.raises(InputError, match="write 'auto'"):
        maker().table(ServerConfig((ModelConfig(str(TINY), format="q4_0"),)))


def test_a_change_of_the_format_is_another_model_in_memory() -> None:
    made = dataclasses.replace(maker(), conversion=loaded_format)
    before = made.table(ServerConfig((ModelConfig(str(TINY)),), memory=1 << 24))
    same = made.table(ServerConfig((ModelConfig(str(TINY)),), memory=1 << 24), before)
    other = made.table(ServerConfig((ModelConfig(str(TINY), format="q4_0"),), memory=1 << 24), before)
    assert same.local[0].recipe == before.local[0].recipe
    assert other.local[0].recipe != before.local[0].recipe
