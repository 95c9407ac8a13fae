"""Pictures of all reports, from answers made by hand, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fivefold.bench import check_picture, draw, picture
from fivefold.bench.summary import spread
from fivefold.core.errors import FivefoldError, InputError

HEAD = {"model": "m.gguf", "processor": "A processor", "threads": 2, "tokens": 8}
SIDE = {**spread([1.0, 2.0, 3.0]), "whole": spread([1.0, 1.5, 2.0])}
PERCENTILES = {name: spread([0.001, 0.002], 6) for name in ("p50", "p90", "p95", "p99")}
DEPTHS = [{"depth": depth, **spread([100.0 - depth / 10, 90.0])} for depth in (0, 100, 200)]
SERVED = {
    "output_tokens_per_second": spread([10.0, 11.0]),
    "ttft_seconds": PERCENTILES,
    "gap_seconds": PERCENTILES,
    "gap_seconds_without": PERCENTILES,
    "gap_seconds_during": PERCENTILES,
}

ANSWERS: dict[str, dict[str, Any]] = {
    "decode": {**HEAD, "work": "decode", "sides": {"fivefold": SIDE, "llama.cpp": SIDE}},
    "prefill alone": {**HEAD, "work": "prefill", "sides": {"fivefold": SIDE}},
    "batch": {**HEAD, "work": "batch", "requests": 4, "sides": dict.fromkeys("abcdefgh", SIDE)},
    "depth": {**HEAD, "work": "depth", "sides": {"fivefold": {"depths": DEPTHS}, "b": {"depths": DEPTHS}}},
    "serve": {**HEAD, "work": "serve", "scenario": "steady", "sides": {"fivefold": SERVED, "b": SERVED}},
    "no gaps": {
        **HEAD, "work": "serve", "scenario": "steady", "sides": {"fivefold": {**SERVED, "gap_seconds": None}},
    },
    "long prompt": {
        **HEAD, "work": "serve", "scenario": "long-prefill", "long_words": 9,
        "sides": {"a": SERVED, "b": SERVED},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_each_report_can_be_drawn(name: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    check_picture(path)
    draw(ANSWERS[name], path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    assert width >= 600
    assert height >= 400


def test_bars_show_medians_and_whiskers_the_rounds() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    picture._bars(axes, {"bars": {"fivefold": spread([1.0, 2.0, 4.0]), "b": spread([5.0, 6.0, 7.0])}})
    bars = [patch for patch in axes.patches if patch.get_height() > 0]
    assert [bar.get_height() for bar in bars] == [2.0, 6.0]
    whiskers = [segment for lines in axes.collections for segment in lines.get_segments()]
    assert [(segment[0][1], segment[1][1]) for segment in whiskers] == [(1.0, 4.0), (5.0, 7.0)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["fivefold", "b"]


@pytest.mark.parametrize("path", ["picture", "picture.txt", "/no/such/folder/picture.png"])
def test_files_that_cannot_be_pictures_are_refused(path: str) -> None:
    with pytest.raises(InputError, match="--picture"):
        check_picture(Path(path))


def test_without_matplotlib_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def without(name: str, *rest: Any) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(picture.importlib, "import_module", without)
    with pytest.raises(InputError, match=r"pip install 'fivefold\[report\]'"):
        check_picture(tmp_path / "picture.png")


def test_a_folder_that_vanished_is_told(tmp_path: Path) -> None:
    with pytest.raises(FivefoldError, match="cannot be written"):
        draw(ANSWERS["decode"], tmp_path / "gone" / "picture.png")
