"""`bench growth`: curves with fits that agree with them, under documented keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fivefold.bench.summary import fit_bent, fit_curve
from fivefold.cli.app import status

PAGE = Path(__file__).parents[2] / "docs" / "bench.md"


def test_a_parabola_is_found_again() -> None:
    lengths = [64.0, 128.0, 512.0, 1024.0, 4096.0]
    found = fit_curve(lengths, [0.002 + 3e-4 * n + 5e-8 * n * n for n in lengths], 2)
    assert found is not None
    assert found.coefficients == pytest.approx((0.002, 3e-4, 5e-8), rel=1e-6)
    assert found.residual == pytest.approx(0.0, abs=1e-9)


def test_a_cliff_stands_out() -> None:
    depths = [0.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0]
    times = [4.0 + depth / 1000 for depth in depths]
    times[3] *= 1.5
    found = fit_curve(depths, times, 1)
    assert found is not None
    assert found.excess_at == 3000.0
    assert found.excess > 0.25


def test_a_step_that_lasts_is_a_jump() -> None:
    depths = [0.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0]
    times = [(4.0 + depth / 1000) * (1.2 if depth >= 3000 else 1.0) for depth in depths]
    found = fit_curve(depths, times, 1)
    assert found is not None
    assert found.jump_at == 3000.0
    assert found.jump > 0.1
    assert found.excess < found.jump


def test_a_floor_before_a_line_is_found_again() -> None:
    rows = [1.0, 2.0, 3.0, 4.0, 8.0, 16.0, 32.0]
    found = fit_bent(rows, [max(3.3, 1.0 + 0.5 * row) for row in rows])
    assert found is not None
    assert (found.floor, found.flat_to) == (pytest.approx(3.3), pytest.approx(4.0))
    assert found.coefficients == pytest.approx((1.0, 0.5))
    assert found.residual == pytest.approx(0.0, abs=1e-9)
    line = fit_bent(rows, [1.0 + 0.5 * row for row in rows])
    assert line is not None and line.floor is None


def test_too_few_points_have_no_fit() -> None:
    assert fit_curve([1.0, 2.0], [1.0, 2.0], 1) is None
    assert fit_curve([1.0, 1.0, 2.0], [1.0, 1.0, 2.0], 1) is None
    assert fit_curve([1.0, 2.0, 3.0], [1.0, 0.0, 2.0], 1) is None
    assert fit_bent([1.0, 2.0], [1.0, 2.0]) is None


def test_curves_and_fits(default_model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = ["--depths", "0,32,64", "--lengths", "8,16,32,64", "--rows", "1,2,4", "--rounds", "1"]
    picture = ["--json", "-", "--picture", str(tmp_path / "growth.png")]
    assert status(["bench", "growth", str(default_model), *asked, *picture]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (tmp_path / "growth.png").stat().st_size > 1000
    curves = answer["curves"]
    assert {name: curve["places"] for name, curve in curves.items()} == {
        "depth": [0, 32, 64], "length": [8, 16, 32, 64], "rows": [1, 2, 4],
    }  # fmt: skip
    for name, curve in curves.items():
        assert len(curve["fit"]["seconds"]) == (3 if name == "length" else 2)
        assert all(point["median"] > 0 for point in curve["seconds"])
        fitted = [
            sum(each * place**power for power, each in enumerate(curve["fit"]["seconds"]))
            for place in curve["places"]
        ]
        excess = max(
            point["median"] / value - 1 for point, value in zip(curve["seconds"], fitted, strict=True)
        )
        assert curve["fit"]["largest_excess"] == pytest.approx(excess, abs=2e-3)
    words = PAGE.read_text()
    for key in (*answer, *curves["depth"], *curves["depth"]["fit"]):
        assert f"`{key}`" in words, f"docs/bench.md does not tell of {key}"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--rows", "0,1"], "'0,1' are no rising numbers from 1 on"),
        (["--lengths", "64,32"], "--lengths"),
        (["--depths", "0,900000"], "more than the context"),
    ],
)
def test_bad_input_is_one_line(
    asked: list[str], said: str, default_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(["bench", "growth", str(default_model), *asked]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
