"""`fivefold.toml`: every key; what is unknown, wrong or planned by name; sizes, and too little memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fivefold.core.errors import InputError
from fivefold.engine import LoadOptions
from fivefold.server import (
    LocalEntry,
    Maker,
    ModelConfig,
    Models,
    ServerConfig,
    available_memory,
    model_config,
    overridden,
    parse_size,
    read_config,
)

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
eviction = "snapkv"
budget = 0.1
eviction_every = 64
eviction_least = 2000
decoding = "autoregressive"
denoiser = "low_confidence:steps=4"
caching = "dual"
memory = "1GB"
wait = 0
idle = 60
pinned = true
upstream = ""
upstream_model = "a"
upstream_key = "secret"
upstream_key_file = ""
upstream_timeout = 30
upstream_connect_timeout = 1.5
upstream_retries = 0
upstream_check = 5

[[model]]
name = "other"
upstream = "http://127.0.0.1:9/v1/"
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
                        format="auto", cache_format="f16", eviction="snapkv", budget=0.1, eviction_every=64,
                        eviction_least=2000, decoding="autoregressive",
                        denoiser="low_confidence:steps=4", caching="dual", memory=10**9, wait=0, idle=60,
                        pinned=True, upstream_model="a", upstream_key="secret",
                        upstream_timeout=30,
                        upstream_connect_timeout=1.5, upstream_retries=0, upstream_check=5)  # fmt: skip
    models = (first, ModelConfig(name="other", upstream="http://127.0.0.1:9/v1"))
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
        ("model", "budget", '"half"'), ("model", "budget", "true"), ("model", "eviction_every", "0.5"),
        ("model", "context", "-1"), ("model", "memory", '"some"'),
        ("model", "wait", "-1"), ("model", "wait", '"long"'), ("model", "wait", "nan"),
        ("model", "idle", "-0.5"),
        ("model", "idle", "inf"), ("model", "pinned", "1"), ("model", "upstream_timeout", "0"),
        ("model", "upstream_connect_timeout", '"5"'), ("model", "upstream_retries", "11"),
        ("model", "upstream_retries", "-1"), ("model", "upstream_retries", "1.5"),
        ("model", "upstream_check", "0"), ("model", "upstream_model", "5"), ("model", "upstream_key", "5"),
        ("model", "name", '""'), ("model", "name", '"a\\nb"'), ("model", "aliases", '["a", " "]'),
        ("model", "max_queue", "1" + "0" * 300 + ".5"), ("server", "port", "-1"), ("server", "port", "65536"),
    ],
)  # fmt: skip
def test_a_value_of_a_wrong_type_is_named(tmp_path: Path, table: str, key: str, value: str) -> None:
    """With the table, and for a model which one."""
    rest = {"server": '[[model]]\nsource = "a"\n[server]\n', "model": "[[model]]\n"}[table]
    source = 'source = "a"\n' if table == "model" and key != "source" else ""
    line = refused(tmp_path, f"{rest}{source}{key} = {value}\n")
    assert key in line
    assert ("model 1" if table == "model" else "server") in line


def test_decodings_that_have_a_name(tmp_path: Path) -> None:
    """Which of them a model has is found when it is looked at."""
    for name in ("auto", "autoregressive", "speculative", "diffusion"):
        path = tmp_path / "fivefold.toml"
        path.write_text(f'[[model]]\nsource = "a"\ndecoding = "{name}"\n')
        assert read_config(path).models[0].decoding == name
    line = refused(tmp_path, '[[model]]\nsource = "a"\ndecoding = "fast"\n')
    assert "model 1: key decoding: there is no decoding 'fast'; choose of auto" in line
    assert "key decoding is 3, not of type" in refused(tmp_path, '[[model]]\nsource = "a"\ndecoding = 3\n')


@pytest.mark.parametrize(
    "address",
    [
        "host:8000", "ftp://host/v1", "http://", "http:///v1", "http://u:p@host/v1", "http://host/v1?key=a",
        "http://host/v1#a", "http://host:99999/v1", "http://host:0/v1",
        "http://a b/v1", "http://[::1/v1", "//host/v1",
        "http://host/\\u0001",
    ],
)  # fmt: skip
def test_what_is_no_address_of_an_engine(tmp_path: Path, address: str) -> None:
    line = refused(tmp_path, f'[[model]]\nname = "a"\nupstream = "{address}"\n')
    assert "model 1: key upstream is " in line


def test_a_model_is_either_here_or_elsewhere(tmp_path: Path) -> None:
    assert "both given" in refused(tmp_path, '[[model]]\nsource = "a"\nupstream = "http://a/v1"\n')


def test_keys_of_the_other_kind_may_stay_so_that_one_line_is_enough(tmp_path: Path) -> None:
    rest = 'name = "a"\ncontext = 64\ncache_format = "int8"\npinned = true\nupstream_model = "b"\n'
    for line in ('source = "a"', 'upstream = "http://a/v1"'):
        read_config(written(tmp_path, f"[[model]]\n{line}\n{rest}"))


def test_the_key_of_an_upstream_may_lie_in_a_file(tmp_path: Path) -> None:
    key = tmp_path / "key"
    text = f'[[model]]\nname = "a"\nupstream = "http://a/v1"\nupstream_key_file = "{key}"\n'
    assert "key upstream_key_file" in refused(tmp_path, text)
    for content in ("", " \n", "two keys", "k" * 5000, "schlüssel", "a\nb"):
        key.write_text(content, encoding="utf-8")
        line = refused(tmp_path, text)
        assert "key upstream_key_file" in line
        assert not content.strip() or content.strip() not in line
    key.write_text("sk-secret\n")
    assert read_config(written(tmp_path, text)).models[0].upstream_key == "sk-secret"
    assert "both given" in refused(tmp_path, text + 'upstream_key = "other"\n')


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    text = '[server]\napi_keys = ["s3cret"]\n[[model]]\nname = "a"\nupstream = "http://a/v1"\n'
    shown = repr(read_config(written(tmp_path, text + 'upstream_key = "s3cret"\n')))
    assert "s3cret" not in shown
    assert "s3cret" not in refused(tmp_path, text + 'upstream_key = ["s3cret"]\n')


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
                                     "eviction=learned", "wait=never", "prefix_cache=maybe",
                                     "context="])  # fmt: skip
def test_settings_that_are_wrong(setting: str) -> None:
    with pytest.raises(InputError) as caught:
        model_config(overridden({"source": "a"}, [setting]), "--set")
    assert str(caught.value).startswith("--set")


def maker(**options: Any) -> Maker:
    return Maker(Path, LoadOptions(**options), lambda: 77.0, lambda: 1 << 24)


def prepared(config: ServerConfig, **options: Any) -> list[LocalEntry]:
    return maker(**options).table(config).local


def test_memory_that_is_too_small_is_told_in_numbers() -> None:
    config = ServerConfig((ModelConfig(str(TINY)), ModelConfig(str(TINY), "second")), memory=60_000)
    with pytest.raises(InputError) as caught:
        maker().table(config)
    line = str(caught.value)
    assert "60000 bytes of memory" in line
    assert str(TINY) in line
    assert "smaller context" in line


def test_models_share_the_memory_and_have_their_own_context() -> None:
    models = (ModelConfig(str(TINY), context=32, max_queue=3), ModelConfig(str(TINY), "second"))
    first, second = prepared(ServerConfig(models, memory=600_000))
    assert (first.context, second.context) == (32, 96)
    assert (first.created, second.created) == (77, 77)
    assert 250_000 < first.recipe.bytes <= 300_000
    assert 250_000 < second.recipe.bytes <= 300_000


def test_a_model_may_have_a_memory_of_its_own() -> None:
    models = (ModelConfig(str(TINY), memory=120_000), ModelConfig(str(TINY), "second"))
    first, second = prepared(ServerConfig(models, memory=600_000))
    assert first.recipe.bytes <= 120_000
    assert 450_000 < second.recipe.bytes <= 480_000
    with pytest.raises(InputError, match="50000 bytes of memory"):
        prepared(ServerConfig((ModelConfig(str(TINY), memory=50_000),), memory=600_000))


def test_more_models_than_fit_together_are_taken_unless_they_are_pinned() -> None:
    models = tuple(ModelConfig(str(TINY), f"model{number}") for number in range(3))
    config = ServerConfig(models, memory=150_000)
    assert all(100_000 < entry.recipe.bytes < 150_000 for entry in prepared(config))
    pinned = tuple(dataclasses.replace(one, pinned=number > 0) for number, one in enumerate(models))
    with pytest.raises(InputError, match="pin fewer"):
        prepared(dataclasses.replace(config, models=pinned))


def test_a_models_own_cache_format_goes_before_that_of_the_command() -> None:
    models = (ModelConfig(str(TINY), cache_format="int8"), ModelConfig(str(TINY), "second"))
    config = ServerConfig(models, memory=1 << 24)
    first, second = prepared(config, cache_format="bf16")
    assert (first.recipe.load.cache_format, second.recipe.load.cache_format) == ("int8", "bf16")
    assert Models.prepared(config, maker(cache_format="bf16")).residency.used >= first.recipe.bytes


BAD_MODELS = [
    (
        f'source = "{TINY}"\ncontext = 97',
        "model 2: key context: a context of 97 is outside the model's; give 1 to 96",
    ),
    ('source = "none.gguf"', "model 2: key source: none.gguf: "),
    (f'source = "{TINY}"\nmemory = 5000', "model 2: key memory: "),
]


@pytest.mark.parametrize(("lines", "named"), BAD_MODELS)
def test_what_a_model_cannot_do_is_told_with_file_and_key(tmp_path: Path, lines: str, named: str) -> None:
    path = written(tmp_path, f'[[model]]\nsource = "{TINY}"\n[[model]]\nname = "b"\n{lines}\n')
    with pytest.raises(InputError) as caught:
        maker().table(read_config(path))
    assert str(caught.value).startswith(f"{path}: {named}")
    assert "; " in str(caught.value)


def test_a_missing_shard_and_an_unknown_architecture_are_found_at_the_start(tmp_path: Path) -> None:
    from fivefold.files import open_checkpoint, write_gguf

    checkpoint = open_checkpoint(TINY)
    shard, strange = tmp_path / "a-00001-of-00002.gguf", tmp_path / "strange.gguf"
    keys = {"split.no": 0, "split.count": 2, "split.tensors.count": len(checkpoint.tensors)}
    write_gguf(shard, {**checkpoint.metadata, **keys}, list(checkpoint.tensors.values())[:3])
    write_gguf(
        strange, {**checkpoint.metadata, "general.architecture": "elephant"}, checkpoint.tensors.values()
    )
    for source, named in ((shard, "00002-of-00002"), (strange, "architecture 'elephant' is not known")):
        path = written(tmp_path, f'[[model]]\nname = "b"\nsource = "{source}"\n')
        with pytest.raises(InputError) as caught:
            maker().table(read_config(path))
        assert str(caught.value).startswith(f"{path}: model 1: key source: ")
        assert named in str(caught.value)


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
