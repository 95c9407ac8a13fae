"""The server's page is kept true: its configuration is the defaults, and every field and limit is told."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from fivefold.engine import need, residency
from fivefold.server import (
    ModelConfig,
    ServerConfig,
    body,
    connection,
    memory,
    messages,
    parameters,
    read_config,
    upstream,
)
from fivefold.server.endpoints import MOST_PROMPTS
from fivefold.server.errors import _TYPES
from fivefold.server.protocol import ChatRequest, CompletionRequest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "server.md").read_text()
SOURCES = "".join(path.read_text() for path in Path(upstream.__file__).parent.glob("*.py"))
CONFIGURATION = (DOCS / "configuration.md").read_text()


def test_the_configuration_shown_is_the_defaults(tmp_path: Path) -> None:
    """All keys that may be set are there."""
    blocks = re.findall(r"^```toml\n(.*?)^```", CONFIGURATION, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    path = tmp_path / "fivefold.toml"
    path.write_text(blocks[0])
    model = ModelConfig("smollm2-135m")
    assert read_config(path) == ServerConfig((model,), memory=8 * 10**9)
    keys = set(re.findall(r"^(\w+) = ", blocks[0], re.MULTILINE))
    fields = {field for kind in (ModelConfig, ServerConfig) for field in kind.__dataclass_fields__}
    assert keys == fields - {"models", "where"}


def test_the_numbers_of_residency_are_the_programs() -> None:
    text = " ".join(CONFIGURATION.split())
    for told in (
        f"waits {residency.PATIENCE_SECONDS:g} seconds for one to be free",
        f"for {residency.FAILED_SECONDS:g} seconds without another try",
        f"at most {need.MOST_CONTEXTS}",
        f"up to {upstream.MOST_PAUSE:g} seconds",
        f"half of what is free, at most {memory.MOST // 10**9} GB",
    ):
        assert told in text, told
    codes = set(re.findall(r'code="((?:upstream|model)_\w+)"', SOURCES))
    assert {code for code in codes if f"`{code}`" not in PAGE + CONFIGURATION} == {
        "upstream_failed", "upstream_timeout", "upstream_closed",
    }  # fmt: skip


@pytest.mark.parametrize("kind", [ChatRequest, CompletionRequest])
def test_every_field_is_told_of(kind: type[msgspec.Struct]) -> None:
    ignored = {"add_special_tokens"}
    for field in msgspec.structs.fields(kind):
        assert f"`{field.name}" in PAGE or field.name in ignored, field.name
    assert all(f"`{option}`" in PAGE for option in messages.OPTIONS)


def test_limits_are_the_programs() -> None:
    for row in (
        f"{body.MOST_BYTES >> 20} MiB, {body.MOST_DEPTH} deep, {body.MOST_VALUES:,} values, ",
        f" values, {body.MOST_SECONDS:g} s to arrive",
        f"{connection.MOST_HEAD_BYTES >> 10} KiB, {connection.HEAD_SECONDS:g} s",
        f"| {messages.MOST_MESSAGES}; {messages.MOST_TOOLS} |",
        f"| {parameters.MOST_CHOICES}; {MOST_PROMPTS} |",
        f"| {parameters.MOST_STOPS} of {parameters.MOST_STOP_CHARACTERS} characters |",
        f"| {parameters.MOST_BIASES}; {parameters.MOST_LOGPROBS} |",
        f"| {connection.STALL_SECONDS:g} s |",
    ):
        assert row in PAGE, row


def test_the_errors_types_are_the_programs() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", PAGE, re.MULTILINE)
    assert len(rows) >= 8
    assert {int(status): kind for status, kind in rows}.items() <= _TYPES.items()
