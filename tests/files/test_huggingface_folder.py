"""Model folders as Hugging Face lays them out: what opens them, and what is wrong with those that do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fivefold.core.checkpoint import CHAT_TEMPLATE
from fivefold.core.errors import FileError
from fivefold.files import open_checkpoint

if TYPE_CHECKING:
    from conftest import Raw

FOLDERS = Path(__file__).parents[1] / "models" / "data" / "folders"
INDEX = "model.safetensors.index.json"
SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDERS / "llama-f32", tmp_path / "whole"))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDERS / "mistral-bf16", tmp_path / "sharded"))


def refused(path: Path, says: str) -> None:
    with pytest.raises(FileError) as caught:
        open_checkpoint(path)
    line = str(caught.value)
    assert says in line
    assert str(path if path.is_dir() else path.parent) in line
    assert caught.value.remedy
    assert line.isprintable()
    assert len(line) < 600


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def test_a_folder_opens_by_itself_and_by_its_files(whole: Path, sharded: Path) -> None:
    (whole / "pytorch_model.bin").write_bytes(b"pickle")
    for folder, names in ((whole, ["model.safetensors"]), (sharded, [*SHARDS, INDEX])):
        checkpoint = open_checkpoint(folder)
        assert (checkpoint.kind, checkpoint.path) == ("huggingface", folder)
        assert checkpoint.metadata["hidden_size"] == 32
        for name in names:
            again = open_checkpoint(folder / name)
            assert again.path == folder
            assert set(again.tensors) == set(checkpoint.tensors)


def test_a_single_file_of_any_name_will_do(whole: Path) -> None:
    (whole / "model.safetensors").rename(whole / "weights.safetensors")
    assert "lm_head.weight" in open_checkpoint(whole).tensors


def test_what_is_not_clear_is_asked(whole: Path, sharded: Path, tiny_gguf: Path) -> None:
    shutil.copy(sharded / INDEX, whole)
    refused(whole, f"holds both model.safetensors and {INDEX}; name one of them")
    assert "lm_head.weight" in open_checkpoint(whole / "model.safetensors").tensors
    (sharded / INDEX).unlink()
    refused(sharded, f"3 safetensors files and no {INDEX}")
    assert "lm_head.weight" not in open_checkpoint(sharded / SHARDS[0]).tensors
    shutil.copy(tiny_gguf, sharded / "tiny.gguf")
    refused(sharded, "a GGUF file (tiny.gguf) and safetensors files; name the file that is meant")
    assert open_checkpoint(sharded / "tiny.gguf").kind == "gguf"


def test_a_gguf_file_beside_a_config_opens(whole: Path, tiny_gguf: Path) -> None:
    (whole / "model.safetensors").unlink()
    shutil.copy(tiny_gguf, whole)
    assert open_checkpoint(whole).kind == "gguf"


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "config.json").write_text("{}")
    refused(tmp_path, "pickled weights only, and opening those would run them")


def test_missing_files_are_named(whole: Path, sharded: Path, tmp_path: Path) -> None:
    (whole / "config.json").unlink()
    refused(whole, "no config.json")
    refused(whole / "other.safetensors", "no such file")
    (sharded / SHARDS[1]).unlink()
    refused(sharded, f"{SHARDS[1]}: shard 2 of 3 is missing")
    for name in SHARDS[::2]:
        (sharded / name).unlink()
    refused(sharded, f"{SHARDS[0]}: shard 1 of 3 is missing")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"a":1,"a":2}', "'a' stands twice"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":1e999}', "'1e999' is too large"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (b'{"tokenizer.chat_template":""}', "key tokenizer.chat_template does not belong there"),
        (b" " * ((16 << 20) + 1), "more than 16777216 bytes"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else "",
)
def test_a_malformed_config_is_refused(whole: Path, text: bytes, says: str) -> None:
    (whole / "config.json").write_bytes(text)
    refused(whole, says)


def placed(where: Any) -> Callable[[Any], Any]:
    return lambda index: {**index, "weight_map": {**index["weight_map"], "lm_head.weight": where}}


INDEXES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no map": (lambda index: {}, "weight_map is not a map"),
    "empty map": (lambda index: {"weight_map": {}}, "weight_map is not a map"),
    "a list": (lambda index: {"weight_map": [SHARDS[0]]}, "weight_map is not a map"),
    "upwards": (placed("../x.safetensors"), "'../x.safetensors', no safetensors file here"),
    "absolute": (placed("/x.safetensors"), "no safetensors file here"),
    "below": (placed("a/x.safetensors"), "no safetensors file here"),
    "backslash": (placed("..\\x.safetensors"), "no safetensors file here"),
    "drive": (placed("c:x.safetensors"), "no safetensors file here"),
    "pickle": (placed("pytorch_model.bin"), "no safetensors file here"),
    "zero": (placed("a\0.safetensors"), "no safetensors file here"),
    "number": (placed(3), "is said to lie in int"),
    "another shard": (placed(SHARDS[0]), "tensor 'lm_head.weight' also stands in another shard"),
    "absent shard": (placed("model-00009-of-00003.safetensors"), "shard 4 of 4 is missing"),
    "absent tensor": (
        lambda index: {"weight_map": {**index["weight_map"], "more": SHARDS[1]}},
        f"{SHARDS[1]}: tensor 'more' is missing",
    ),
}


@pytest.mark.parametrize("case", INDEXES)
def test_an_index_that_does_not_fit_is_refused(sharded: Path, case: str) -> None:
    change, says = INDEXES[case]
    edit(sharded / INDEX, change)
    refused(sharded, says)


def test_a_tensor_in_two_shards_is_refused(sharded: Path, raw: Raw) -> None:
    entry = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    for name in SHARDS[:2]:
        (sharded / name).write_bytes(raw.safetensors({"x": entry}, b"\0"))
    (sharded / INDEX).write_text(json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}))
    refused(sharded, f"{SHARDS[1]}: tensor 'x' also stands in another shard")


def test_shards_may_be_links_as_in_the_hubs_cache(sharded: Path, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes((sharded / SHARDS[0]).read_bytes())
    (sharded / SHARDS[0]).unlink()
    (sharded / SHARDS[0]).symlink_to(tmp_path / "blob")
    assert "model.embed_tokens.weight" in open_checkpoint(sharded).tensors


NAMED = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({}, None),
        ({"tokenizer_config.json": "{}"}, None),
        ({"tokenizer_config.json": json.dumps({"chat_template": "in config"})}, "in config"),
        ({"tokenizer_config.json": json.dumps({"chat_template": NAMED})}, "plain"),
        ({"tokenizer_config.json": json.dumps({"chat_template": NAMED[:1]})}, None),
        ({"chat_template.jinja": "apart", "tokenizer_config.json": '{"chat_template": "no"}'}, "apart"),
    ],
)
def test_the_chat_template_has_the_name_it_has_in_gguf(
    whole: Path, files: dict[str, str], template: str | None
) -> None:
    for name, text in files.items():
        (whole / name).write_text(text)
    assert open_checkpoint(whole).metadata.get(CHAT_TEMPLATE) == template


@pytest.mark.parametrize("value", [3, [3], [NAMED], {"a": 1}])
def test_a_chat_template_that_is_no_text_is_refused_or_none(whole: Path, value: Any) -> None:
    (whole / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    if isinstance(value, list):
        assert CHAT_TEMPLATE not in open_checkpoint(whole).metadata
    else:
        refused(whole, "chat_template is neither a text nor a list")
