"""Each kind of bad configuration: one line and status 2 at the start, 400 and no change on a reload."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fivefold.cli.app import status
from fivefold.engine import LoadOptions
from fivefold.quantize import loaded_format
from fivefold.server import Maker, Models, Source, make_app, read_config

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
GOOD = f'[[model]]\nname = "m"\nsource = "{TINY}"\nmemory = "2MB"\n'
CASES: dict[str, tuple[str, str]] = {
    "unknown key": ("sorce = 1", "model 1: unknown key 'sorce'; known are"),
    "unknown type": ('source = "{folder}/elephant"', "ElephantForCausalLM"),
    "missing shard": ('source = "{folder}/shards"', "is missing; fetch all files"),
    "context above": ("context = 999", "key context: a context of 999 is outside the model's; give 1 to 96"),
    "two of a name": (f'[[model]]\nname = "m"\nsource = "{TINY}"', "two models are called 'm'; rename one"),
    "alias is a name": (
        f'[[model]]\nname = "b"\naliases = ["m"]\nsource = "{TINY}"', "two models are called 'm'; rename one"
    ),
    "no source": ('source = "/no/such.gguf"', "model 1: key source: "),
    "no TOML": ("[[model", "cannot be read as TOML: "),
    "negative memory": ("memory = -5", "key memory: -5 is not a size; write it as"),
    "negative size": ('memory = "-1GB"', "key memory: '-1GB' is not a size; write it as"),
    "too little memory": ('memory = "9KB"', "key memory: "),
    "cache format": ('cache_format = "int4"', "cache format 'int4' is not known; choose f16"),
    "eviction": ('eviction = "best"\nbudget = 9', "key eviction: there is no eviction policy 'best'; choose"),
    "measuring": ('eviction = "oracle"\nbudget = 9', "key eviction: eviction 'oracle' is for measurements"),
    "no budget": ('eviction = "snapkv"', "key budget: eviction 'snapkv' has no budget; give the entries"),
    "odd budget": ('eviction = "snapkv"\nbudget = 1.5', "key budget: a budget cannot be 1.5; give a number"),
    "budget below": ('eviction = "snapkv"\nbudget = -2', "key budget: a budget cannot be -2; give a number"),
    "lone budget": ("budget = 64", "key budget: 64 is given, and nothing is evicted; choose an eviction too"),
    "lone every": ("eviction_every = 5", "key eviction_every: 5 is given, and nothing is evicted; choose an"),
    "every below": ('eviction = "snapkv"\nbudget = 9\neviction_every = -1', "key eviction_every is -1; give"),
    "ragged every": (
        'eviction = "adakv"\nbudget = 9\neviction_every = 5', "key eviction_every: eviction 'adakv' is done"
    ),
    "least below": ("eviction_least = -1", "key eviction_least is -1; give at least 0"),
    "no module": (
        'eviction = "lookahead"\nbudget = 9',
        "key eviction: there is no lookahead module for this model; train one: fivefold train lookahead /",
    ),
    "caching": ('caching = "all"', "key caching: there is no caching 'all'; choose of none, prefix, dual"),
    "decoding": ('decoding = "magic"', "key decoding: there is no decoding 'magic'; choose of auto, auto"),
    "format": ('format = "q9"', "key format: 'q9' is no format to load in; choose one of auto, nvfp4"),
    "address": ('source = ""\nupstream = "localhost:1"', "key upstream is 'localhost:1', which is not an"),
}  # fmt: skip


def changed(folder: Path, change: str) -> str:
    """The good configuration with other keys, or with more below."""
    lines = change.replace("{folder}", str(folder)).split("\n")
    keys = {line.split(" = ")[0] for line in lines if " = " in line}
    kept = [
        line for line in GOOD.splitlines() if lines[0].startswith("[") or line.split(" = ")[0] not in keys
    ]
    return "\n".join([*kept, *lines, ""])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a folder of a model that nobody knows, and one of which a shard is missing."""
    for name, architecture in (("elephant", "ElephantForCausalLM"), ("shards", "LlamaForCausalLM")):
        (tmp_path / name).mkdir()
        config = {"architectures": [architecture], "model_type": architecture[:5].lower()}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    index = {"weight_map": {"a.weight": "model-00001-of-00002.safetensors"}}
    (tmp_path / "shards" / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "elephant" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    return tmp_path


def test_at_the_start_it_is_one_line_and_status_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "fivefold.toml"
    for name, (change, told) in CASES.items():
        path.write_text(changed(folder, change))
        assert status(["serve", "--config", str(path), "--port", "0"]) == 2, name
        output, errors = capsys.readouterr()
        assert output == ""
        assert errors.startswith(f"fivefold: {path}: "), (name, errors)
        assert told in errors, (name, errors)
        assert errors.count("\n") == 1 and "; " in errors, (name, errors)


def test_on_a_reload_nothing_changes(folder: Path, run_app: Callable[..., Any]) -> None:
    path = folder / "fivefold.toml"
    path.write_text(GOOD)
    maker = Maker(Path, LoadOptions(threads=1), time.time, lambda: 1 << 26, loaded_format)
    models = Models.prepared(read_config(path), maker, Source(lambda: read_config(path), maker))
    ask = {"prompt": "hello", "max_tokens": 4, "ignore_eos": True, "temperature": 0}
    with run_app(make_app(models)) as process:
        before, table = process.ask("/v1/completions", ask).json["choices"], models.table
        for name, (change, told) in CASES.items():
            path.write_text(changed(folder, change))
            reply = process.ask("/admin/reload", method="POST", client="127.0.0.1")
            assert reply.status == 400, name
            if name != "no source":  # the command looks it up by other means
                assert told in reply.error["message"], (name, reply.error)
            assert models.table is table
            assert process.ask("/v1/completions", ask).json["choices"] == before


def test_an_upstream_that_is_down_keeps_nobody_from_starting(
    folder: Path, run_app: Callable[..., Any]
) -> None:
    path = folder / "fivefold.toml"
    path.write_text(
        f'{GOOD}[[model]]\nname = "far"\nupstream = "http://127.0.0.1:9/v1"\nupstream_retries = 0\n'
    )
    maker = Maker(Path, LoadOptions(threads=1), time.time, lambda: 1 << 26)
    with run_app(make_app(Models.prepared(read_config(path), maker))) as process:
        assert {one["id"]: one["state"] for one in process.ask("/v1/models").json["data"]} == {
            "m": "loaded", "far": "down",
        }  # fmt: skip
        reply = process.ask("/v1/completions", {"model": "far", "prompt": "a"})
        assert (reply.status, reply.error["code"]) == (503, "upstream_unreachable")
