"""`bench start`: figures of real starts, under documented keys."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fivefold.bench.start import _start
from fivefold.cli.app import status
from fivefold.core.errors import FivefoldError

PAGE = Path(__file__).parents[2] / "docs" / "bench.md"


def test_starts_and_their_memory(default_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["bench", "start", str(default_model), "--rounds", "1", "--json", "-"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    side = answer["sides"]["fivefold"]
    assert set(side) == {"cold", "warm"}
    words = PAGE.read_text()
    for key in (*answer, *side, *side["cold"]):
        assert f"`{key}`" in words, f"docs/bench.md does not tell of {key}"
    for start in side.values():
        # The weights are packed, so they are resident; nobody prints before reading them.
        assert start["peak_resident_bytes"]["median"] > answer["weight_bytes"]
        assert start["peak_resident_bytes"]["median"] <= answer["resident_bound"]
        assert start["first_text_seconds"]["median"] > 0.0


def test_the_peak_is_the_process_s_own() -> None:
    program = "import sys; x = b'1' * 50_000_000; print('a', flush=True); sys.stdin.read(); print(len(x))"
    held = b"1" * 200_000_000
    start = _start([sys.executable, "-c", program], (), 1)
    assert 50_000_000 < start.peak < len(held)
    assert start.first > 0.0


def test_a_start_that_fails_says_why() -> None:
    program = "import sys; sys.exit('no such model')"
    with pytest.raises(FivefoldError, match="status 1: no such model"):
        _start([sys.executable, "-c", program], (), 1)
