"""Whatever stands in a configuration: it is read, or refused in one line that names the file and a remedy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fivefold.core.errors import InputError
from fivefold.server import ModelConfig, ServerConfig, read_config

KEYS = [field.name for field in dataclasses.fields(ModelConfig)]
SERVER = [field.name for field in dataclasses.fields(ServerConfig)]
TEXTS = [
    "",
    "a",
    "b",
    "8GB",
    "http://a/v1",
    "none",
    "auto",
    "f16",
    "snapkv",
    "http://[",
    "\\u0000",
    "\\n",
    "é",
]
VALUES = st.one_of(
    st.integers(-(10**30), 10**30).map(str),
    st.sampled_from(["inf", "-inf", "nan", "0.0", "-0.5", "1e308", "true", "false", "0", "1", "2", "64"]),
    st.sampled_from(
        ["1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "[]", "{}", "{a = 1}", "[[1], ['a']]"]
    ),
    st.sampled_from(TEXTS).map(lambda text: f'"{text}"'),
    st.lists(st.sampled_from(TEXTS), max_size=3).map(lambda texts: str([*texts]).replace("'", '"')),
)
TABLES = st.lists(
    st.dictionaries(st.sampled_from([*KEYS, "colour"]), VALUES, max_size=6), min_size=1, max_size=3
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configuration")


def lines(values: dict[str, Any]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in values.items())


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(server=st.dictionaries(st.sampled_from(SERVER), VALUES, max_size=3), models=TABLES)
def test_a_file_of_odd_values(folder: Path, server: dict[str, str], models: list[dict[str, str]]) -> None:
    path = folder / "fivefold.toml"
    tables = "".join(f"[[model]]\n{lines(values)}" for values in models)
    path.write_text(f"[server]\n{lines(server)}{tables}", encoding="utf-8")
    try:
        config = read_config(path)
    except InputError as error:
        assert str(error).startswith(str(path))
        assert "; " in str(error)
        assert str(error).isprintable()
    else:
        for one in config.models:
            assert bool(one.source) != bool(one.upstream)
            assert 0 <= one.wait < float("inf")
