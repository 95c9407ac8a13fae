"""`fivefold.toml`: every key; what is unknown, wrong or planned by name; sizes, and too little memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fivefold.core.errors import InputError
from fivefold.engine import LoadOptions
from fivefold.server import (
    ModelConfig,
    ServerConfig,
    load_models,
    model_config,
    overridden,
    parse_size,
    read_config,
)
from fivefold.server.served import available_memory

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
WHOLE = """
[server]
host = "0.0.0.0"
port = 9000
api_keys = ["one", "two"]
memory = "8GB"

[[model]]
source = "smollm2-135m"
name = "smol"
aliases = ["small", "tiny"]
context = 4096
max_sequences = 8
max_queue = 9
prefix_cache = false
format = "auto"
cache_format = "f16"
eviction = "none"
budget = 0
decoding = "autoregressive"
upstream = ""

[[model]]
source = "other.gguf"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "fivefold.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> str:
    """The one line that tells what is wrong with a file; it begins with the file's name."""
    path = written(folder, text)
    with pytest.raises(InputError) as caught:
        read_config(path)
    assert str(caught.value).startswith(str(path))
    assert "; " in str(caught.value), "no remedy is given"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_key_is_read(tmp_path: Path) -> None:
    first = ModelConfig("smollm2-135m", "smol", ("small", "tiny"), 4096, 8, 9, False,
                        cache_format="f16", decoding="autoregressive")  # fmt: skip
    models = (first, ModelConfig("other.gguf"))
    expected = ServerConfig(models, "0.0.0.0", 9000, ("one", "two"), 8 * 10**9)
    assert read_config(written(tmp_path, WHOLE)) == expected
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    assert known == {
        line.split(" = ")[0] for line in WHOLE.split("[[model]]")[1].split("\n") if " = " in line
    }


def test_defaults(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, '[[model]]\nsource = "a"\n'))
    assert config == ServerConfig((ModelConfig("a"),))
    assert (config.host, config.port, config.api_keys, config.memory) == ("127.0.0.1", 8000, (), 0)


@pytest.mark.parametrize(
    "text", ["", "[server]\nport = 1\n", "model = 5\n", "model = []\n", "[model]\nsource = 'a'"]
)
def test_without_a_model(tmp_path: Path, text: str) -> None:
    assert "[[model]]" in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[[model]]\nsource = "a"\n[serve]\n', "'serve'"),
        ('[[model]]\nsource = "a"\n[server]\nhots = "b"\n', "'hots'"),
        ('[[model]]\nsource = "a"\n[server]\nmodels = []\n', "'models'"),
        ('[[model]]\nsource = "a"\nsorce = "a"\n', "'sorce'"),
        ('[[model]]\nname = "a"\n', "source"),
        ('[[model]]\nsource = "a"\n[[model]]\nsource = "b"\nmax_sequence = 1\nname = "b"\n', "model 2"),
        ("server = 5\n[[model]]\nsource = 'a'\n", "[[model]]"),
        ("model = [5]\n", "model 1"),
    ],
)
def test_what_is_unknown_or_missing_is_named(tmp_path: Path, text: str, named: str) -> None:
    assert named in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("server", "host", "5"), ("server", "port", '"8000"'), ("server", "port", "true"),
        ("server", "port", "80.5"), ("server", "api_keys", '"key"'), ("server", "api_keys", "[5]"),
        ("server", "memory", "true"), ("server", "memory", '"much"'), ("server", "memory", "-5"),
        ("server", "memory", "1.5"), ("server", "memory", '"8 bananas"'), ("server", "memory", "[]"),
        ("model", "source", "5"), ("model", "name", "[]"), ("model", "aliases", '"a"'),
        ("model", "aliases", "[[]]"), ("model", "context", '"4k"'), ("model", "context", "1.5"),
        ("model", "max_sequences", "0"), ("model", "max_sequences", "-1"), ("model", "max_queue", "0"),
        ("model", "max_queue", "true"), ("model", "prefix_cache", "1"), ("model", "prefix_cache", '"yes"'),
        ("model", "budget", '"half"'),
    ],
)  # fmt: skip
def test_a_value_of_a_wrong_type_is_named(tmp_path: Path, table: str, key: str, value: str) -> None:
    """With the table, and for a model which one."""
    rest = {"server": '[[model]]\nsource = "a"\n[server]\n', "model": "[[model]]\n"}[table]
    source = 'source = "a"\n' if table == "model" and key != "source" else ""
    line = refused(tmp_path, f"{rest}{source}{key} = {value}\n")
    assert key in line
    assert ("model 1" if table == "model" else "server") in line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", '"q4"'), ("eviction", '"learned"'), ("budget", "0.5"),
        ("decoding", '"speculative"'), ("upstream", '"http://a"'),
    ],
)  # fmt: skip
def test_what_is_planned_is_refused_by_name(tmp_path: Path, key: str, value: str) -> None:
    line = refused(tmp_path, f'[[model]]\nsource = "a"\n{key} = {value}\n')
    assert f"key {key} is {value.strip(chr(34))}".replace('"', "") in line.replace("'", "")
    assert "planned" in line


def test_an_unknown_cache_format_is_refused_with_those_there_are(tmp_path: Path) -> None:
    line = refused(tmp_path, '[[model]]\nsource = "a"\ncache_format = "int4"\n')
    assert "model 1: key cache_format" in line
    assert "choose f16, bf16, int8, fp8" in line


