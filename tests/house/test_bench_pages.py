"""Pages of recorded results: their tables are those of the files beside them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
PAGES = sorted(page.parent for page in (ROOT / "bench").glob("*/README.md"))
MAKERS = {
    "quality": "quality_table",
    "eviction": "decoding_tables",
    "parallel": "decoding_tables",
    "twins": "decoding_tables",
}
"""Which program makes the tables of a folder; bench_page.py those of all others."""


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of scripts/ import each other by name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))


def maker(name: str) -> ModuleType:
    """A program of scripts/, as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_a_page() -> None:
    assert PAGES


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: folder.name)
def test_tables_are_those_of_the_files(folder: Path) -> None:
    name = MAKERS.get(folder.name, "bench_page")
    made = maker(name)
    text = (folder / "README.md").read_text()
    assert made.page(folder) == text, f"run scripts/{name}.py bench/{folder.name} --write"
    assert all(f"`{path.name}`" in text for path in folder.glob("*.json"))


def test_the_contracts_table_of_entries_is_that_of_its_file() -> None:
    page = (ROOT / "docs" / "numeric-contract.md").read_text()
    found = json.loads((ROOT / "bench" / "numeric" / "entries.json").read_text())
    assert {(each["activations"], each["cache_format"]) for each in found} == {
        (rows, form) for rows in ("float", "int8") for form in ("f16", "bf16", "int8", "fp8")
    }
    for each in found:
        row = next(line for line in page.splitlines() if line.startswith(f"| {each['cache_format']} | "))
        distance = f"{each['mean_kl']:.2e} ± {each['mean_kl_error']:.1e}, {each['p99_kl']:.1e}"
        assert f"| {distance}, {each['top1_agreement']:.2%} |" in row
        assert each["text_sha256"] in page and f"{each['positions']:,} positions" in page


def test_the_transformers_backends_figures_are_those_of_its_file() -> None:
    page = (ROOT / "docs" / "transformers-backend.md").read_text()
    found = json.loads((ROOT / "bench" / "transformers" / "batch-8.json").read_text())
    cells = (f"{found['sides'][side]['median']:.1f}" for side in ("fivefold", "generate"))
    busy, clock = found["processor_time_ratio"], found["ratio"]
    spread = f"{busy['median']:.2f} ({min(busy['rounds']):.2f} to {max(busy['rounds']):.2f})"
    assert f"| {found['requests']} | {' | '.join(cells)} | {clock['median']:.2f} | {spread} |" in page
    assert f"{len(busy['rounds'])} rounds" in page
    assert f"{found['read_bandwidth'] / 1e9:.1f} GB/s" in page
    assert found["equal_answers"] == found["compared_answers"]


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize("text", ["", "<!-- tables -->\n", "<!-- end of the tables -->\n<!-- tables -->\n"])
def test_a_page_without_a_place_for_tables_says_so(text: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(text)
    (tmp_path / "a.json").write_text(json.dumps(QUALITY))
    with pytest.raises(ValueError, match=r"README\.md: the tables have no place; write the lines"):
        maker("quality_table").page(tmp_path)


QUALITY = {
    "model": "a.gguf", "sha256": "a" * 64, "weight_bytes": 1_000_000, "bits_per_weight": 4.5, "text": "t.txt",
    "text_sha256": "b" * 64, "window": 512, "skip": 0, "reference": "r.gguf", "reference_sha256": "c" * 64,
    "reference_executor": "native", "activations": "int8", "cache_format": "f16", "positions": 20000,
    "perplexity": 17.5, "perplexity_error": 0.25, "mean_kl": 0.0125, "mean_kl_error": 0.0005, "p99_kl": 0.25,
    "top1_agreement": 0.9375, "log_ratio": -0.0625, "log_ratio_error": 0.001, "reference_perplexity": 17.25,
    "reference_perplexity_error": 0.3,
}  # fmt: skip


@pytest.mark.usefixtures("scripts")
def test_quality_is_a_table_for_each_way_of_measuring(tmp_path: Path) -> None:
    """Sorted by bytes, whichever files the figures are from; without a reference cells are empty."""
    small = {**QUALITY, "model": "b.gguf", "weight_bytes": 999}
    alone = {**QUALITY, "model": "c.gguf", **dict.fromkeys(("reference", "reference_sha256", "mean_kl"))}
    (tmp_path / "one.json").write_text(json.dumps([QUALITY, alone]))
    (tmp_path / "two.json").write_text(json.dumps(small))
    (tmp_path / "README.md").write_text("above\n<!-- tables -->\nold\n<!-- end of the tables -->\nbelow\n")
    made = maker("quality_table").page(tmp_path)
    assert made.startswith("above\n") and made.endswith("below\n") and "old" not in made
    rows = [line for line in made.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == ["b.gguf", "a.gguf", "c.gguf"]
    assert rows[1] == (
        "| `a.gguf` | 1,000,000 | 4.50 | 17.500 ± 0.250 | -0.0625 ± 0.0010 | 0.01250 ± 0.00050 | 0.2500 "
        "| 93.75% | `one.json` |"
    )
    assert rows[2] == "| `c.gguf` | 1,000,000 | 4.50 | 17.500 ± 0.250 |  |  |  |  | `one.json` |"
    assert made.count("| model |") == 2
    assert "Reference: r.gguf with float activations, perplexity 17.250 ± 0.300." in made
