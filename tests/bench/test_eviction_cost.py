"""What eviction costs: the figures' keys and their arithmetic, on a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fivefold.backends import NativeRunner
from fivefold.bench import draw
from fivefold.bench.eviction import Cost, cost_lines, measure_cost
from fivefold.core.errors import InputError
from fivefold.core.lookahead import LookaheadModule
from fivefold.engine import LoadedModel, LoadOptions, load

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
SMALL = Cost(
    lengths=(40, 70), budget=16, depth=70, budgets=(16, 32), tokens=4, conversations=4, held=3,
    conversation=48, written=40, rounds=1, turns=2,
)  # fmt: skip


def loaded(rows: int) -> LoadedModel:
    """The tiny model with a module of so many rows, or none."""
    found = load(TINY, LoadOptions(threads=1, entries=SMALL.entries))
    if not rows:
        return found
    draw = np.random.default_rng(5)
    module = LookaheadModule(draw.standard_normal((rows, 32)).astype(np.float32), {}, 4.0, 2)
    assert isinstance(found.runner, NativeRunner)
    found.runner.lookahead = module
    return found.with_lookahead(module)


def test_costs_of_all_sides_are_told(tmp_path: Path) -> None:
    answer = measure_cost(loaded(12), SMALL)
    sides = {"plain", "snapkv", "laq", "lookahead", "lookahead_8"}
    assert answer["lookahead_rows"] == 12
    for length in ("40", "70"):
        first = answer["first"][length]
        assert set(first["sides"]) == sides
        assert first["sides"]["plain"]["more_seconds"]["median"] == 0
        whole = first["first_seconds"]["median"]
        for side in first["sides"].values():
            assert len(side["cost_seconds"]["rounds"]) == SMALL.turns
            assert side["share_of_first"] == pytest.approx(side["more_seconds"]["median"] / whole, abs=1e-4)
        laq, alike = (first["sides"][name]["cost_seconds"]["median"] for name in ("laq", "lookahead_8"))
        over = first["sides"]["laq"]["over_lookahead"]
        assert over is None if alike <= 0 else over == pytest.approx(laq / alike, abs=1e-3), "noise is larger"
    decode = answer["decode"]["sides"]
    assert decode["plain"]["step_bytes"] > decode["32"]["step_bytes"] > decode["16"]["step_bytes"]
    assert decode["plain"]["bytes_ratio"] == decode["plain"]["over_plain"] == 1
    for side in decode.values():
        assert side["share_of_bytes_ratio"] == pytest.approx(
            side["over_plain"] / side["bytes_ratio"], rel=1e-2
        )
    talk = answer["conversations"]
    assert {name: side["requests"] for name, side in talk["sides"].items()} == {"plain": 3, "lookahead": 4}
    assert answer["read_bandwidth"] > 0
    assert any("4 conversations of 48" in line for line in cost_lines(answer))
    draw(answer, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_module_only_the_others_are_measured() -> None:
    found = loaded(0)
    answer = measure_cost(found, replace(SMALL, lengths=(40,)))
    assert set(answer["first"]["40"]["sides"]) == {"plain", "snapkv", "laq"}
    assert set(answer["conversations"]["sides"]) == {"plain", "snapkv"}
    found.runner.check_integrity()
    assert found.runner.figures().used == 0


def test_a_stopped_measurement_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, small = tmp_path / "state.jsonl", replace(SMALL, lengths=(40,))

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fivefold.bench.eviction.cost._conversations", stopped)
        with pytest.raises(KeyboardInterrupt):
            measure_cost(loaded(0), small, kept)
    lines = kept.read_text().splitlines()
    assert len(lines) == 3  # what is measured, and two parts
    answer = measure_cost(loaded(0), small, kept)
    assert kept.read_text().splitlines()[:3] == lines
    assert answer["decode"] == json.loads(lines[2])["found"]
    with pytest.raises(InputError, match="another measurement"):
        measure_cost(loaded(0), replace(small, budget=17), kept)


def test_a_context_that_is_too_short_is_refused() -> None:
    with pytest.raises(InputError, match="more than the context of 96"):
        measure_cost(loaded(0), replace(SMALL, depth=200))
