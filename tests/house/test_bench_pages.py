"""Pages of recorded results: their tables are those of the files beside them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(page.parent for page in (ROOT / "bench").glob("*/README.md"))


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_page", ROOT / "scripts" / "bench_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_a_page() -> None:
    assert PAGES


@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: folder.name)
def test_tables_are_those_of_the_files(folder: Path) -> None:
    made = maker()
    text = (folder / "README.md").read_text()
    assert made.page(folder) == text, f"run scripts/bench_page.py bench/{folder.name} --write"
    assert all(f"`{path.name}`" in text for path in folder.glob("*.json"))
