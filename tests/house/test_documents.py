"""The documents are kept true: the commands they show exist, and so do the files they send a newcomer to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GUIDES = ["add-a-family.md", "add-a-format.md", "add-an-op.md", "eviction.md", "parallel.md"]
LINK = re.compile(r"\]\(([^)#\s]+)")
CODE = re.compile(r"^```[a-z]*\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
TARGET = re.compile(r"^make ([a-z]+)", re.MULTILINE)
COMMAND = re.compile(r"^(?:\.venv/bin/)?fivefold ([a-z]+)", re.MULTILINE)
PLANNED = re.compile(r"^#+ [^\n]*planned[^\n]*\n.*?(?=^#+ |\Z)", re.MULTILINE | re.DOTALL | re.IGNORECASE)
EXAMPLE = re.compile(r"^```example\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code(text: str) -> str:
    """The page's code, blocks and words in backquotes, each from the start of a line."""
    return "\n".join(block or word for block, word in CODE.findall(text))


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def commands() -> str:
    """What `fivefold --help` prints."""
    run = [sys.executable, "-m", "fivefold", "--help"]
    return subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_make_targets_exist(path: Path) -> None:
    assert set(TARGET.findall(code(path.read_text()))) <= targets()


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_exist(path: Path, request: pytest.FixtureRequest) -> None:
    """All but those under a heading that says they are planned."""
    for command in set(COMMAND.findall(code(PLANNED.sub("", path.read_text())))):
        commands = str(request.getfixturevalue("commands"))
        assert re.search(rf"\b{command}\b", commands), f"there is no `fivefold {command}`"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(path.read_text()):
        if "://" not in link:
            assert (path.parent / link).exists(), link


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_names_few_files_and_its_example_has_them(guide: str) -> None:
    examples = EXAMPLE.findall((ROOT / "docs" / guide).read_text())
    assert len(examples) == 1
    files = examples[0].split()
    assert 1 <= len(files) <= 3
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_every_make_target_has_a_line_of_help() -> None:
    helped = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert helped == targets()


def test_the_check_is_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "\nmake test\n" in script
    assert "make test" in (ROOT / "README.md").read_text()
