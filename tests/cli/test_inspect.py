"""`fivefold inspect`: what a model is loaded as, and the same keys for all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from second_model import write_second_model

from fivefold.cli.app import status

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What a command prints when all is well."""
    assert status([str(argument) for argument in arguments]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    return output


def test_inspect_says_what_it_is_loaded_as(capsys: pytest.CaptureFixture[str]) -> None:
    plain = json.loads(told(capsys, "inspect", TINY, "--json"))
    assert plain["loaded_format"] == "auto"
    assert plain["loaded_formats_by_part"] == plain["formats_by_part"]
    model = json.loads(told(capsys, "inspect", TINY, "--format", "q4_0", "--json"))
    assert model["loaded_format"] == "q4_0"
    assert model["formats_by_part"] == plain["formats_by_part"]
    assert set(model["loaded_formats_by_part"]["blk.*.attn_q.weight"]) == {"q4_0"}
    assert model["loaded_bytes"] < plain["bytes"] == model["bytes"]
    assert model["decode_weight_bytes"] < plain["decode_weight_bytes"]


def test_inspect_has_the_same_keys_for_every_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = json.loads(told(capsys, "inspect", TINY, "--json"))
    second = tmp_path / "second.gguf"
    write_second_model(second)
    assert list(json.loads(told(capsys, "inspect", second, "--json"))) == list(model)
    assert model["cache_groups"] == [
        {
            "name": "main",
            "layers": 2,
            "kv_heads": 2,
            "window": None,
            "bytes_a_token": model["cache_bytes_a_token"],
        }
    ]
    assert (model["template"], model["reasoning_dialect"]) == ("tokenizer.chat_template", None)