@pytest.mark.parametrize("text", ["[[model]\n", "a = ", "\x00", "[[model]]\nsource = 'a'\nx = " + "9" * 5000])
def test_a_file_that_is_not_toml(tmp_path: Path, text: str) -> None:
    assert "cannot be read" in refused(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "fivefold.toml"
    broken.write_bytes(b"\xff\xfe[[model]]")
    for path in (broken, tmp_path / "none.toml", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_config(path)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * 10**9), ("8 gb", 8 * 10**9), ("1.5GiB", 3 << 29), ("512MiB", 512 << 20), ("64KB", 64_000),
        ("1KiB", 1024), ("10MB", 10**7), ("77", 77), (77, 77), (0, 0), (" 2GB ", 2 * 10**9),
        ("0.3GB", 3 * 10**8),
    ],
)  # fmt: skip
def test_sizes(text: Any, size: int) -> None:
    assert parse_size(text, "memory") == size


@pytest.mark.parametrize(
    "text",
    [
        "", "GB", "-1GB", "8TB", "8G", "1e9", "8GBB", "1,5GB", "nan", None, -1, True, 1.5, [], "9" * 400,
        "9" * 30 + "GB", 10**400,
    ],
)  # fmt: skip
def test_what_is_no_size(text: Any) -> None:
    with pytest.raises(InputError, match="--memory"):
        parse_size(text, "--memory")


@pytest.mark.parametrize(
    ("second", "shared"),
    [('name = "a"', "a"), ('name = "b"\naliases = ["x"]', "x"), ('name = "x"', "x"),
     ('name = "b"\naliases = ["c", "a"]', "a")],
)  # fmt: skip
def test_two_models_of_one_name(tmp_path: Path, second: str, shared: str) -> None:
    text = f'[[model]]\nsource = "1"\nname = "a"\naliases = ["x"]\n[[model]]\nsource = "2"\n{second}\n'
    assert f"two models are called {shared!r}" in refused(tmp_path, text)
    assert "two models are called 'default'" in refused(tmp_path, '[[model]]\nsource = "1"\n' * 2)


def test_names_are_looked_at_however_a_configuration_is_made() -> None:
    models = (ModelConfig("1", "a"), ModelConfig("2", "b", ("a",)))
    with pytest.raises(InputError, match="two models are called 'a'"):
        ServerConfig(models)
    assert ServerConfig((ModelConfig("1", "a", ("a", "b")),)).models[0].name == "a"


def test_settings_go_over_keys() -> None:
    values = {"source": "a", "name": "b", "context": 5}
    settings = ["context=4096", "name=other", 'aliases=["x", "y"]', "prefix_cache=false", "source=a=b"]
    config = model_config(overridden(values, settings), "--set")
    assert config == ModelConfig("a=b", "other", ("x", "y"), 4096, prefix_cache=False)
    assert values["context"] == 5


@pytest.mark.parametrize("setting", ["context", "=5", "context=many", "colour=red", "max_sequences=0",
                                     "eviction=learned", "prefix_cache=maybe", "context="])  # fmt: skip
def test_settings_that_are_wrong(setting: str) -> None:
    with pytest.raises(InputError) as caught:
        model_config(overridden({"source": "a"}, [setting]), "--set")
    assert str(caught.value).startswith("--set")


def test_memory_that_is_too_small_is_told_in_numbers() -> None:
    config = ServerConfig((ModelConfig(str(TINY)), ModelConfig(str(TINY), "second")), memory=60_000)
    with pytest.raises(InputError) as caught:
        load_models(config, Path, LoadOptions(), 0)
    line = str(caught.value)
    assert "30000 bytes of memory" in line, "each of two models has half of it"
    assert str(TINY) in line
    assert "smaller context" in line


def test_models_share_the_memory_and_have_their_own_context() -> None:
    models = (ModelConfig(str(TINY), context=32, max_queue=3), ModelConfig(str(TINY), "second"))
    first, second = load_models(ServerConfig(models, memory=1 << 24), Path, LoadOptions(), 77)
    assert (first.context, second.context) == (32, 96)
    assert (first.created, second.created) == (77, 77)
    assert first.engine.figures().cache.capacity >= 32


def test_a_models_own_cache_format_goes_before_that_of_the_command() -> None:
    models = (ModelConfig(str(TINY), cache_format="int8"), ModelConfig(str(TINY), "second"))
    config = ServerConfig(models, memory=1 << 24)
    served = load_models(config, Path, LoadOptions(cache_format="bf16"), 0)
    assert [one.engine.loaded.settings.cache_format for one in served] == ["int8", "bf16"]


def test_the_memory_of_the_machine(tmp_path: Path) -> None:
    told = tmp_path / "meminfo"
    told.write_text("MemTotal: 9 kB\nMemAvailable:   1000 kB\n")
    assert available_memory(told) == 512_000
    told.write_text("MemAvailable: 999999999 kB\n")
    assert available_memory(told) == 8 * 10**9
    for text in ("", "MemAvailable: much kB\n", "MemAvailable:\n"):
        told.write_text(text)
        assert available_memory(told) == 2 * 10**9
    assert available_memory(tmp_path / "none") == 2 * 10**9
